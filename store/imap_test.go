package store_test

import (
	"errors"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/store"
	"holdfast/store/storetest"
)

func TestIMAPConnection(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, w := t.Context(), storetest.Fill(t, st)
		server := backup.IMAPServer{Host: "imap.contoso.example", Port: 993, Security: backup.IMAPTLS, SignIn: backup.IMAPMaster, MasterUser: "master", MasterPassword: backup.Secret("m")}
		if _, err := st.CreateIMAPConnection(ctx, backup.IMAPServer{}, nil, w.Ada); len(fieldErrors(err)) < 3 {
			t.Errorf("an empty server: %v, want its fields", err)
		}
		conn, err := st.CreateIMAPConnection(ctx, server, []backup.IMAPAccount{{Address: "Ada@contoso.example", User: "ada"}, {Address: "bob@contoso.example", User: "bob"}}, w.Ada)
		if err != nil {
			t.Fatal(err)
		}
		got, err := st.IMAPServer(ctx, conn.OrgID, conn.ID)
		if err != nil || got.MasterPassword.Reveal() != "m" || got.Host != server.Host {
			t.Fatalf("IMAPServer = %+v, %v", got, err)
		}
		if due, err := st.ConnectionsListedBefore(ctx, time.Now().Add(time.Hour)); err != nil || len(due) != 0 {
			t.Errorf("its accounts are to be listed: %v, %v", due, err)
		}
		// The same address again, in other letters: no second account.
		if n, err := st.AddIMAPAccounts(ctx, conn, []backup.IMAPAccount{{Address: "ADA@contoso.example", User: "ada2", Secret: backup.Secret("new")}, {Address: "cy@contoso.example", User: "cy"}}, w.Ada); err != nil || n != 1 {
			t.Fatalf("AddIMAPAccounts = %d, %v; want one new", n, err)
		}
		list, err := st.IMAPAccounts(ctx, conn.OrgID, conn.ID)
		if err != nil || len(list) != 3 || list[0].User != "ada2" || list[0].Secret.Reveal() != "new" {
			t.Fatalf("IMAPAccounts = %+v, %v", list, err)
		}
		tested := list[0]
		tested.TestedAt, tested.Folders, tested.Problem = time.Now(), 3, backup.Problem{Kind: backup.ProblemPassword, Text: "No."}
		if err := st.SetIMAPTested(ctx, conn.OrgID, tested); err != nil {
			t.Fatal(err)
		}
		// A change without a new password keeps the old one, and has it tested.
		if err := st.SaveIMAPAccount(ctx, conn, backup.IMAPAccount{MailboxID: tested.MailboxID, User: "ada3"}, w.Ada); err != nil {
			t.Fatal(err)
		}
		a, err := st.IMAPAccount(ctx, conn.OrgID, conn.ID, tested.MailboxID)
		if err != nil || a.User != "ada3" || a.Secret.Reveal() != "new" || !a.TestedAt.IsZero() || !a.Problem.IsZero() {
			t.Errorf("IMAPAccount = %+v, %v", a, err)
		}
		if err := st.StartIMAPBackup(ctx, conn, nil, w.Ada); fieldErrors(err)["account"] == "" {
			t.Errorf("starting with no account: %v", err)
		}
		if err := st.StartIMAPBackup(ctx, conn, []backup.MailboxID{a.MailboxID}, w.Ada); err != nil {
			t.Fatal(err)
		}
		if c, err := st.Connection(ctx, conn.OrgID, conn.ID); err != nil || c.ReadyAt.IsZero() {
			t.Errorf("connection = %+v, %v; want it completed", c, err)
		}
		if err := st.DeleteConnection(ctx, conn.OrgID, conn.ID); !isNotFound(err) {
			t.Errorf("deleting a connection in use: %v, want ErrNotFound", err)
		}
		draft, err := st.CreateIMAPConnection(ctx, server, []backup.IMAPAccount{{Address: "dee@contoso.example", User: "dee"}}, w.Ada)
		if err != nil {
			t.Fatal(err)
		}
		if err := st.DeleteConnection(ctx, draft.OrgID, draft.ID); err != nil {
			t.Errorf("discard: %v", err)
		}
	})
}

func fieldErrors(err error) backup.FieldErrors {
	fields, _ := errors.AsType[backup.FieldErrors](err)
	return fields
}
