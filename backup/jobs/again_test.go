package jobs_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/repo"
	"holdfast/store"
	"holdfast/store/storetest"
)

// TestAnErasedAccountThatReappearsStartsFromNothing lists the account of an erased
// mailbox at the provider again: it is offered as new, is not backed up by itself,
// and has nothing of what was.
func TestAnErasedAccountThatReappearsStartsFromNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		letters := someLetters(4)
		k, ctx := keep(t, storetest.Open(t), letters), t.Context()
		org, old := k.w.Contoso.ID, k.mailbox
		if err := k.Erase(ctx, org, k.ask(t).ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if err := k.Store.UpsertMailboxes(ctx, org, old.ConnectionID, []backup.Mailbox{storetest.Account("ada")}); err != nil {
			t.Fatal(err)
		}
		page, err := k.Store.Mailboxes(ctx, org, store.MailboxQuery{AllAccounts: true, Connection: old.ConnectionID})
		if err != nil || len(page.Mailboxes) != 1 {
			t.Fatalf("accounts = %+v, %v; want one", page.Mailboxes, err)
		}
		now := page.Mailboxes[0]
		if now.ID == old.ID || now.ProviderID != old.ProviderID || now.Items != 0 || now.SizeBytes != 0 || !now.LastRunAt.IsZero() || now.Status == backup.StatusProtected {
			t.Errorf("the account = %+v, want a new one without anything", now)
		}
		if chosen, err := k.Store.Mailboxes(ctx, org, store.MailboxQuery{}); err != nil || len(chosen.Mailboxes) != 0 {
			t.Errorf("backed up = %+v, %v; want none until somebody chooses it", chosen.Mailboxes, err)
		}
		if list, err := k.Store.Snapshots(ctx, org, now.ID); err == nil && len(list) != 0 {
			t.Errorf("it has snapshots %v", list)
		}
		result, err := k.Engine.Backup(ctx, engine.Job{Org: org, Mailbox: now.ID, Source: letters})
		if err != nil || result.Snapshot != 1 || result.Run.NewItems != 4 || result.Items != 4 {
			t.Errorf("its first run = %+v, %v; want snapshot 1 of 4 new messages", result, err)
		}
		if err := k.Engine.Rebuild(ctx, org); err != nil {
			t.Fatal(err)
		}
		if list, err := k.Store.Snapshots(ctx, org, now.ID); err != nil || len(list) != 1 {
			t.Errorf("snapshots after a rebuild = %v, %v; want the one", list, err)
		}
		if list, err := k.Store.Snapshots(ctx, org, old.ID); err == nil && len(list) != 0 {
			t.Errorf("snapshots %v of the erased mailbox are back", list)
		}
	})
}

// hooked is a storage that calls once before an object below a prefix is created.
type hooked struct {
	repo.Storage
	prefix string
	once   sync.Once
	call   func()
}

// Create implements repo.Storage.
func (h *hooked) Create(ctx context.Context, key string) (repo.Upload, error) {
	if strings.HasPrefix(key, h.prefix) {
		h.once.Do(h.call)
	}
	return h.Storage.Create(ctx, key)
}

// TestALegalHoldWinsOverAPreviewThatWasSeen sets a hold after a new rule was
// previewed and saved, and another while snapshots are expiring already: what had
// not expired by then stays.
func TestALegalHoldWinsOverAPreviewThatWasSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		letters := someLetters(3)
		k, ctx := keep(t, storetest.Open(t), letters), t.Context()
		org, st := k.w.Contoso, k.Store
		_, boxes := storetest.Connect(t, st, k.w.Ada, "another", storetest.Account("ben"))
		ben := boxes["ben"].ID
		for day := range 5 {
			time.Sleep(24 * time.Hour)
			letters["new"+string(rune('0'+day))] = "a new letter"
			for _, m := range []backup.MailboxID{k.mailbox.ID, ben} {
				if _, err := k.Engine.Backup(ctx, engine.Job{Org: org.ID, Mailbox: m, Source: letters}); err != nil {
					t.Fatal(err)
				}
			}
		}
		count := func(m backup.MailboxID) int {
			t.Helper()
			list, err := st.Snapshots(ctx, org.ID, m)
			if err != nil {
				t.Fatal(err)
			}
			return len(list)
		}
		ada, bens := count(k.mailbox.ID), count(ben)
		if err := st.SaveRetention(ctx, org.ID, backup.Retention{Mode: backup.RetainDays, Days: 1}, k.w.Ada); err != nil {
			t.Fatal(err)
		}
		preview, err := k.Expiring(ctx, org.ID)
		if err != nil || len(preview) != 2 {
			t.Fatalf("preview = %+v, %v; want both mailboxes", preview, err)
		}
		if err := st.SetLegalHold(ctx, org.ID, "Case 4711", k.w.Ada); err != nil {
			t.Fatal(err)
		}
		if gone, err := k.Expire(ctx, org); err != nil || len(gone) != 0 || count(k.mailbox.ID) != ada || count(ben) != bens {
			t.Errorf("under the hold %+v expired, %v", gone, err)
		}
		if err := st.LiftLegalHold(ctx, org.ID, k.w.Ada); err != nil {
			t.Fatal(err)
		}
		second := preview[1].Mailbox
		h := &hooked{Storage: k.storage, prefix: "t/" + string(org.ID) + "/g/", call: func() {
			if err := st.SetLegalHold(ctx, org.ID, "Case 4712", k.w.Ada); err != nil {
				t.Error(err)
			}
		}}
		gone, err := k.on(t, h).Expire(ctx, org)
		if err != nil || len(gone) != 1 || gone[0].Mailbox != preview[0].Mailbox {
			t.Errorf("%+v expired, %v; want only the mailbox that was under way when the hold was set", gone, err)
		}
		if n, before := count(second), map[backup.MailboxID]int{k.mailbox.ID: ada, ben: bens}[second]; n != before {
			t.Errorf("%d snapshots of the other mailbox are left, want all %d", n, before)
		}
	})
}
