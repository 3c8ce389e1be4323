package store_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/store"
	"holdfast/store/storetest"
)

// tick waits until the database's clock of milliseconds goes on.
func tick() {
	for at := time.Now().UnixMilli(); time.Now().UnixMilli() == at; {
		time.Sleep(100 * time.Microsecond)
	}
}

// TestNewAccountsAreProtected lists the accounts of a tenant again and again, while
// some appear and the rule changes.
func TestNewAccountsAreProtected(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx := t.Context()
		w := storetest.Fill(t, st)
		org := w.Contoso.ID
		conn, _ := storetest.Connect(t, st, w.Ada, "tenant", storetest.Account("old"))
		theirs, _ := storetest.Connect(t, st, w.Otto, "another", storetest.Account("old"))
		now := time.Now().Add(-time.Minute)
		seen := []backup.Mailbox{storetest.Account("old")}
		list := func(more ...backup.Mailbox) {
			t.Helper()
			tick()
			for _, m := range more {
				i := slices.IndexFunc(seen, func(s backup.Mailbox) bool { return s.ProviderID == m.ProviderID })
				if i < 0 {
					seen = append(seen, m)
				} else {
					seen[i] = m
				}
			}
			if err := st.UpsertMailboxes(ctx, org, conn.ID, seen); err != nil {
				t.Fatal(err)
			}
		}
		protect := func(p backup.Protection) {
			t.Helper()
			tick()
			if err := st.SaveProtection(ctx, org, p, w.Ada); err != nil {
				t.Fatal(err)
			}
		}
		chosen := func(unchosen int, want ...string) {
			t.Helper()
			page, err := st.Mailboxes(ctx, org, store.MailboxQuery{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, m := range page.Mailboxes {
				if got = append(got, m.ProviderID); m.NextRunAt.IsZero() {
					t.Errorf("%s is chosen, and no backup of it is due", m.ProviderID)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("chosen are %q, want %q", got, want)
			}
			if n, err := st.NewAccounts(ctx, org, now); err != nil || n != unchosen {
				t.Errorf("%d new accounts are not chosen, %v; want %d", n, err, unchosen)
			}
		}
		account := func(id string, kind backup.MailboxKind, licence backup.LicenceState, enabled bool) backup.Mailbox {
			m := storetest.Account(id)
			m.Kind, m.Licence, m.Enabled = kind, licence, enabled
			return m
		}

		list(storetest.Account("before"))
		chosen(1, "old")
		protect(backup.ProtectUsers)
		list(storetest.Account("user"), account("hired", backup.KindUser, backup.LicenceNone, true), account("blocked", backup.KindUser, backup.LicenceValid, false),
			account("shared", backup.KindShared, backup.LicenceNotNeeded, false), account("unknown", backup.KindUnknown, backup.LicenceValid, true))
		chosen(2, "old", "user") // before and shared are not
		list(storetest.Account("hired"))
		chosen(2, "hired", "old", "user")

		protect(backup.ProtectAll)
		list(account("room", backup.KindRoom, backup.LicenceNotNeeded, false))
		chosen(2, "hired", "old", "room", "user") // shared was there when the rule was made wider
		protect(backup.ProtectChosen)
		list(storetest.Account("late"))
		chosen(3, "hired", "old", "room", "user")

		tick()
		if err := st.LeaveOut(ctx, org, w.Ada); err != nil {
			t.Fatal(err)
		}
		chosen(0, "hired", "old", "room", "user")
		list(storetest.Account("later"))
		chosen(1, "hired", "old", "room", "user")

		if got, err := st.Protection(ctx, w.Fabrikam.ID); err != nil || got != backup.ProtectChosen {
			t.Errorf("the rule of another organization is %q, %v", got, err)
		}
		if err := st.UpsertMailboxes(ctx, w.Fabrikam.ID, theirs.ID, []backup.Mailbox{storetest.Account("old"), storetest.Account("theirs")}); err != nil {
			t.Fatal(err)
		}
		if n, err := st.NewAccounts(ctx, w.Fabrikam.ID, now); err != nil || n != 1 {
			t.Errorf("another organization has %d new accounts, %v; want its own", n, err)
		}
		if fields, ok := errors.AsType[backup.FieldErrors](st.SaveProtection(ctx, org, "everything", w.Ada)); !ok || fields["protection"] == "" {
			t.Errorf("an unknown rule: %v, want what to do", fields)
		}

		entries, _, err := st.Activity(ctx, w.Owner.Partner.ID, org, store.ActivityQuery{Page: 1, Size: 50})
		if err != nil {
			t.Fatal(err)
		}
		var told []string
		for _, e := range entries {
			if e.Kind == "backup.protect" {
				told = append(told, e.Person+": "+e.Subject)
			}
		}
		if got, want := strings.Join(told, "; "), "Holdfast: room@contoso.example; Holdfast: hired@contoso.example; Holdfast: user@contoso.example"; got != want {
			t.Errorf("the activity tells %q, want %q", got, want)
		}
	})
}
