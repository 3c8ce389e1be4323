package handlers

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"holdfast/backup"
	"holdfast/store"
	"holdfast/views"
)

// accountsShown is how many accounts the page lists at most.
const accountsShown = 10_000

// allAccounts reads the accounts of the connection that is being made.
func (s *Server) allAccounts(ctx context.Context, auth backup.Authorization) ([]backup.Mailbox, error) {
	got, err := s.Store.Mailboxes(ctx, auth.OrgID, store.MailboxQuery{AllAccounts: true, Connection: auth.ConnectionID, PageSize: accountsShown})
	if err != nil {
		return nil, fmt.Errorf("read accounts: %w", err)
	}
	return got.Mailboxes, nil
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
	return s.move(w, r, auth, func(*backup.Authorization) {}, backup.ListAccountsJob{OrgID: auth.OrgID, ConnectionID: auth.ConnectionID})
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
	ids, selected, err := chosen(r, v.Accounts)
	v.Selected = selected
	if err == nil {
		err = s.Store.SelectMailboxes(ctx, &auth, ids, by)
	}
	if fields, ok := errors.AsType[backup.FieldErrors](err); ok {
		v.Fields = fields
		return s.render(w, r, http.StatusUnprocessableEntity, views.SetupPage(s.frame(w, r, "M365 Authorization"), v))
	}
	if errors.Is(err, backup.ErrStale) {
		return s.refuse(w, r, "/setup", movedOn(auth, by))
	}
	if err != nil {
		return fmt.Errorf("select accounts: %w", err)
	}
	if err := s.Store.Enqueue(ctx, backup.CheckPermissionsJob{OrgID: auth.OrgID, ConnectionID: auth.ConnectionID}); err != nil {
		return fmt.Errorf("have the permissions read: %w", err)
	}
	text := fmt.Sprintf("Microsoft 365 is connected. The first backup of %d mailboxes has started.", len(ids))
	if len(ids) == 1 {
		text = "Microsoft 365 is connected. The first backup of one mailbox has started."
	}
	return s.redirect(w, r, "/dashboard", text)
}
