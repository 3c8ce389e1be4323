package handlers

import (
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"holdfast/backup"
	"holdfast/views"
)

// weekdays are the days of the week as forms list them.
var weekdays = []time.Weekday{time.Monday, time.Tuesday, time.Wednesday, time.Thursday, time.Friday, time.Saturday, time.Sunday}

// showSchedule shows when automatic backups run.
func (s *Server) showSchedule(w http.ResponseWriter, r *http.Request) error {
	return s.schedulePage(w, r, http.StatusOK, views.Schedule{})
}

// schedulePage completes v with what is saved. The form shows what was typed, if
// anything.
func (s *Server) schedulePage(w http.ResponseWriter, r *http.Request, status int, v views.Schedule) error {
	var err error
	if v.Saved, err = s.Store.Schedule(r.Context(), actor(r).Org.ID); err != nil {
		return err
	}
	if len(v.Form.Days) == 0 {
		v.Form = scheduleForm(v.Saved)
	}
	v.Default, v.MayChange, v.Now = s.Every, actor(r).OrgRole() == backup.RoleAdmin, time.Now()
	return s.render(w, r, status, views.SchedulePage(s.frame(w, r, "Account Settings"), v))
}

// scheduleForm is a form that says what p does. Days without a window offer the
// night.
func scheduleForm(p backup.Schedule) views.ScheduleForm {
	f := views.ScheduleForm{Zone: p.Zone, Windowed: len(p.Windows) > 0, Every: strconv.Itoa(int(p.Every.Minutes()))}
	if p.BytesPerSecond > 0 {
		f.Limit = backup.MbitText(p.BytesPerSecond)
	}
	for _, day := range weekdays {
		d := views.ScheduleDay{Day: day, From: "20:00", To: "06:00"}
		for _, w := range p.Windows {
			if w.Day == day {
				d.On, d.From, d.To = true, backup.Clock(w.From), backup.Clock(w.To)
			}
		}
		f.Days = append(f.Days, d)
	}
	return f
}

// scheduleOf reads the form of a request.
func scheduleOf(r *http.Request) (views.ScheduleForm, backup.Schedule, backup.FieldErrors) {
	f := views.ScheduleForm{Zone: strings.TrimSpace(r.PostFormValue("zone")), Windowed: r.PostFormValue("when") == "windows",
		Every: r.PostFormValue("every"), Limit: strings.TrimSpace(r.PostFormValue("limit"))}
	p, fields := backup.Schedule{Zone: f.Zone}, backup.FieldErrors{}
	for _, day := range weekdays {
		n := "_" + strconv.Itoa(int(day))
		d := views.ScheduleDay{Day: day, On: r.PostFormValue("on"+n) != "", From: r.PostFormValue("from" + n), To: r.PostFormValue("to" + n)}
		f.Days = append(f.Days, d)
		if f.Windowed && d.On {
			p.Windows = append(p.Windows, backup.Window{Day: day, From: minutesOf(d.From), To: minutesOf(d.To)})
		}
	}
	if f.Windowed && len(p.Windows) == 0 {
		fields["windows"] = "Choose at least one day, or “At any time”. To stop automatic backups, pause them."
	}
	minutes, err := strconv.Atoi(f.Every)
	if err != nil || minutes < 0 || minutes > 24*60 {
		minutes = 1 // which is no choice
	}
	p.Every = time.Duration(minutes) * time.Minute
	p.BytesPerSecond = limitOf(f.Limit)
	merge(fields, p.Validate())
	return f, p, fields
}

// minutesOf reads a time of day, as minutes after midnight; -1 if it is none.
func minutesOf(text string) int {
	at, err := time.Parse("15:04", strings.TrimSpace(text))
	if err != nil {
		return -1
	}
	return at.Hour()*60 + at.Minute()
}

// limitOf reads a limit in Mbit/s, as bytes a second; 0 for none, -1 if it is no
// number.
func limitOf(text string) int64 {
	if text == "" {
		return 0
	}
	n, err := strconv.ParseFloat(strings.Replace(text, ",", ".", 1), 64)
	if err != nil || math.IsNaN(n) || n <= 0 || n > 1e6 {
		return -1
	}
	return int64(math.Round(n * backup.Mbit))
}

// saveSchedule sets when automatic backups run.
func (s *Server) saveSchedule(w http.ResponseWriter, r *http.Request) error {
	form, plan, fields := scheduleOf(r)
	if len(fields) > 0 {
		return s.schedulePage(w, r, http.StatusUnprocessableEntity, views.Schedule{Form: form, Fields: fields})
	}
	if err := s.Store.SaveSchedule(r.Context(), actor(r).Org.ID, plan, actor(r)); err != nil {
		return err
	}
	return s.redirect(w, r, "/settings/schedule", "Saved.")
}

// pauseBackups lets no automatic backup run any more.
func (s *Server) pauseBackups(w http.ResponseWriter, r *http.Request) error {
	reason := r.PostFormValue("reason")
	err := s.Store.PauseBackups(r.Context(), actor(r).Org.ID, reason, actor(r))
	if fields, ok := errors.AsType[backup.FieldErrors](err); ok {
		return s.schedulePage(w, r, http.StatusUnprocessableEntity, views.Schedule{Reason: reason, Fields: fields})
	}
	if errors.Is(err, backup.ErrConflict) {
		return s.redirect(w, r, "/settings/schedule", "Automatic backups are paused already.")
	}
	if err != nil {
		return err
	}
	return s.redirect(w, r, "/settings/schedule", "Automatic backups are paused.")
}

// resumeBackups lets them run again.
func (s *Server) resumeBackups(w http.ResponseWriter, r *http.Request) error {
	err := s.Store.ResumeBackups(r.Context(), actor(r).Org.ID, actor(r))
	if errors.Is(err, backup.ErrNotFound) {
		return s.redirect(w, r, "/settings/schedule", "Automatic backups are not paused.")
	}
	if err != nil {
		return err
	}
	return s.redirect(w, r, "/settings/schedule", "Automatic backups go on.")
}
