package handlers

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"holdfast/backup"
	"holdfast/views"
)

// overviewDays is how many days the charts of an organization's overview have.
const overviewDays = 30

// organizationsPerPage is how many organizations a page lists.
const organizationsPerPage = 50

// listOrganizations shows the partner's organizations with their health.
func (s *Server) listOrganizations(w http.ResponseWriter, r *http.Request) error {
	a := actor(r)
	all, err := s.Store.Organizations(r.Context(), a.Partner.ID)
	if err != nil {
		return err
	}
	v := views.Organizations{Search: strings.TrimSpace(r.FormValue("q")), Any: len(all) > 0, MayCreate: a.Role == backup.RoleOwner}
	if v.MayCreate && v.Any {
		recovery, err := s.Store.Recovery(r.Context())
		if err != nil {
			return fmt.Errorf("read what recovers: %w", err)
		}
		v.Unrecoverable = !recovery.Recoverable()
	}
	if v.Deletions, err = s.Store.UnsettledDeletions(r.Context(), a.Partner.ID); err != nil {
		return err
	}
	found := matching(all, v.Search)
	v.Of = map[string]int{"": len(found)}
	for _, o := range found {
		for _, in := range needs(o) {
			v.Of[in]++
		}
	}
	if v.Only = r.FormValue("only"); !slices.Contains(views.OrganizationNeeds, v.Only) {
		v.Only = ""
	}
	if v.Only != "" {
		found = slices.DeleteFunc(found, func(o backup.OrganizationHealth) bool { return !slices.Contains(needs(o), v.Only) })
	}
	v.Sort, v.Desc = r.FormValue("sort"), r.FormValue("desc") != ""
	if !sortOrganizations(found, v.Sort, v.Desc) {
		v.Sort, v.Desc = "name", false
	}
	page := pageOf(r)
	v.Page = views.Pager{Page: page, Size: organizationsPerPage, Total: len(found), Path: "/partner/organizations", Query: v.Values()}
	first := min((page-1)*organizationsPerPage, len(found))
	v.List = found[first:min(first+organizationsPerPage, len(found))]
	return s.render(w, r, http.StatusOK, views.OrganizationsPage(s.frame(w, r, "Organizations"), v))
}

// needs are the groups of views.OrganizationNeeds that an organization is in.
func needs(o backup.OrganizationHealth) []string {
	var in []string
	if !o.SuspendedAt.IsZero() {
		return []string{views.OrganizationSuspended}
	}
	if o.Counts[backup.StatusFailing] > 0 {
		in = append(in, views.OrganizationFailing)
	}
	if o.Counts[backup.StatusInactive] > 0 {
		in = append(in, views.OrganizationInactive)
	}
	if o.Counts.Total() == 0 {
		in = append(in, views.OrganizationUnconnected)
	}
	return in
}

// organizationOrders are the columns by which the list can be ordered.
var organizationOrders = map[string]func(a, b backup.OrganizationHealth) int{
	"name": func(a, b backup.OrganizationHealth) int { return 0 }, // as they are read
	"health": func(a, b backup.OrganizationHealth) int {
		return cmp.Compare(failingShare(a.Counts), failingShare(b.Counts))
	},
	"mailboxes": func(a, b backup.OrganizationHealth) int { return cmp.Compare(a.Counts.Total(), b.Counts.Total()) },
	"last":      func(a, b backup.OrganizationHealth) int { return a.LastRunAt.Compare(b.LastRunAt) },
}

// failingShare is how much of an organization does not do well: failing counts
// most.
func failingShare(c backup.StatusCounts) int {
	return 1_000_000*c[backup.StatusFailing] + 1_000*c[backup.StatusInactive] + c[backup.StatusPending]
}

// sortOrganizations orders a list, which is in the order of names, by a column.
// It says whether there is such a column.
func sortOrganizations(list []backup.OrganizationHealth, column string, desc bool) bool {
	order, ok := organizationOrders[column]
	if !ok {
		return false
	}
	if column == "name" && desc {
		slices.Reverse(list)
	}
	slices.SortStableFunc(list, func(a, b backup.OrganizationHealth) int {
		if desc {
			return order(b, a)
		}
		return order(a, b)
	})
	return true
}

// matching returns the organizations whose name or domain has a part of text.
func matching(all []backup.OrganizationHealth, part string) []backup.OrganizationHealth {
	var found []backup.OrganizationHealth
	for _, o := range all {
		if text := strings.ToLower(o.Name + "\n" + o.TenantDomain); strings.Contains(text, strings.ToLower(part)) {
			found = append(found, o)
		}
	}
	return found
}

// newOrganization shows the form of a new organization.
func (s *Server) newOrganization(w http.ResponseWriter, r *http.Request) error {
	return s.render(w, r, http.StatusOK, views.NewOrganizationPage(s.frame(w, r, "New organization"), views.NewOrganization{}))
}

// createOrganization makes an organization and its first admin, who gets a
// one-time link to choose a password.
func (s *Server) createOrganization(w http.ResponseWriter, r *http.Request) error {
	ctx, a := r.Context(), actor(r)
	v := views.NewOrganization{Name: r.PostFormValue("name"), AdminName: r.PostFormValue("admin_name"), Email: strings.TrimSpace(r.PostFormValue("email"))}
	org := backup.Organization{PartnerID: a.Partner.ID, Name: v.Name}
	person := backup.Person{ID: backup.NewID[backup.PersonID](), Name: v.AdminName, Email: v.Email}
	v.Fields = backup.FieldErrors{}
	merge(v.Fields, person.Validate())
	if text := v.Fields["name"]; text != "" {
		v.Fields["admin_name"] = text
		delete(v.Fields, "name")
	}
	merge(v.Fields, org.Validate())
	again := func() error {
		return s.render(w, r, http.StatusUnprocessableEntity, views.NewOrganizationPage(s.frame(w, r, "New organization"), v))
	}
	if len(v.Fields) > 0 {
		return again()
	}
	org, err := s.Store.CreateOrganization(ctx, org, a)
	if fields, ok := errors.AsType[backup.FieldErrors](err); ok {
		v.Fields = fields
		return again()
	}
	if err != nil {
		return err
	}
	path := "/partner/organizations/" + url.PathEscape(string(org.ID)) + "/users"
	if err := s.Store.InvitePerson(ctx, person, backup.Membership{OrgID: org.ID, Role: backup.RoleAdmin}, a); err != nil {
		return err
	}
	return s.sendInvitation(w, r, newLink{person: person, org: org.ID, path: path, flash: org.Name + " was created."})
}

