package handlers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"holdfast/backup"
	"holdfast/store"
	"holdfast/views"
)

// newAccountSpan is how long the dashboard speaks of an account that nobody chose.
const newAccountSpan = 30 * day

// chartDays is how many days the chart of new data shows.
const chartDays = 14

// dashboardSorts are the columns that the table can be ordered by.
var dashboardSorts = []string{"name", "status", "last", "items", "size"}

// showDashboard shows how the organization's backups do.
func (s *Server) showDashboard(w http.ResponseWriter, r *http.Request) error {
	v, err := s.dashboardPage(r)
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, views.DashboardPage(s.frame(w, r, "Dashboard"), v))
}

// dashboardPage reads all that the whole page shows.
func (s *Server) dashboardPage(r *http.Request) (views.Dashboard, error) {
	v, err := s.dashboardView(r)
	if err != nil {
		return v, err
	}
	if v.NewAccounts, err = s.Store.NewAccounts(context.WithoutCancel(r.Context()), actor(r).Org.ID, v.Now.Add(-newAccountSpan)); err != nil {
		return v, err
	}
	auth, err := s.Store.ActiveAuthorization(r.Context(), actor(r).Org.ID)
	switch {
	case err == nil:
		v.UnderWay = &auth
	case !errors.Is(err, backup.ErrNotFound):
		return v, fmt.Errorf("read the authorization under way: %w", err)
	}
	return v, nil
}

// showDashboardLive is the part of the dashboard that changes while backups run.
func (s *Server) showDashboardLive(w http.ResponseWriter, r *http.Request) error {
	v, err := s.dashboardView(r)
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, views.DashboardLive(v))
}

func (s *Server) dashboardView(r *http.Request) (views.Dashboard, error) {
	// Each of these reads takes microseconds: to watch for a browser that goes
	// away would cost more than to finish them.
	ctx, a := context.WithoutCancel(r.Context()), actor(r)
	v := views.Dashboard{Query: dashboardQuery(r), MayChange: a.OrgRole() == backup.RoleAdmin, Now: time.Now()}
	query := store.MailboxQuery{Status: v.Query.Status, Search: v.Query.Search, Sort: v.Query.Sort, Desc: v.Query.Desc, Page: v.Query.Page, PageSize: mailboxesPerPage}
	counts, list, err := s.Store.MailboxBoard(ctx, a.Org.ID, query)
	if err != nil {
		return v, err
	}
	v.Counts = counts
	v.Mailboxes = list.Mailboxes
	v.Page = views.Pager{Page: v.Query.Page, Size: mailboxesPerPage, Total: list.Total, Path: "/dashboard", Query: v.Query.Values()}
	summary, err := s.Store.Summary(ctx, a.Org.ID)
	if err != nil {
		return v, err
	}
	v.LastRunAt, v.NextRunAt, v.NewItems, v.NewBytes = summary.LastRunAt, summary.NextRunAt, summary.NewItems, summary.ReadBytes
	if v.Plan, err = s.Store.Schedule(ctx, a.Org.ID); err != nil {
		return v, err
	}
	if v.Days, err = s.Store.DayFigures(ctx, a.Org.ID, chartDays); err != nil {
		return v, err
	}
	if v.Runs, err = s.running(ctx, a.Org.ID); err != nil {
		return v, err
	}
	keep, err := s.Store.Keepings(ctx, a.Org.ID)
	if err != nil {
		return v, err
	}
	v.Holds = map[backup.MailboxID]backup.LegalHold{}
	for id, own := range keep.Own {
		v.Holds[id] = own.Hold
	}
	if v.Proven, err = s.proven(ctx, a.Org.ID, "/status"); err != nil {
		return v, err
	}
	v.Connections, err = s.connectionStates(ctx, a.Org.ID)
	return v, err
}

// running reads the runs under way, by mailbox.
func (s *Server) running(ctx context.Context, org backup.OrgID) (map[backup.MailboxID]backup.Run, error) {
	runs, err := s.Store.RunningRuns(ctx, org)
	if err != nil {
		return nil, fmt.Errorf("read the runs under way: %w", err)
	}
	list := make(map[backup.MailboxID]backup.Run, len(runs))
	for _, run := range runs {
		list[run.MailboxID] = run.Run
	}
	return list, nil
}

