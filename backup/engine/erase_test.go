package engine_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/repo"
	"holdfast/store"
)

// letterWith is a message with an attachment that is large enough to be shared.
func letterWith(subject string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "Subject: %s\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nThe text of %s.\r\n--x\r\nContent-Transfer-Encoding: base64\r\n\r\n", subject, subject)
	for range 2000 {
		b.WriteString(strings.Repeat("A", 76) + "\r\n")
	}
	return []byte(b.String() + "--x--\r\n")
}

// TestErasedMailboxStaysErased erases one of two mailboxes that share an
// attachment, and looks for it after everything that might bring it back.
func TestErasedMailboxStaysErased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		ctx := t.Context()
		const other = backup.MailboxID("MAILBOX2")
		for _, m := range []backup.MailboxID{mailbox, other} {
			p := newProvider()
			p.add(p.addFolder("inbox", "", "Inbox"), string(m), letterWith("letter to "+string(m)))
			if _, err := b.Backup(ctx, engine.Job{Org: org, Mailbox: m, Source: p}); err != nil {
				t.Fatal(err)
			}
		}
		snapshots := func(m backup.MailboxID) int {
			list, err := b.store.Snapshots(ctx, org, m)
			if err != nil {
				t.Fatal(err)
			}
			return len(list)
		}
		held, err := b.Repo.Holding(ctx, string(org), string(mailbox))
		if err != nil || held.Snapshots != 1 || held.Packs == 0 || held.Bytes == 0 {
			t.Fatalf("Holding = %+v, %v", held, err)
		}
		for range 2 {
			if err := b.Erase(ctx, org, mailbox); err != nil {
				t.Fatal(err)
			}
		}
		if keys, err := b.store.DestroyedKeys(ctx, org, mailbox); err != nil || len(keys) != 1 || len(keys[0].Fingerprint) != 32 {
			t.Errorf("destroyed keys %+v, %v; want one", keys, err)
		}
		if _, err := b.store.SourceKey(ctx, string(org), string(mailbox), 0); !errors.Is(err, repo.ErrNoKey) {
			t.Errorf("SourceKey = %v, want ErrNoKey", err)
		}
		check := func(when string) {
			t.Helper()
			if n, m := snapshots(mailbox), snapshots(other); n != 0 || m != 1 {
				t.Errorf("%s: %d snapshots of the erased mailbox and %d of the other, want 0 and 1", when, n, m)
			}
			report, err := b.Verify(ctx, org, true)
			if err != nil || len(report.Damaged) > 0 || report.Mailboxes != 1 {
				t.Errorf("%s: Verify = %+v, %v", when, report, err)
			}
			for _, item := range b.itemsOf(other) {
				var w strings.Builder
				if err := b.WriteItem(ctx, org, other, item, &w); err != nil || !strings.Contains(w.String(), "letter to MAILBOX2") {
					t.Errorf("%s: the other's message can't be read: %v", when, err)
				}
			}
		}
		check("after the erasure")
		if err := b.Rebuild(ctx, org); err != nil {
			t.Fatal(err)
		}
		check("after a rebuild")
		p := newProvider()
		p.addFolder("inbox", "", "Inbox")
		if _, err := b.Backup(ctx, engine.Job{Org: org, Mailbox: mailbox, Source: p}); !errors.Is(err, backup.ErrNotFound) {
			t.Errorf("a backup of the erased mailbox: %v, want ErrNotFound", err)
		}
		for range 4 {
			time.Sleep(repo.Grace)
			if _, err := b.Collect(ctx, org); err != nil {
				t.Fatal(err)
			}
		}
		for e, err := range b.storage.List(ctx, "t/"+string(org)+"/c/"+string(mailbox)) {
			t.Errorf("%s is left, %v", e.Key, err)
		}
		check("after collections")
		if err := b.Rebuild(ctx, org); err != nil {
			t.Fatal(err)
		}
		check("after a rebuild of what is left")
	})
}

// itemsOf lists the items of the newest snapshot of a mailbox.
func (b *bench) itemsOf(m backup.MailboxID) []backup.ItemID {
	b.t.Helper()
	list, err := b.store.Snapshots(b.t.Context(), org, m)
	if err != nil || len(list) == 0 {
		b.t.Fatalf("mailbox %s has no snapshot, %v", m, err)
	}
	items, _, err := b.store.Items(b.t.Context(), org, m, list[0].Seq, store.ItemQuery{PageSize: 100})
	if err != nil || len(items) == 0 {
		b.t.Fatalf("mailbox %s has no items, %v", m, err)
	}
	ids := make([]backup.ItemID, len(items))
	for i, item := range items {
		ids[i] = item.ID
	}
	return ids
}
