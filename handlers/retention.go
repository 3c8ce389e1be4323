package handlers

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"holdfast/backup"
	"holdfast/store"
	"holdfast/views"
)

// showRetention shows how long snapshots are kept.
func (s *Server) showRetention(w http.ResponseWriter, r *http.Request) error {
	return s.retentionPage(w, r, http.StatusOK, views.Retention{})
}

// retentionPage completes v with what is saved. The form shows what was typed,
// if anything.
func (s *Server) retentionPage(w http.ResponseWriter, r *http.Request, status int, v views.Retention) error {
	keep, err := s.Store.Keepings(r.Context(), actor(r).Org.ID)
	if err != nil {
		return err
	}
	v.Saved, v.Hold, v.Others = keep.Rule, keep.Hold, others(keep)
	if v.Form.Mode == "" {
		v.Form = retentionForm(v.Saved)
	}
	v.MayChange, v.Now = actor(r).OrgRole() == backup.RoleAdmin, time.Now()
	return s.render(w, r, status, views.RetentionPage(s.frame(w, r, "Account Settings"), v))
}

// others counts the mailboxes that the organization's rule does not concern.
func others(keep backup.Keepings) views.RetentionOthers {
	var o views.RetentionOthers
	for _, k := range keep.Own {
		if k.Own() {
			o.Own++
		}
		if !k.Hold.IsZero() {
			o.Held++
		}
	}
	return o
}

// concerned lets rule hold for the mailboxes that the organization's concerns.
func concerned(keep backup.Keepings, rule backup.Retention) store.RuleFor {
	return func(m backup.MailboxID) (backup.Retention, bool) {
		own := keep.Own[m]
		return rule, !own.Own() && own.Hold.IsZero()
	}
}

// retentionForm is a form that says what r does.
func retentionForm(r backup.Retention) views.RetentionForm {
	text := func(n int) string {
		if n == 0 {
			return ""
		}
		return strconv.Itoa(n)
	}
	return views.RetentionForm{Mode: string(r.Mode), Days: text(r.Days), Daily: text(r.Daily), Weekly: text(r.Weekly), Monthly: text(r.Monthly), Yearly: text(r.Yearly)}
}

// retentionOf reads the form of a request. What is not chosen counts for nothing.
func retentionOf(r *http.Request) (views.RetentionForm, backup.Retention, error) {
	f := views.RetentionForm{Mode: r.FormValue("mode"), Days: r.FormValue("days"), Daily: r.FormValue("daily"), Weekly: r.FormValue("weekly"),
		Monthly: r.FormValue("monthly"), Yearly: r.FormValue("yearly")}
	number := func(text string) int {
		text = strings.TrimSpace(text)
		if text == "" {
			return 0
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			return -1 // which no rule allows
		}
		return n
	}
	rule := backup.Retention{Mode: backup.RetentionMode(f.Mode)}
	switch rule.Mode {
	case backup.RetainDays:
		rule.Days = number(f.Days)
	case backup.RetainPeriods:
		rule.Daily, rule.Weekly, rule.Monthly, rule.Yearly = number(f.Daily), number(f.Weekly), number(f.Monthly), number(f.Yearly)
	}
	return f, rule, rule.Validate()
}

// previewRetention says what a rule would delete, before it is saved.
func (s *Server) previewRetention(w http.ResponseWriter, r *http.Request) error {
	return s.askRetention(w, r, http.StatusOK, nil)
}

func (s *Server) askRetention(w http.ResponseWriter, r *http.Request, status int, fields backup.FieldErrors) error {
	form, rule, err := retentionOf(r)
	if wrong, ok := errors.AsType[backup.FieldErrors](err); ok {
		return s.retentionPage(w, r, http.StatusUnprocessableEntity, views.Retention{Form: form, Fields: wrong})
	}
	if err != nil {
		return err
	}
	v := views.RetentionPreview{Form: form, Rule: rule, Fields: fields}
	org := actor(r).Org.ID
	keep, err := s.Store.Keepings(r.Context(), org)
	if err != nil {
		return err
	}
	v.Saved, v.Hold, v.Others = keep.Rule, keep.Hold, others(keep)
	if v.Expiries, err = s.Store.Expiries(r.Context(), org, concerned(keep, rule), time.Now()); err != nil {
		return fmt.Errorf("preview retention: %w", err)
	}
	return s.render(w, r, status, views.RetentionPreviewPage(s.frame(w, r, "Account Settings"), v))
}

// saveRetention saves a rule. One that deletes something has to be confirmed,
// which only its preview asks for.
func (s *Server) saveRetention(w http.ResponseWriter, r *http.Request) error {
	_, rule, err := retentionOf(r)
	if err == nil && r.PostFormValue("confirm") != "yes" {
		keep, err := s.Store.Keepings(r.Context(), actor(r).Org.ID)
		if err != nil {
			return err
		}
		list, err := s.Store.Expiries(r.Context(), actor(r).Org.ID, concerned(keep, rule), time.Now())
		if err != nil {
			return fmt.Errorf("preview retention: %w", err)
		}
		if len(list) > 0 {
			return s.askRetention(w, r, http.StatusUnprocessableEntity, backup.FieldErrors{"confirm": "Confirm that this is to be deleted."})
		}
	}
	if err != nil {
		return s.askRetention(w, r, http.StatusUnprocessableEntity, nil)
	}
	if err := s.Store.SaveRetention(r.Context(), actor(r).Org.ID, rule, actor(r)); err != nil {
		return err
	}
	return s.redirect(w, r, "/settings/retention", "Saved: "+rule.String()+".")
}

// setLegalHold lets nothing expire any more.
func (s *Server) setLegalHold(w http.ResponseWriter, r *http.Request) error {
	reason := r.PostFormValue("reason")
	err := s.Store.SetLegalHold(r.Context(), actor(r).Org.ID, reason, actor(r))
	if fields, ok := errors.AsType[backup.FieldErrors](err); ok {
		return s.retentionPage(w, r, http.StatusUnprocessableEntity, views.Retention{Reason: reason, Fields: fields})
	}
	if errors.Is(err, backup.ErrConflict) {
		return s.redirect(w, r, "/settings/retention", "There is a legal hold already.")
	}
	if err != nil {
		return err
	}
	return s.redirect(w, r, "/settings/retention", "The legal hold is set. Nothing expires while it lasts.")
}

// liftLegalHold ends it.
func (s *Server) liftLegalHold(w http.ResponseWriter, r *http.Request) error {
	if r.PostFormValue("confirm") != "yes" {
		return s.retentionPage(w, r, http.StatusUnprocessableEntity, views.Retention{Fields: backup.FieldErrors{"lift": "Confirm that snapshots may expire again."}})
	}
	err := s.Store.LiftLegalHold(r.Context(), actor(r).Org.ID, actor(r))
	if errors.Is(err, backup.ErrNotFound) {
		return s.redirect(w, r, "/settings/retention", "There is no legal hold any more.")
	}
	if err != nil {
		return err
	}
	return s.redirect(w, r, "/settings/retention", "The legal hold is lifted.")
}