func dashboardQuery(r *http.Request) views.DashboardQuery {
	q := views.DashboardQuery{Search: strings.TrimSpace(r.FormValue("q")), Sort: r.FormValue("sort"), Desc: r.FormValue("desc") != "", Page: pageOf(r)}
	if status := backup.Status(r.FormValue("status")); slices.Contains(backup.Statuses, status) {
		q.Status = status
	}
	if !slices.Contains(dashboardSorts, q.Sort) {
		q.Sort, q.Desc = "name", false
	}
	return q
}

// back is the dashboard as it was when a row's action was chosen.
func back(r *http.Request) string {
	u, err := url.Parse(ownPath(r.PostFormValue("back")))
	if err != nil || u.Path != "/dashboard" {
		return "/dashboard"
	}
	return u.RequestURI()
}

// mailbox reads the mailbox that the address names, if it is one that was
// chosen for backup.
func (s *Server) mailbox(r *http.Request) (backup.Mailbox, error) {
	m, err := s.Store.Mailbox(r.Context(), actor(r).Org.ID, backup.MailboxID(r.PathValue("id")))
	if err == nil && !m.Selected {
		return m, backup.ErrNotFound
	}
	return m, err
}

// backUpMailbox starts a run at once.
func (s *Server) backUpMailbox(w http.ResponseWriter, r *http.Request) error {
	m, err := s.mailbox(r)
	if err != nil {
		return err
	}
	if m.Status == backup.StatusDeactivated || m.Status == backup.StatusInactive {
		return s.refuse(w, r, back(r), m.Name+" is not backed up at the moment, so no backup was started.")
	}
	if err := s.Store.BackUpNow(r.Context(), m.OrgID, m.ID, actor(r)); err != nil {
		return err
	}
	return s.redirect(w, r, back(r), "The backup of "+m.Name+" starts now.")
}

// askDeactivate asks before the backups of a mailbox stop.
func (s *Server) askDeactivate(w http.ResponseWriter, r *http.Request) error {
	m, err := s.mailbox(r)
	if err != nil {
		return err
	}
	if m.Status == backup.StatusDeactivated {
		return s.redirect(w, r, "/dashboard", m.Name+" is deactivated already.")
	}
	return s.render(w, r, http.StatusOK, views.DeactivatePage(s.frame(w, r, "Deactivate mailbox"), views.Deactivate{Mailbox: m, Back: ownPath(r.FormValue("back"))}))
}

// deactivateMailbox stops the backups of a mailbox. What is backed up stays.
func (s *Server) deactivateMailbox(w http.ResponseWriter, r *http.Request) error {
	m, err := s.mailbox(r)
	if err != nil {
		return err
	}
	if err := s.Store.SetMailboxDeactivated(r.Context(), m.OrgID, m.ID, true, actor(r)); err != nil {
		return err
	}
	return s.redirect(w, r, back(r), m.Name+" is deactivated. What is backed up stays.")
}

// reactivateMailbox starts the backups of a mailbox again.
func (s *Server) reactivateMailbox(w http.ResponseWriter, r *http.Request) error {
	m, err := s.mailbox(r)
	if err != nil {
		return err
	}
	if m.Deactivated == backup.DeactivatedDeleted {
		return s.refuse(w, r, back(r), m.Name+" was deleted at Microsoft, so it cannot be backed up. It is reactivated by itself if the account returns.")
	}
	if err := s.Store.SetMailboxDeactivated(r.Context(), m.OrgID, m.ID, false, actor(r)); err != nil {
		return err
	}
	plan, err := s.Store.Schedule(r.Context(), m.OrgID)
	if err != nil {
		return err
	}
	flash := " is reactivated. Its backup starts now."
	if !plan.Open(time.Now()) {
		flash = " is reactivated. It is backed up when the schedule lets it."
	}
	return s.redirect(w, r, back(r), m.Name+flash)
}
