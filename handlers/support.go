package handlers

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"holdfast/backup"
	"holdfast/views"
)

// showSupport shows what is wrong over all organizations, the same cause once.
func (s *Server) showSupport(w http.ResponseWriter, r *http.Request) error {
	all, err := s.Store.SupportCauses(r.Context(), actor(r).Partner.ID)
	if err != nil {
		return err
	}
	v := views.Support{Search: strings.TrimSpace(r.FormValue("q")), Area: backup.SupportArea(r.FormValue("area")), Any: len(all) > 0, Now: time.Now()}
	for _, c := range all {
		if v.Area != "" && c.Area != v.Area {
			continue
		}
		if v.Search != "" {
			c.Organizations = slices.DeleteFunc(slices.Clone(c.Organizations), func(o backup.SupportOrganization) bool {
				return !strings.Contains(strings.ToLower(o.Name), strings.ToLower(v.Search))
			})
		}
		if len(c.Organizations) > 0 {
			v.Causes = append(v.Causes, c)
		}
	}
	return s.render(w, r, http.StatusOK, views.SupportPage(s.frame(w, r, "Support"), v))
}
