package simulator

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

var users = collection{
	context: "users", kind: "microsoft.graph.user", page: 100, largest: 999,
	// https://learn.microsoft.com/graph/api/user-list: the default set of properties.
	defaults: []string{"businessPhones", "displayName", "givenName", "jobTitle", "mail", "mobilePhone", "officeLocation", "preferredLanguage", "surname", "userPrincipalName", "id"},
}

// stamp is a time as the directory writes it.
func stamp(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format(time.RFC3339)
}

// orNil is null in JSON for "".
func orNil(v string) any {
	if v == "" {
		return nil
	}
	return v
}

// userObject is a user with every property that the simulator knows.
func userObject(t *tenant, u *user) object {
	kind := any("Member")
	if u.Guest {
		kind = "Guest"
	}
	proxies, nick := []string{}, strings.SplitN(u.UPN, "@", 2)[0]
	if u.Mail != "" {
		proxies = []string{"SMTP:" + u.Mail}
	}
	licences, plans := []any{}, []any{}
	for _, l := range u.Licences {
		licences = append(licences, object{"disabledPlans": []string{}, "skuId": skus[l].ID})
		for _, p := range skus[l].Plans {
			plans = append(plans, object{"assignedDateTime": stamp(u.Created), "capabilityStatus": firstOf(u.PlanStatus, "Enabled"), "service": p.Service, "servicePlanId": p.ID})
		}
	}
	return object{
		"id": u.ID, "displayName": u.Name, "givenName": orNil(u.GivenName), "surname": orNil(u.Surname), "userPrincipalName": u.UPN, "mail": orNil(u.Mail),
		"mailNickname": nick, "accountEnabled": u.Enabled, "userType": kind, "createdDateTime": stamp(u.Created), "deletedDateTime": stamp(u.DeletedAt),
		"assignedLicenses": licences, "assignedPlans": plans, "proxyAddresses": proxies, "otherMails": []string{}, "businessPhones": []string{}, "imAddresses": []string{},
		"jobTitle": orNil(u.JobTitle), "mobilePhone": nil, "officeLocation": nil, "preferredLanguage": nil, "department": orNil(u.Department), "companyName": nil, "city": nil, "country": nil,
		"usageLocation": t.Country, "onPremisesSyncEnabled": nil, "onPremisesImmutableId": nil, "employeeId": nil, "externalUserState": nil, "isResourceAccount": nil,
		"signInSessionsValidFromDateTime": stamp(u.ValidFrom), "showInAddressList": nil,
	}
}

func (s *Simulator) userRoutes() {
	s.graph("GET", "/users", s.listUsers)
	s.graph("POST", "/users", s.createUser)
	s.graph("DELETE", "/users/{user-id}", s.deleteUser)
	s.graph("GET", "/users/delta", s.usersDelta)
	s.graph("GET", "/users/{user-id}", s.showUser)
	s.graph("GET", "/users/{user-id}/licenseDetails", s.listLicences)
	s.graph("GET", "/users/$count", s.countUsers, s.permits["GET /users"])
}

// livingUsers lists who is not deleted.
func livingUsers(t *tenant) []object {
	var all []object
	for _, u := range t.Users {
		if u.DeletedAt.IsZero() {
			all = append(all, userObject(t, u))
		}
	}
	return all
}

// licenceFields are withheld from callers with User.ReadBasic.All alone
// (graph-backup.md 1.1).
var licenceFields = []string{"assignedLicenses", "assignedPlans", "accountEnabled", "userType", "createdDateTime"}

// basic hides what User.ReadBasic.All does not show.
func basic(r *http.Request, all []object) []object {
	if logged(r).Permission != "User.ReadBasic.All" {
		return all
	}
	for _, o := range all {
		for _, name := range licenceFields {
			o[name] = nil
		}
	}
	return all
}

// wide replaces the least permission by a wider one of the caller, which the
// listing of users honours.
func wide(r *http.Request, c *caller) {
	if log := logged(r); log.Permission == "User.ReadBasic.All" {
		for _, name := range []string{"User.Read.All", "User.ReadWrite.All", "Directory.Read.All", "Directory.ReadWrite.All"} {
			if c.has(name) || c.hasScope(name) {
				log.Permission = name
				return
			}
		}
	}
}

func (s *Simulator) listUsers(w *answer, r *http.Request, c *caller) {
	wide(r, c)
	s.list(w, r, users, basic(r, livingUsers(c.Tenant)))
}

func (s *Simulator) countUsers(w *answer, r *http.Request, c *caller) {
	if !strings.EqualFold(r.Header.Get("ConsistencyLevel"), "eventual") {
		s.badRequest(w, "$count is not currently supported.")
		return
	}
	w.header.Set("Content-Type", "text/plain; charset=utf-8")
	w.Write([]byte(strconv.Itoa(len(livingUsers(c.Tenant)))))
}