// organization reads the organization that the address names; another
// partner's is ErrNotFound, one that is being deleted errDeleting.
func (s *Server) organization(r *http.Request) (backup.Organization, error) {
	org, err := s.Store.Organization(r.Context(), actor(r).Partner.ID, backup.OrgID(r.PathValue("id")))
	if err == nil && !org.DeletingAt.IsZero() {
		err = errDeleting
	}
	return org, err
}

// showOrganization shows an organization's details.
func (s *Server) showOrganization(w http.ResponseWriter, r *http.Request) error {
	v, err := s.organizationView(r)
	if errors.Is(err, errDeleting) {
		return s.redirect(w, r, deletionPath(backup.OrgID(r.PathValue("id"))), "")
	}
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, views.OrganizationPage(s.frame(w, r, v.Organization.Name), v))
}

// showFeatures shows what an organization can have switched on.
func (s *Server) showFeatures(w http.ResponseWriter, r *http.Request) error {
	org, err := s.organization(r)
	if err != nil {
		return err
	}
	v := views.Features{Organization: org, MayChange: actor(r).Role == backup.RoleOwner}
	return s.render(w, r, http.StatusOK, views.FeaturesPage(s.frame(w, r, org.Name), v))
}

// saveFeatures switches manual custom role creation; it applies from the next
// Add Backup or migration on.
func (s *Server) saveFeatures(w http.ResponseWriter, r *http.Request) error {
	org, err := s.organization(r)
	if err != nil {
		return err
	}
	manual := r.PostFormValue("manual_role") == "on"
	if manual != org.ManualRole {
		if err := s.Store.SetManualRole(r.Context(), actor(r).Partner.ID, org.ID, manual, actor(r)); err != nil {
			return err
		}
	}
	flash := "Saved. The next Add Backup or migration makes the custom role by itself."
	if manual {
		flash = "Saved. The next Add Backup or migration has the custom role made by hand, with a script."
	}
	return s.redirect(w, r, "/partner/organizations/"+url.PathEscape(string(org.ID))+"/features", flash)
}

func (s *Server) organizationView(r *http.Request) (views.Organization, error) {
	ctx, a := r.Context(), actor(r)
	org, err := s.organization(r)
	if err != nil {
		return views.Organization{}, err
	}
	v := views.Organization{Organization: org, MayManage: a.Role == backup.RoleOwner, Now: time.Now()}
	if v.Counts, err = s.Store.MailboxCounts(ctx, org.ID); err != nil {
		return v, err
	}
	summary, err := s.Store.Summary(ctx, org.ID)
	if err != nil {
		return v, err
	}
	v.LastRunAt, v.NextRunAt = summary.LastRunAt, summary.NextRunAt
	if v.Plan, err = s.Store.Schedule(ctx, org.ID); err != nil {
		return v, err
	}
	if v.Proven, err = s.proven(ctx, org.ID, "/partner/support"); err != nil {
		return v, err
	}
	if v.MayAct, err = s.Store.MayAct(ctx, a, org); err != nil {
		return v, err
	}
	if v.Days, err = s.Store.DayFigures(ctx, org.ID, overviewDays); err != nil {
		return v, err
	}
	v.Connections, err = s.connectionViews(ctx, org.ID)
	return v, err
}

// startActing lets the person work in the organization's portal.
func (s *Server) startActing(w http.ResponseWriter, r *http.Request) error {
	a := actor(r)
	org, err := s.organization(r)
	if err != nil {
		return err
	}
	reason := r.PostFormValue("reason")
	if err := (backup.Acting{Reason: reason}).Validate(); err == nil && a.Acting.ID != "" {
		if err := s.Store.StopActing(r.Context(), a); err != nil && !errors.Is(err, backup.ErrNotFound) {
			return fmt.Errorf("stop the acting before: %w", err)
		}
	}
	_, err = s.Store.StartActing(r.Context(), a, org.ID, reason)
	if errors.Is(err, backup.ErrForbidden) && org.ForbidActing {
		return s.askToAct(w, r, org, reason)
	}
	if fields, ok := errors.AsType[backup.FieldErrors](err); ok {
		v, err := s.organizationView(r)
		if err != nil {
			return err
		}
		v.Reason, v.Fields = reason, fields
		return s.render(w, r, http.StatusUnprocessableEntity, views.OrganizationPage(s.frame(w, r, org.Name), v))
	}
	if err != nil {
		return err
	}
	return s.redirect(w, r, "/dashboard", "")
}

// stopActing leads back to the Partner Portal.
func (s *Server) stopActing(w http.ResponseWriter, r *http.Request) error {
	a := actor(r)
	if a.Acting.ID == "" {
		return s.redirect(w, r, "/partner/organizations", "")
	}
	if err := s.Store.StopActing(r.Context(), a); err != nil && !errors.Is(err, backup.ErrNotFound) {
		return err
	}
	return s.redirect(w, r, "/partner/organizations", "You stopped acting for "+a.Org.Name+".")
}
