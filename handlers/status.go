package handlers

import (
	"fmt"
	"net/http"
	"time"

	"holdfast/backup"
	"holdfast/store"
	"holdfast/views"
)

// What the status page reads and shows at most.
const (
	failingRead = 10000
	runsShown   = 25
	nextShown   = 10
)

// showStatus shows what keeps backups from working, what runs, ran and will run.
func (s *Server) showStatus(w http.ResponseWriter, r *http.Request) error {
	v, err := s.statusView(r)
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, views.StatusPage(s.frame(w, r, "System Status"), v))
}

// showStatusLive is the part of the page that changes while backups run.
func (s *Server) showStatusLive(w http.ResponseWriter, r *http.Request) error {
	v, err := s.statusView(r)
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, views.StatusLive(v))
}

func (s *Server) statusView(r *http.Request) (views.Status, error) {
	ctx, org := r.Context(), actor(r).Org.ID
	v := views.Status{MayChange: actor(r).OrgRole() == backup.RoleAdmin, Now: time.Now()}
	var err error
	if v.Left, err = s.leftBehind(ctx, org); err != nil {
		return v, err
	}
	if v.Connections, err = s.connectionViews(ctx, org); err != nil {
		return v, err
	}
	if v.Counts, err = s.Store.MailboxCounts(ctx, org); err != nil {
		return v, err
	}
	failing, err := s.Store.Mailboxes(ctx, org, store.MailboxQuery{Status: backup.StatusFailing, PageSize: failingRead})
	if err != nil {
		return v, err
	}
	v.Causes = views.GroupByCause(failing.Mailboxes)
	open, err := s.Store.RunningRuns(ctx, org)
	if err != nil {
		return v, fmt.Errorf("read the runs under way: %w", err)
	}
	v.Running = runViews(open)
	latest, err := s.Store.Runs(ctx, org, runsShown)
	if err != nil {
		return v, fmt.Errorf("read the latest runs: %w", err)
	}
	for _, run := range runViews(latest) {
		if run.State != backup.RunRunning {
			v.Latest = append(v.Latest, run)
		}
	}
	summary, err := s.Store.Summary(ctx, org)
	if err != nil {
		return v, err
	}
	v.NextRunAt = summary.NextRunAt
	if v.Plan, err = s.Store.Schedule(ctx, org); err != nil {
		return v, err
	}
	if v.Upkeep, err = s.Store.Upkeeps(ctx, org); err != nil {
		return v, err
	}
	if v.Damaged, _, err = s.Store.CountDamages(ctx, org); err != nil {
		return v, err
	}
	if v.Damages, err = s.Store.Damages(ctx, org, damagesShown); err != nil {
		return v, err
	}
	v.Next, err = s.Store.UpcomingMailboxes(ctx, org, nextShown)
	return v, err
}

func runViews(list []store.MailboxRun) []views.Run {
	out := make([]views.Run, len(list))
	for i, r := range list {
		out[i] = views.Run{Run: r.Run, Name: r.Name, Address: r.Address}
	}
	return out
}