func (s *Simulator) showUser(w *answer, r *http.Request, c *caller) {
	wide(r, c)
	u := c.Tenant.userOf(r.PathValue("user-id"))
	if u == nil || !s.seen(c.Tenant, u.VisibleAt) {
		s.notFound(w, r.PathValue("user-id"))
		return
	}
	if logged(r).Permission == "User.Read" && u != c.User && !c.hasScope("User.ReadBasic.All", "User.Read.All", "User.ReadWrite.All", "Directory.Read.All", "Directory.ReadWrite.All") {
		s.deny(w)
		return
	}
	s.one(w, r, http.StatusOK, users, basic(r, []object{userObject(c.Tenant, u)})[0])
}

func (s *Simulator) listLicences(w *answer, r *http.Request, c *caller) {
	u := c.Tenant.userOf(r.PathValue("user-id"))
	if u == nil {
		s.notFound(w, r.PathValue("user-id"))
		return
	}
	var all []object
	for _, l := range u.Licences {
		all = append(all, object{"id": stableGUID("licence", u.ID, l), "skuId": skus[l].ID, "skuPartNumber": l, "servicePlans": servicePlans(l)})
	}
	s.list(w, r, collection{context: "users('" + u.ID + "')/licenseDetails", kind: "microsoft.graph.licenseDetails", page: 100, largest: 999}, all)
}

func servicePlans(licence string) []object {
	list := []object{}
	for _, p := range skus[licence].Plans {
		list = append(list, object{"servicePlanId": p.ID, "servicePlanName": p.Name, "provisioningStatus": "Success", "appliesTo": "User"})
	}
	return list
}

// userCursor is the state of a users/delta round: changes after From up to
// To, of which those up to After are already told.
type userCursor struct {
	From   int64     `json:"f"`
	To     int64     `json:"t"`
	After  int64     `json:"a,omitempty"`
	Select string    `json:"s,omitempty"`
	At     time.Time `json:"at"`
}

// deltaLife is how long directory tokens live (graph-backup.md 0a).
const deltaLife = 7 * 24 * time.Hour

// usersDelta is /users/delta: first everybody, then what changed since the
// delta link.
func (s *Simulator) usersDelta(w *answer, r *http.Request, c *caller) {
	t, q := c.Tenant, r.URL.Query()
	cur := userCursor{To: t.Seq, Select: q.Get("$select"), At: s.now()}
	token, isPage := q.Get("$deltatoken"), false
	if token == "" {
		token, isPage = q.Get("$skiptoken"), q.Get("$skiptoken") != ""
	}
	switch {
	case token == "latest":
		cur.From, cur.After = t.Seq, t.Seq
	case token != "":
		var old userCursor
		if err := decodeCursor(token, &old); err != nil {
			s.badRequest(w, "Badly formed token.")
			return
		}
		if s.now().Sub(old.At) > deltaLife || s.fault(r, c, "users_delta_expired") != nil {
			w.header.Set("Location", selfURL(r, withQuery(r, "$skiptoken", "", "$deltatoken", "")))
			s.graphError(w, http.StatusGone, "resyncRequired", "The delta token is expired and can't be used. A full synchronization is required.")
			return
		}
		cur.Select = old.Select
		if isPage {
			cur.From, cur.To, cur.After = old.From, old.To, old.After
		} else {
			cur.From, cur.After = old.To, old.To
		}
	}
	s.answerUsersDelta(w, r, t, cur)
}

func (s *Simulator) answerUsersDelta(w *answer, r *http.Request, t *tenant, cur userCursor) {
	changed := slices.Clone(t.Users)
	changed = slices.DeleteFunc(changed, func(u *user) bool {
		gone := cur.From == 0 && !u.DeletedAt.IsZero() // a first round does not tell of the deleted
		return u.Changed <= cur.After || u.Changed > cur.To || gone
	})
	slices.SortFunc(changed, func(a, b *user) int { return int(a.Changed - b.Changed) })
	size := 200
	if n, err := strconv.Atoi(prefer(r, "odata.maxpagesize")); err == nil && n > 0 && n <= 999 {
		size = n
		w.header.Set("Preference-Applied", "odata.maxpagesize="+strconv.Itoa(n))
	}
	out := object{"@odata.context": graphMeta + "users" + selectContext(cur.Select)}
	if len(changed) > size {
		changed = changed[:size]
		cur.After = changed[size-1].Changed
		out["@odata.nextLink"] = selfURL(r, withQuery(r, "$select", "", "$deltatoken", "", "$skiptoken", encodeCursor(cur)))
	} else {
		cur.At = s.now()
		out["@odata.deltaLink"] = selfURL(r, withQuery(r, "$select", "", "$skiptoken", "", "$deltatoken", encodeCursor(cur)))
	}
	value := []object{}
	for _, u := range changed {
		switch {
		case u.Purged:
			value = append(value, object{"id": u.ID, "@removed": object{"reason": "deleted"}})
			continue
		case !u.DeletedAt.IsZero():
			value = append(value, object{"id": u.ID, "@removed": object{"reason": "changed"}})
			continue
		}
		o, ok := s.project(w, cur.Select, users, userObject(t, u))
		if !ok {
			return
		}
		o["id"] = u.ID // comes whatever is selected
		value = append(value, o)
	}
	out["value"] = value
	w.graphJSON(http.StatusOK, out)
}
