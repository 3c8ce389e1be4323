package handlers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"holdfast/backup"
	"holdfast/backup/outmail"
	"holdfast/views"
)

// showMail shows how the partner's e-mail goes out, and what waits.
func (s *Server) showMail(w http.ResponseWriter, r *http.Request) error {
	m, err := s.Store.MailSettings(r.Context(), actor(r).Partner.ID)
	if errors.Is(err, backup.ErrNotFound) {
		m, err = backup.MailSettings{Port: 587, TLS: backup.MailSTARTTLS, FromName: actor(r).Partner.Name}, nil
	}
	if err != nil {
		return fmt.Errorf("read mail settings: %w", err)
	}
	return s.mailPage(w, r, http.StatusOK, views.Mail{Settings: m})
}

func (s *Server) mailPage(w http.ResponseWriter, r *http.Request, status int, v views.Mail) error {
	ctx, partner := r.Context(), actor(r).Partner.ID
	var err error
	if v.Waiting, err = s.Store.WaitingNotifications(ctx, partner); err != nil {
		return fmt.Errorf("read what waits: %w", err)
	}
	if v.Off, err = s.Store.SwitchedOff(ctx, partner, ""); err != nil {
		return fmt.Errorf("read what is switched off: %w", err)
	}
	v.HasPassword, v.Now = len(v.Settings.Password) > 0, time.Now()
	return s.render(w, r, status, views.MailPage(s.frame(w, r, "Outgoing mail"), v))
}

// mailForm is the form as it was filled in. A password that was left empty is
// the one kept, as long as it is for the same server and user.
func (s *Server) mailForm(r *http.Request) (backup.MailSettings, error) {
	m := backup.MailSettings{Host: strings.TrimSpace(r.PostFormValue("host")), TLS: backup.MailTLS(r.PostFormValue("tls")), User: strings.TrimSpace(r.PostFormValue("user")),
		Password: backup.Secret(r.PostFormValue("password")), From: strings.TrimSpace(r.PostFormValue("from")), FromName: r.PostFormValue("from_name")}
	m.Port, _ = strconv.Atoi(r.PostFormValue("port")) // 0 is refused like any other wrong port
	if len(m.Password) > 0 || m.User == "" {
		return m, nil
	}
	kept, err := s.Store.MailSettings(r.Context(), actor(r).Partner.ID)
	if errors.Is(err, backup.ErrNotFound) {
		return m, nil
	}
	if kept.Host == m.Host && kept.User == m.User {
		m.Password = kept.Password
	}
	return m, err
}

// saveMail saves how e-mail goes out, or sends a test message with what is in
// the form.
func (s *Server) saveMail(w http.ResponseWriter, r *http.Request) error {
	m, err := s.mailForm(r)
	if err != nil {
		return fmt.Errorf("read mail settings: %w", err)
	}
	if r.PostFormValue("action") == "test" {
		return s.testMail(w, r, m)
	}
	err = s.Store.SaveMailSettings(r.Context(), m, actor(r))
	if fields, ok := errors.AsType[backup.FieldErrors](err); ok {
		return s.mailPage(w, r, http.StatusUnprocessableEntity, views.Mail{Settings: m, Fields: fields})
	}
	if err != nil {
		return err
	}
	return s.redirect(w, r, "/partner/settings", "Saved. What waited is sent now.")
}

// testMail sends a message to whoever asks. It is one of the few pages that wait
// for another server: the person wants to know at once.
func (s *Server) testMail(w http.ResponseWriter, r *http.Request, m backup.MailSettings) error {
	a := actor(r)
	if fields, ok := errors.AsType[backup.FieldErrors](m.Validate()); ok {
		return s.mailPage(w, r, http.StatusUnprocessableEntity, views.Mail{Settings: m, Fields: fields})
	}
	v := views.Mail{Settings: m, Tested: "A test message is on its way to " + a.Person.Email + "."}
	_, err := outmail.Sender{Settings: m, Roots: s.MailRoots}.Send(context.WithoutCancel(r.Context()), outmail.Message{
		To: a.Person.Email, ToName: a.Person.Name, Subject: "Test message from Holdfast", Greeting: "Hello " + a.Person.Name + ",",
		Lines: []string{"This message shows that Holdfast can send e-mail with these settings."}, Button: "Open Holdfast", Link: s.PublicURL,
		Footer: "You asked for it in the Partner Portal."})
	if err != nil {
		s.Log.Warn("test message not sent", "host", m.Host, "error", err)
		v.Tested, v.Wrong = "", backup.AsProblem(err).Text
	}
	return s.mailPage(w, r, http.StatusOK, v)
}

// wanted are the kinds of notification that a form leaves ticked.
func wanted(r *http.Request) map[backup.NotificationKind]bool {
	kinds := map[backup.NotificationKind]bool{}
	for _, k := range r.PostForm["kind"] {
		kinds[backup.NotificationKind(k)] = true
	}
	return kinds
}

// savePartnerNotifications says what the partner's people are told of.
func (s *Server) savePartnerNotifications(w http.ResponseWriter, r *http.Request) error {
	if err := s.Store.SetNotifications(r.Context(), "", wanted(r), actor(r)); err != nil {
		return err
	}
	return s.redirect(w, r, "/partner/settings", "Saved.")
}

// showNotifications shows what the organization's admins are told of.
func (s *Server) showNotifications(w http.ResponseWriter, r *http.Request) error {
	a := actor(r)
	off, err := s.Store.SwitchedOff(r.Context(), a.Partner.ID, a.Org.ID)
	if err != nil {
		return fmt.Errorf("read what is switched off: %w", err)
	}
	return s.render(w, r, http.StatusOK, views.NotificationsPage(s.frame(w, r, "Account Settings"), off, a.OrgRole() == backup.RoleAdmin))
}

// saveNotifications changes it.
func (s *Server) saveNotifications(w http.ResponseWriter, r *http.Request) error {
	if err := s.Store.SetNotifications(r.Context(), actor(r).Org.ID, wanted(r), actor(r)); err != nil {
		return err
	}
	return s.redirect(w, r, "/settings/notifications", "Saved.")
}
