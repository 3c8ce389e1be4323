package handlers

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"holdfast/backup"
	"holdfast/store"
	"holdfast/views"
)

// askRestore asks where to restore a message, a folder or a mailbox.
func (s *Server) askRestore(w http.ResponseWriter, r *http.Request) error {
	v, err := s.restoreForm(r)
	if err != nil {
		return err
	}
	v.Target, v.Place, v.FolderName = v.Browse.Mailbox.Address, string(backup.PlaceOriginal), backup.RestoreFolderName(time.Now())
	return s.render(w, r, http.StatusOK, views.RestoreFormPage(s.frame(w, r, "Restore"), v))
}

// restoreForm reads what of which snapshot is to be restored.
func (s *Server) restoreForm(r *http.Request) (views.RestoreForm, error) {
	b, folders, err := s.browseView(r)
	if err != nil {
		return views.RestoreForm{}, err
	}
	if b.Snapshot.Seq == 0 {
		return views.RestoreForm{}, backup.ErrNotFound
	}
	v := views.RestoreForm{Browse: b, Scope: backup.RestoreMailbox, Items: b.Snapshot.Items, Bytes: b.Snapshot.Bytes, Fields: backup.FieldErrors{}, Now: time.Now()}
	folder := r.FormValue("folder")
	if id := r.FormValue("item"); id != "" {
		if v.Item, err = s.Store.Item(r.Context(), b.Mailbox.OrgID, b.Mailbox.ID, b.Snapshot.Seq, backup.ItemID(id)); err != nil {
			return v, err
		}
		v.Scope, v.Items, v.Bytes, folder = backup.RestoreMessage, 1, v.Item.SizeBytes, v.Item.FolderID
	} else if folder != "" && folder != views.All {
		v.Scope, v.Items, v.Bytes = backup.RestoreFolder, messagesWithin(folders, folder), 0
	} else {
		return v, nil
	}
	v.Browse.Folder, err = chosenFolder(folders, folder, "")
	return v, err
}

// messagesWithin counts the messages of a folder and of those below it.
func messagesWithin(folders []backup.Folder, id string) int64 {
	var count func(n *views.FolderNode, in bool) int64
	count = func(n *views.FolderNode, in bool) int64 {
		total := int64(0)
		if in = in || n.ID == id; in {
			total = n.Items
		}
		for _, child := range n.Children {
			total += count(child, in)
		}
		return total
	}
	total := int64(0)
	for _, n := range folderTree(folders) {
		total += count(n, false)
	}
	return total
}

// plannedRestore reads the form. What has to be corrected is in v.Fields.
func (s *Server) plannedRestore(r *http.Request) (v views.RestoreForm, plan backup.Restore, conn backup.Connection, err error) {
	if v, err = s.restoreForm(r); err != nil {
		return v, plan, conn, err
	}
	v.Target, v.Place, v.FolderName, v.Copies = strings.TrimSpace(r.FormValue("target")), r.FormValue("place"), r.FormValue("name"), r.FormValue("copies") == "true"
	target, conn, err := s.restoreTarget(r, &v)
	if err != nil {
		return v, plan, conn, err
	}
	plan = backup.Restore{OrgID: v.Browse.Mailbox.OrgID, MailboxID: v.Browse.Mailbox.ID, Snapshot: v.Browse.Snapshot.Seq, Scope: v.Scope,
		FolderID: v.Browse.Folder.ID, ItemID: v.Item.ID, TargetID: target.ID, Place: backup.RestorePlace(v.Place), FolderName: v.FolderName, Copies: v.Copies, ItemsTotal: v.Items}
	switch v.Scope {
	case backup.RestoreMessage:
		plan.What = v.Item.Subject
	case backup.RestoreFolder:
		plan.What = v.Browse.Folder.Name
	}
	if plan.Place == backup.PlaceOriginal {
		plan.FolderName = ""
	}
	if fields, ok := errors.AsType[backup.FieldErrors](plan.Validate()); ok {
		for name, text := range fields {
			if name == "folder" {
				name = "name"
			}
			if v.Fields[name] == "" {
				v.Fields[name] = text
			}
		}
	}
	v.TargetMailbox = target
	if len(v.Fields) == 0 {
		v.NeedsPermission, err = s.needsRestorePermission(r, conn)
	}
	return v, plan, conn, err
}

