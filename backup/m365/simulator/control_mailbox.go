package simulator

import (
	"io"
	"net/http"
	"strings"
)

// mailControlRoutes are the methods of control_mail.go over HTTP.
func (s *Simulator) mailControlRoutes() {
	const box = "/tenants/{tenant}/mailboxes/{user}"
	for path, f := range map[string]mailboxControl{
		"GET " + box + "/messages":                 s.controlMessages,
		"POST " + box + "/messages":                s.controlDeliver,
		"GET " + box + "/messages/{message}/raw":   s.controlRaw,
		"POST " + box + "/messages/{message}/move": s.controlMove,
		"PATCH " + box + "/messages/{message}":     s.controlMark,
		"DELETE " + box + "/messages/{message}":    s.controlRemove,
		"POST " + box + "/folders":                 s.controlNewFolder,
		"PATCH " + box + "/folders/{folder}":       s.controlRename,
		"DELETE " + box + "/folders/{folder}":      s.controlDeleteFolder,
		"POST " + box + "/empty": func(_ *answer, _ *http.Request, u *user) error {
			u.Mailbox.empty()
			return nil
		},
		"POST " + box + "/expire": func(_ *answer, _ *http.Request, u *user) error {
			u.Mailbox.Epoch++
			return nil
		},
	} {
		method, template, _ := strings.Cut(path, " ")
		s.control(method, template, s.inTenant(s.controlMailbox(f)))
	}
	s.control("POST", box+"/generate", s.inTenant(s.controlGenerate))
}

// mailboxControl answers a control request for a mailbox. An error is that
// something in the path is not there.
type mailboxControl func(w *answer, r *http.Request, u *user) error

// controlMailbox runs f on the mailbox of a control path.
func (s *Simulator) controlMailbox(f mailboxControl) func(*answer, *http.Request, *tenant) {
	return func(w *answer, r *http.Request, t *tenant) {
		err := s.changeLocked(t.ID, r.PathValue("user"), func(u *user) error { return f(w, r, u) })
		if err != nil {
			controlError(w, http.StatusNotFound, "%v", err)
			return
		}
		w.WriteHeader(http.StatusNoContent) // unless f answered
	}
}

func (s *Simulator) controlMessages(w *answer, _ *http.Request, u *user) error {
	w.json(http.StatusOK, stored(u.Mailbox))
	return nil
}

func (s *Simulator) controlDeliver(w *answer, r *http.Request, u *user) error {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	id, err := s.deliver(u, firstOf(r.URL.Query().Get("folder"), "inbox"), source{Raw: raw, Size: int64(len(raw))})
	if err == nil {
		w.json(http.StatusCreated, map[string]string{"id": id})
	}
	return err
}

func (s *Simulator) controlRaw(w *answer, r *http.Request, u *user) error {
	msg := u.Mailbox.message(r.PathValue("message"))
	if msg == nil {
		return errNoMessage
	}
	src := msg.Body
	w.streamBody("message/rfc822", src.Size, func() (io.ReadCloser, error) { return src.open(s.options.Mail) })
	return nil
}

func (s *Simulator) controlMove(_ *answer, r *http.Request, u *user) error {
	return s.move(u, r.PathValue("message"), r.URL.Query().Get("folder"))
}

func (s *Simulator) controlMark(w *answer, r *http.Request, u *user) error {
	var marks Marks
	if !readControl(w, r, &marks) {
		return nil
	}
	return s.mark(u, r.PathValue("message"), marks)
}

func (s *Simulator) controlRemove(_ *answer, r *http.Request, u *user) error {
	return u.Mailbox.removeByID(r.PathValue("message"))
}

func (s *Simulator) controlNewFolder(w *answer, r *http.Request, u *user) error {
	q := r.URL.Query()
	p, err := u.Mailbox.inFolder(firstOf(q.Get("parent"), "msgfolderroot"))
	if err == nil {
		w.json(http.StatusCreated, map[string]string{"id": u.Mailbox.addFolder(u.ID, p.ID, q.Get("name"), "").ID})
	}
	return err
}

func (s *Simulator) controlRename(_ *answer, r *http.Request, u *user) error {
	f, err := u.Mailbox.inFolder(r.PathValue("folder"))
	if err == nil {
		u.Mailbox.rename(f, r.URL.Query().Get("name"))
	}
	return err
}

func (s *Simulator) controlDeleteFolder(_ *answer, r *http.Request, u *user) error {
	f, err := u.Mailbox.inFolder(r.PathValue("folder"))
	if err == nil {
		err = u.Mailbox.discard(f)
	}
	return err
}

func (s *Simulator) controlGenerate(w *answer, r *http.Request, t *tenant) {
	var g Generated
	if !readControl(w, r, &g) {
		return
	}
	if err := s.generate(t.ID, r.PathValue("user"), g); err != nil {
		controlError(w, http.StatusNotFound, "%v", err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
