package handlers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"holdfast/backup"
	"holdfast/store"
	"holdfast/views"
)

// allAccounts reads all accounts of the connection, page by page.
func (s *Server) allAccounts(ctx context.Context, auth backup.Authorization) ([]backup.Mailbox, error) {
	var all []backup.Mailbox
	for page := 1; ; page++ {
		got, err := s.Store.Mailboxes(ctx, auth.OrgID, store.MailboxQuery{AllAccounts: true, Connection: auth.ConnectionID, Page: page, PageSize: 1000})
		if err != nil {
			return nil, fmt.Errorf("read accounts: %w", err)
		}
		all = append(all, got.Mailboxes...)
		if len(got.Mailboxes) == 0 || len(all) >= got.Total {
			return all, nil
		}
	}
}

// listAccounts has the accounts listed again.
func (s *Server) listAccounts(w http.ResponseWriter, r *http.Request) error {
	auth, ok, err := s.step(w, r, backup.StepChooseAccounts)
	if !ok {
		return err
	}
	if err := s.Store.SetConnectionProblem(r.Context(), auth.OrgID, auth.ConnectionID, backup.Problem{}); err != nil {
		return fmt.Errorf("clear the connection's problem: %w", err)
	}
	return s.save(w, r, auth, backup.ListAccountsJob{OrgID: auth.OrgID, ConnectionID: auth.ConnectionID})
}

// chooseAccounts selects what is backed up. The first backup starts at once,
// and the authorization is done.
func (s *Server) chooseAccounts(w http.ResponseWriter, r *http.Request) error {
	auth, ok, err := s.step(w, r, backup.StepChooseAccounts)
	if !ok {
		return err
	}
	ctx, by := r.Context(), actor(r)
	v, err := s.setupView(r, auth)
	if err != nil {
		return err
	}
	known := map[backup.MailboxID]bool{}
	for _, m := range v.Accounts {
		known[m.ID] = true
	}
	var ids []backup.MailboxID
	v.Selected = map[backup.MailboxID]bool{}
	unknown := false
	for _, value := range r.PostForm["account"] {
		id := backup.MailboxID(value)
		switch {
		case !known[id]:
			unknown = true
		case !v.Selected[id]:
			v.Selected[id] = true
			ids = append(ids, id)
		}
	}
	switch {
	case unknown:
		v.Fields = backup.FieldErrors{"accounts": "An account that you selected is no longer in the tenant. Look at the selection and save it again."}
	case len(ids) == 0:
		v.Fields = backup.FieldErrors{"accounts": "Select at least one account to back up."}
	}
	if len(v.Fields) > 0 {
		return s.render(w, r, http.StatusUnprocessableEntity, views.SetupPage(s.frame(w, r, "M365 Authorization"), v))
	}
	conn := v.Connection
	conn.ReadyAt = time.Now()
	if err := s.Store.SaveConnection(ctx, conn, by); err != nil {
		return fmt.Errorf("save connection %s: %w", conn.ID, err)
	}
	if err := s.Store.SelectMailboxes(ctx, auth.OrgID, auth.ConnectionID, ids, by); err != nil {
		return fmt.Errorf("select accounts: %w", err)
	}
	auth.Step, auth.Problem, auth.MovedBy = backup.StepDone, backup.Problem{}, by.Person.Name
	auth.SetupToken, auth.SetupTokenExpiresAt = nil, time.Time{}
	forgetRoleToken(&auth)
	auth.SignIn, auth.Device = backup.SignInAttempt{}, backup.DeviceAttempt{}
	if err := s.Store.SaveAuthorization(ctx, &auth); err != nil && !errors.Is(err, backup.ErrStale) {
		return fmt.Errorf("save the authorization: %w", err)
	}
	text := fmt.Sprintf("Microsoft 365 is connected. The first backup of %d mailboxes has started.", len(ids))
	if len(ids) == 1 {
		text = "Microsoft 365 is connected. The first backup of one mailbox has started."
	}
	return s.redirect(w, r, "/dashboard", text)
}
