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

// showAccounts lists the accounts that are not backed up yet.
func (s *Server) showAccounts(w http.ResponseWriter, r *http.Request) error {
	list, err := s.otherAccounts(r.Context(), actor(r).Org.ID)
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, views.AccountsPage(s.frame(w, r, "Choose mailboxes"), list))
}

// otherAccounts reads the accounts of each completed connection.
func (s *Server) otherAccounts(ctx context.Context, org backup.OrgID) ([]views.AccountsOf, error) {
	connections, err := s.Store.Connections(ctx, org)
	if err != nil {
		return nil, fmt.Errorf("read connections: %w", err)
	}
	var list []views.AccountsOf
	for _, conn := range connections {
		if conn.ReadyAt.IsZero() {
			continue
		}
		all, err := s.Store.Mailboxes(ctx, org, store.MailboxQuery{AllAccounts: true, Connection: conn.ID, PageSize: accountsShown})
		if err != nil {
			return nil, fmt.Errorf("read accounts: %w", err)
		}
		of := views.AccountsOf{Connection: conn}
		for _, m := range all.Mailboxes {
			if m.Selected {
				of.BackedUp++
			} else {
				of.Others = append(of.Others, m)
			}
		}
		list = append(list, of)
	}
	return list, nil
}

// addAccounts adds accounts to what is backed up. Their first backups start at once.
func (s *Server) addAccounts(w http.ResponseWriter, r *http.Request) error {
	ctx, by := r.Context(), actor(r)
	list, err := s.otherAccounts(ctx, by.Org.ID)
	if err != nil {
		return err
	}
	for i, of := range list {
		if string(of.Connection.ID) != r.PostFormValue("connection") {
			continue
		}
		ids, selected, err := chosen(r, of.Others)
		if err == nil {
			err = s.Store.AddMailboxes(ctx, of.Connection, ids, by)
		}
		if fields, ok := errors.AsType[backup.FieldErrors](err); ok {
			list[i].Fields, list[i].Selected = fields, selected
			return s.render(w, r, http.StatusUnprocessableEntity, views.AccountsPage(s.frame(w, r, "Choose mailboxes"), list))
		}
		if err != nil {
			return fmt.Errorf("add accounts: %w", err)
		}
		text := fmt.Sprintf("%d mailboxes are added. Their first backups start now.", len(ids))
		if len(ids) == 1 {
			text = "One mailbox is added. Its first backup starts now."
		}
		return s.redirect(w, r, "/dashboard", text)
	}
	return backup.ErrNotFound
}

// leaveOut has the dashboard speak no more of the accounts that are new now.
func (s *Server) leaveOut(w http.ResponseWriter, r *http.Request) error {
	if err := s.Store.LeaveOut(r.Context(), actor(r).Org.ID, actor(r)); err != nil {
		return err
	}
	return s.redirect(w, r, "/dashboard", "They are left out. Choose mailboxes lists them, should you want them later.")
}

// chosen reads which of the accounts a form selects. One that is not among them
// is backup.FieldErrors; selected has those that are.
func chosen(r *http.Request, accounts []backup.Mailbox) (ids []backup.MailboxID, selected map[backup.MailboxID]bool, err error) {
	known := map[backup.MailboxID]bool{}
	for _, m := range accounts {
		known[m.ID] = true
	}
	selected = map[backup.MailboxID]bool{}
	for _, value := range r.PostForm["account"] {
		id := backup.MailboxID(value)
		switch {
		case !known[id]:
			err = backup.FieldErrors{"account": "An account that you selected is no longer there. Look at the selection and save it again."}
		case !selected[id]:
			selected[id] = true
			ids = append(ids, id)
		}
	}
	return ids, selected, err
}

// leftBehind reads what could not be removed when authorizations were given up.
func (s *Server) leftBehind(ctx context.Context, org backup.OrgID) ([]views.LeftBehind, error) {
	failed, err := s.Store.FailedUndos(ctx, org)
	if err != nil {
		return nil, fmt.Errorf("read what could not be removed: %w", err)
	}
	var list []views.LeftBehind
	for _, auth := range failed {
		l := views.LeftBehind{Authorization: auth}
		apps, err := s.Store.SubApplications(ctx, org, auth.ConnectionID)
		if err != nil {
			return nil, fmt.Errorf("read sub-applications: %w", err)
		}
		for _, app := range apps {
			if app.AppID != "" && app.State != backup.ApplicationRemoved {
				l.Applications = append(l.Applications, app)
			}
		}
		if conn, err := s.Store.Connection(ctx, org, auth.ConnectionID); err == nil && auth.Purpose == backup.PurposeConnect {
			l.Administrator = conn.Administrator.UPN
		}
		list = append(list, l)
	}
	return list, nil
}

// forgetLeftBehind notes that somebody has deleted it in the tenant.
func (s *Server) forgetLeftBehind(w http.ResponseWriter, r *http.Request) error {
	if err := s.Store.ForgetFailedUndo(r.Context(), actor(r).Org.ID, backup.AuthorizationID(r.PathValue("authorization")), actor(r)); err != nil {
		return err
	}
	return s.redirect(w, r, "/add-backup", "Noted. Holdfast knows of nothing in the tenant any more that this authorization made.")
}
