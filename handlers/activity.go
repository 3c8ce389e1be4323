package handlers

import (
	"fmt"
	"net/http"
	"net/url"

	"holdfast/backup"
	"holdfast/views"
)

// entriesPerPage is how many entries of an activity log a page shows.
const entriesPerPage = 50

// showActivity shows what was done in the organization.
func (s *Server) showActivity(w http.ResponseWriter, r *http.Request) error {
	return s.activityPage(w, r, actor(r).Org.ID, "/activity", "Activity", "What was done in this organization, by whom, and for whom.")
}

// showOrganizationActivity shows the same to the partner.
func (s *Server) showOrganizationActivity(w http.ResponseWriter, r *http.Request) error {
	org, err := s.organization(r)
	if err != nil {
		return err
	}
	return s.activityPage(w, r, org.ID, "/partner/organizations/"+url.PathEscape(string(org.ID))+"/activity", org.Name, "")
}

func (s *Server) activityPage(w http.ResponseWriter, r *http.Request, org backup.OrgID, path, title, about string) error {
	page := pageOf(r)
	list, total, err := s.Store.Activity(r.Context(), org, page, entriesPerPage)
	if err != nil {
		return fmt.Errorf("read activity: %w", err)
	}
	v := views.Activity{Entries: list, About: about, Page: views.Pager{Page: page, Size: entriesPerPage, Total: total, Path: path}}
	if about == "" {
		v.Organization = org
	}
	return s.render(w, r, http.StatusOK, views.ActivityPage(s.frame(w, r, title), v))
}

// showPartnerActivity shows what the partner's people did outside of organizations.
func (s *Server) showPartnerActivity(w http.ResponseWriter, r *http.Request) error {
	page := pageOf(r)
	list, total, err := s.Store.PartnerActivity(r.Context(), actor(r).Partner.ID, page, entriesPerPage)
	if err != nil {
		return fmt.Errorf("read activity: %w", err)
	}
	v := views.Activity{Entries: list, About: "What your own people did in the Partner Portal. What they did for an organization is in its own activity.",
		Page: views.Pager{Page: page, Size: entriesPerPage, Total: total, Path: "/partner/activity"}}
	return s.render(w, r, http.StatusOK, views.ActivityPage(s.frame(w, r, "Activity"), v))
}
