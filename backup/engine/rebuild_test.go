package engine_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/repo"
)

// TestRebuildKilledAtEachCommit kills a rebuild before each commit that it takes
// in, rebuilds again, and expects the answers that there were before. A mailbox
// that comes back under way, as a start of the program does it, goes on from there.
func TestRebuildKilledAtEachCommit(t *testing.T) {
	storage := repo.NewMemory()
	b, p := openBench(t, openStore(t), storage), newProvider()
	for run := range 3 {
		for i := range 5 {
			p.add("inbox", fmt.Sprintf("message %d of run %d", i, run), fmt.Appendf(nil, "text %d %d", run, i))
		}
		p.remove(firstItem(p))
		p.move(firstItem(p), "sentitems")
		b.run(p)
	}
	before := b.answers()
	for kill := range 3 {
		for _, recover := range []bool{false, true} {
			calls := 0
			dying := openBench(t, b.store, storage)
			dying.Catalog = &killer{b.store, func() bool { calls++; return calls > kill }}
			if err := dying.Rebuild(t.Context(), org); !errors.Is(err, errKilled) && backup.KindOf(err) == "" {
				t.Fatalf("Rebuild = %v, want it killed at commit %d", err, kill+1)
			}
			if got, _ := b.store.Head(t.Context(), org, mailbox); got.Seq != int64(kill) {
				t.Fatalf("the catalog is at %d, want %d", got.Seq, kill)
			}
			again := openBench(t, b.store, storage)
			var err error
			if recover {
				err = again.recoverOne()
			} else {
				err = again.Rebuild(t.Context(), org)
			}
			if err != nil {
				t.Fatal(err)
			}
			for key, want := range before {
				if got := again.answers()[key]; !reflect.DeepEqual(got, want) {
					t.Errorf("killed at commit %d: %s are\n%+v, want\n%+v", kill+1, key, got, want)
				}
			}
		}
	}
}

// TestRebuildOfManyMailboxes makes the catalog of more mailboxes than are worked
// at together; an organization beside it keeps what it has.
func TestRebuildOfManyMailboxes(t *testing.T) {
	storage := repo.NewMemory()
	b := openBench(t, openStore(t), storage)
	const boxes = 7
	run := func(org backup.OrgID, box backup.MailboxID, subject string) {
		p := newProvider()
		p.add("inbox", subject, []byte(subject))
		if _, err := b.Backup(t.Context(), engine.Job{Org: org, Mailbox: box, Source: p}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range boxes {
		run(org, backup.MailboxID(fmt.Sprint("BOX", i)), fmt.Sprint("mail of ", i))
	}
	for _, beside := range []bool{false, true} { // alone in the catalog, and not
		if beside {
			run("OTHER", "BOX", "mail of another organization")
		}
		if err := openBench(t, b.store, storage).Rebuild(t.Context(), org); err != nil {
			t.Fatal(err)
		}
		for i := range boxes {
			head, err := b.store.Head(t.Context(), org, backup.MailboxID(fmt.Sprint("BOX", i)))
			if err != nil || head.Seq != 1 || head.Totals.Items != 1 {
				t.Errorf("mailbox %d is at %+v, %v; want its snapshot with one item", i, head, err)
			}
		}
	}
	head, err := b.store.Head(t.Context(), "OTHER", "BOX")
	if err != nil || head.Seq != 1 {
		t.Errorf("the other organization's mailbox is at %+v, %v; want it untouched", head, err)
	}
	var report engine.Report
	if report, err = b.Verify(t.Context(), "OTHER", true); err != nil || len(report.Damaged) > 0 || report.Items != 1 {
		t.Errorf("Verify of the other organization = %+v, %v", report, err)
	}
}

// TestRebuildWithoutFooters makes the catalog anew although the ends of all packs
// of a kind are damaged. Only what mailboxes share can't be found without them,
// until a repair takes the packs apart.
func TestRebuildWithoutFooters(t *testing.T) {
	for _, kind := range []string{"d", "m"} {
		t.Run(kind, func(t *testing.T) {
			b, p, storage := mendBench(t)
			p.add("inbox", "the last", []byte("its text"))
			b.run(p)
			want := b.image(b.newest())
			for _, key := range keysBelow(t, storage, "t/"+string(org)+"/"+kind+"/") {
				storage.Set(key, harms["flip end"](bytes.Clone(contentOf(t, storage, key))))
			}
			again := openBench(t, b.store, storage)
			if err := again.Rebuild(t.Context(), org); err != nil {
				t.Fatal(err)
			}
			got := again.imageLeft(again.newest())
			for id, text := range want {
				shared := kind == "d" && strings.Contains(text, "letter 1 of")
				if got[id] != text && !shared {
					t.Errorf("%s came back as %.80q, want %.80q", id, got[id], text)
				}
			}
			report, err := again.Verify(t.Context(), org, true)
			if err != nil || len(report.Damaged) == 0 {
				t.Errorf("Verify = %+v, %v; want the packs named", report, err)
			}
			if lost := again.mend(); len(lost) > 0 {
				t.Errorf("after a repair %q are lost, although no content was", lost)
			}
			mended := openBench(t, b.store, storage)
			if report, err := mended.Verify(t.Context(), org, true); err != nil || len(report.Damaged) > 0 {
				t.Errorf("after a repair Verify = %q, %v", report.Damaged, err)
			}
			mended.check(mended.newest(), want)
		})
	}
}
