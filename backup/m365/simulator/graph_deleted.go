package simulator

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// deletedLife is how long deleted objects can be restored (auth.md 2.5,
// graph-backup.md 1.1).
const deletedLife = 30 * 24 * time.Hour

// readDeleted is what lets a caller list deleted objects, which Microsoft's
// table has under another path.
var readDeleted = needs(
	"User.Read.All User.ReadWrite.All Application.Read.All Application.ReadWrite.All Application.ReadWrite.OwnedBy Directory.Read.All Directory.ReadWrite.All",
	"User.Read.All User.ReadWrite.All Application.Read.All Application.ReadWrite.All Directory.Read.All Directory.ReadWrite.All")

var restoreDeleted = needs("User.DeleteRestore.All User.ReadWrite.All Application.ReadWrite.All Application.ReadWrite.OwnedBy", "User.DeleteRestore.All User.ReadWrite.All Application.ReadWrite.All")

func (s *Simulator) deletedRoutes() {
	const path = "/directory/deletedItems"
	for _, kind := range []string{"user", "application", "servicePrincipal"} {
		s.graph("GET", path+"/microsoft.graph."+kind, s.listDeleted(kind), readDeleted)
	}
	s.graph("GET", path+"/{directoryObject-id}", s.showDeleted, readDeleted)
	s.graph("DELETE", path+"/{directoryObject-id}", s.purge, restoreDeleted)
	s.graph("POST", path+"/{directoryObject-id}/restore", s.restore, restoreDeleted)
}

// deletedObject is something that can still be restored.
type deletedObject struct {
	kind    string
	object  object
	owners  []string
	restore func() (conflict bool)
	purge   func()
}

// deleted lists what was deleted in the last 30 days.
func (s *Simulator) deleted(t *tenant) []deletedObject {
	var list []deletedObject
	recent := func(at time.Time) bool { return !at.IsZero() && s.now().Sub(at) <= deletedLife }
	for _, u := range t.Users {
		if recent(u.DeletedAt) && !u.Purged {
			list = append(list, deletedObject{kind: "user", object: userObject(t, u),
				restore: func() bool { return s.restoreUser(t, u) },
				purge:   func() { u.Purged = true; t.touch(u) }})
		}
	}
	for _, a := range t.Apps {
		if recent(a.DeletedAt) {
			list = append(list, deletedObject{kind: "application", object: s.applicationObject(t, a), owners: a.Owners,
				restore: func() bool { return s.restoreApplication(t, a) },
				purge:   func() { t.Apps = slices.DeleteFunc(t.Apps, func(x *application) bool { return x == a }) }})
		}
	}
	for _, p := range t.Principals {
		if recent(p.DeletedAt) {
			list = append(list, deletedObject{kind: "servicePrincipal", object: s.principalObject(t, p),
				restore: func() bool {
					if t.principalOf(p.AppID) != nil {
						return true
					}
					p.DeletedAt = time.Time{}
					return false
				},
				purge: func() { t.Principals = slices.DeleteFunc(t.Principals, func(x *principal) bool { return x == p }) }})
		}
	}
	return list
}

// restoreApplication brings back the application and its principal.
func (s *Simulator) restoreApplication(t *tenant, a *application) (conflict bool) {
	a.DeletedAt = time.Time{}
	for _, p := range t.Principals {
		if p.AppID == a.AppID && t.principalOf(a.AppID) == nil {
			p.DeletedAt = time.Time{}
		}
	}
	return false
}

// restoreUser brings back a user; delta tells of it as if new.
func (s *Simulator) restoreUser(t *tenant, u *user) (conflict bool) {
	if t.userOf(u.UPN) != nil {
		return true
	}
	u.DeletedAt = time.Time{}
	t.touch(u)
	return false
}

// mayDeleted says whether the caller's permissions cover the kind.
func mayDeleted(c *caller, kind string, write bool) bool {
	names := []string{"Application.ReadWrite.All", "Application.ReadWrite.OwnedBy"}
	if kind == "user" {
		names = []string{"User.DeleteRestore.All", "User.ReadWrite.All"}
	}
	if !write {
		names = append(names, "Directory.Read.All", "Directory.ReadWrite.All", "Application.Read.All")
		if kind == "user" {
			names = []string{"User.Read.All", "User.ReadWrite.All", "Directory.Read.All", "Directory.ReadWrite.All"}
		}
	}
	return c.has(names...) || c.hasScope(names...)
}

func (s *Simulator) listDeleted(kind string) handler {
	c0 := collection{context: "directory/deletedItems/microsoft.graph." + kind, kind: "microsoft.graph." + kind, page: 100, largest: 999}
	if kind == "user" {
		c0.defaults = users.defaults
	}
	return func(w *answer, r *http.Request, c *caller) {
		if !mayDeleted(c, kind, false) {
			s.deny(w)
			return
		}
		var all []object
		for _, d := range s.deleted(c.Tenant) {
			if d.kind == kind {
				all = append(all, d.object)
			}
		}
		s.list(w, r, c0, all)
	}
}

// deletedAt finds the deleted object of the path and checks the permission.
func (s *Simulator) deletedAt(w *answer, r *http.Request, c *caller, write bool) *deletedObject {
	id := r.PathValue("directoryObject-id")
	for _, d := range s.deleted(c.Tenant) {
		if !strings.EqualFold(d.object["id"].(string), id) {
			continue
		}
		if !mayDeleted(c, d.kind, write) || write && !mayManage(c, d.owners) {
			s.deny(w)
			return nil
		}
		return &d
	}
	s.notFound(w, id)
	return nil
}

func (s *Simulator) showDeleted(w *answer, r *http.Request, c *caller) {
	if d := s.deletedAt(w, r, c, false); d != nil {
		d.object["@odata.type"] = "#microsoft.graph." + d.kind
		s.one(w, r, http.StatusOK, collection{context: "directoryObjects", kind: "microsoft.graph." + d.kind}, d.object)
	}
}

func (s *Simulator) restore(w *answer, r *http.Request, c *caller) {
	d := s.deletedAt(w, r, c, true)
	if d == nil {
		return
	}
	if d.restore() {
		s.graphError(w, http.StatusConflict, "Request_MultipleObjectsWithSameKeyValue", "Another object with the same value for property already exists.")
		return
	}
	s.changed()
	d.object["deletedDateTime"] = nil
	d.object["@odata.type"] = "#microsoft.graph." + d.kind
	s.one(w, r, http.StatusOK, collection{context: "directoryObjects", kind: "microsoft.graph." + d.kind}, d.object)
}

func (s *Simulator) purge(w *answer, r *http.Request, c *caller) {
	if d := s.deletedAt(w, r, c, true); d != nil {
		d.purge()
		s.changed()
		w.WriteHeader(http.StatusNoContent)
	}
}