// restoreTarget finds the mailbox of the address that was typed.
func (s *Server) restoreTarget(r *http.Request, v *views.RestoreForm) (backup.Mailbox, backup.Connection, error) {
	ctx, org := r.Context(), actor(r).Org.ID
	if v.Target == "" {
		v.Fields["target"] = "Enter the e-mail address of the mailbox to restore to."
		return backup.Mailbox{}, backup.Connection{}, nil
	}
	got, err := s.Store.Mailboxes(ctx, org, store.MailboxQuery{AllAccounts: true, Search: v.Target, PageSize: 50})
	if err != nil {
		return backup.Mailbox{}, backup.Connection{}, fmt.Errorf("find the mailbox: %w", err)
	}
	// Two providers may have the same address; then the mailbox itself comes first.
	if i := slices.IndexFunc(got.Mailboxes, func(m backup.Mailbox) bool { return m.ID == v.Browse.Mailbox.ID }); i > 0 {
		got.Mailboxes[0], got.Mailboxes[i] = got.Mailboxes[i], got.Mailboxes[0]
	}
	for _, m := range got.Mailboxes {
		if !strings.EqualFold(m.Address, v.Target) {
			continue
		}
		conn, err := s.Store.Connection(ctx, org, m.ConnectionID)
		if err != nil {
			return m, conn, fmt.Errorf("read connection %s: %w", m.ConnectionID, err)
		}
		switch {
		case m.Deactivated == backup.DeactivatedDeleted:
			v.Fields["target"] = "This account is no longer in the tenant. Choose another mailbox."
		case conn.Provider == backup.ProviderMicrosoft365 && s.Microsoft == nil:
			v.Fields["target"] = "This Holdfast is not connected to Microsoft 365 at present. Choose another mailbox, or download the messages."
		}
		v.TargetProvider = conn.Provider
		return m, conn, nil
	}
	v.Fields["target"] = "This organization has no mailbox with this address. Check how it is written."
	return backup.Mailbox{}, backup.Connection{}, nil
}

// needsRestorePermission says whether an administrator of the tenant has to be
// asked before anything can be written there. An IMAP account's own credentials
// are the permission.
func (s *Server) needsRestorePermission(r *http.Request, conn backup.Connection) (bool, error) {
	if conn.Provider != backup.ProviderMicrosoft365 {
		return false, nil
	}
	grant, err := s.Store.RestoreGrant(r.Context(), conn.OrgID, conn.ID)
	if errors.Is(err, backup.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the restore permission: %w", err)
	}
	return !grant.Problem.IsZero() || !time.Now().Before(grant.EndsAt), nil
}

// confirmRestore names what a restore touches before it starts.
func (s *Server) confirmRestore(w http.ResponseWriter, r *http.Request) error {
	v, _, _, err := s.plannedRestore(r)
	if err != nil {
		return err
	}
	if len(v.Fields) > 0 {
		return s.render(w, r, http.StatusUnprocessableEntity, views.RestoreFormPage(s.frame(w, r, "Restore"), v))
	}
	return s.render(w, r, http.StatusOK, views.RestoreConfirmPage(s.frame(w, r, "Restore?"), v))
}

// startRestore starts a restore and, if nobody has given the permission, leads to
// the administrator's sign-in.
func (s *Server) startRestore(w http.ResponseWriter, r *http.Request) error {
	v, plan, conn, err := s.plannedRestore(r)
	if err != nil {
		return err
	}
	if len(v.Fields) > 0 {
		return s.render(w, r, http.StatusUnprocessableEntity, views.RestoreFormPage(s.frame(w, r, "Restore"), v))
	}
	plan.State = restoreState(v.NeedsPermission)
	made, err := s.Store.StartRestore(r.Context(), plan, actor(r))
	if err != nil {
		return err
	}
	if v.NeedsPermission {
		return s.begin(w, r, conn, backup.PurposeRestore, conn.Method, []backup.Workload{backup.WorkloadRestore})
	}
	return s.redirect(w, r, views.RestoreLink(made.ID), "The restore was started.")
}

func restoreState(needsPermission bool) backup.RestoreState {
	if needsPermission {
		return backup.RestoreWaiting
	}
	return backup.RestoreQueued
}

// restoresShown is how many restores are listed, notesShown how many messages of
// one; the report as a file has all.
const (
	restoresShown = 100
	notesShown    = 200
)

// listRestores lists the latest restores.
func (s *Server) listRestores(w http.ResponseWriter, r *http.Request) error {
	list, err := s.Store.Restores(r.Context(), actor(r).Org.ID, restoresShown)
	if err != nil {
		return fmt.Errorf("read restores: %w", err)
	}
	shown := restoreViews(list)
	if actor(r).OrgRole() != backup.RoleAdmin {
		for i := range shown {
			shown[i].What = "" // a subject is content
		}
	}
	return s.render(w, r, http.StatusOK, views.RestoresPage(s.frame(w, r, "Restores"), shown, time.Now()))
}

func restoreViews(list []store.MailboxRestore) []views.Restore {
	out := make([]views.Restore, len(list))
	for i, r := range list {
		out[i] = restoreView(r)
	}
	return out
}

func restoreView(r store.MailboxRestore) views.Restore {
	return views.Restore{Restore: r.Restore, From: r.From, FromAddress: r.FromAddress, To: r.To, ToAddress: r.ToAddress, SnapshotAt: r.SnapshotAt}
}

// showRestore shows how a restore stands and what it could not do.
func (s *Server) showRestore(w http.ResponseWriter, r *http.Request) error {
	v, err := s.restoreProgress(r)
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, views.RestorePage(s.frame(w, r, "Restore"), v))
}

// showRestoreLive is the part of the page that changes while a restore runs.
func (s *Server) showRestoreLive(w http.ResponseWriter, r *http.Request) error {
	v, err := s.restoreProgress(r)
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, views.RestoreLive(v))
}

func (s *Server) restoreAt(r *http.Request) (store.MailboxRestore, error) {
	return s.Store.Restore(r.Context(), actor(r).Org.ID, backup.RestoreID(r.PathValue("restore")))
}

func (s *Server) restoreProgress(r *http.Request) (views.RestoreProgress, error) {
	a := actor(r)
	got, err := s.restoreAt(r)
	if err != nil {
		return views.RestoreProgress{}, err
	}
	v := views.RestoreProgress{Restore: restoreView(got), MayChange: a.OrgRole() == backup.RoleAdmin, Now: time.Now()}
	if !v.MayChange {
		v.What = "" // a subject is content
		return v, nil
	}
	if v.Notes, err = s.Store.RestoreNotes(r.Context(), a.Org.ID, got.ID, notesShown); err != nil {
		return v, fmt.Errorf("read the report: %w", err)
	}
	return v, nil
}

// cancelRestore ends a restore. What it has put back stays.
func (s *Server) cancelRestore(w http.ResponseWriter, r *http.Request) error {
	got, err := s.restoreAt(r)
	if err != nil {
		return err
	}
	err = s.Store.CancelRestore(r.Context(), got.OrgID, got.ID, actor(r))
	if errors.Is(err, backup.ErrNotFound) {
		return s.refuse(w, r, views.RestoreLink(got.ID), "This restore has ended already.")
	}
	if err != nil {
		return err
	}
	return s.redirect(w, r, views.RestoreLink(got.ID), "The restore is being cancelled. What it has put back stays.")
}

// retryRestore lets a restore that ended too early go on, or one that left
// messages out try those again.
func (s *Server) retryRestore(w http.ResponseWriter, r *http.Request) error {
	got, err := s.restoreAt(r)
	if err != nil {
		return err
	}
	conn, err := s.Store.Connection(r.Context(), got.OrgID, got.ConnectionID)
	if err != nil {
		return fmt.Errorf("read connection %s: %w", got.ConnectionID, err)
	}
	needs, err := s.needsRestorePermission(r, conn)
	if err != nil {
		return err
	}
	err = s.Store.RetryRestore(r.Context(), got.OrgID, got.ID, restoreState(needs), actor(r))
	if errors.Is(err, backup.ErrNotFound) {
		return s.refuse(w, r, views.RestoreLink(got.ID), "There is nothing to try again.")
	}
	if err != nil {
		return err
	}
	if needs {
		return s.begin(w, r, conn, backup.PurposeRestore, conn.Method, []backup.Workload{backup.WorkloadRestore})
	}
	return s.redirect(w, r, views.RestoreLink(got.ID), "The restore goes on.")
}

// permitRestore leads to the sign-in of the administrator that a restore waits for.
func (s *Server) permitRestore(w http.ResponseWriter, r *http.Request) error {
	got, err := s.restoreAt(r)
	if err != nil {
		return err
	}
	if got.State != backup.RestoreWaiting || s.Microsoft == nil {
		return s.refuse(w, r, views.RestoreLink(got.ID), "This restore does not wait for permission.")
	}
	conn, err := s.Store.Connection(r.Context(), got.OrgID, got.ConnectionID)
	if err != nil {
		return fmt.Errorf("read connection %s: %w", got.ConnectionID, err)
	}
	return s.begin(w, r, conn, backup.PurposeRestore, conn.Method, []backup.Workload{backup.WorkloadRestore})
}
