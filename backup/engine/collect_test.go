package engine_test

import (
	"context"
	"strings"
	"testing"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/repo"
	"holdfast/store"
)

// listed is a catalog that lists the mailbox of the tests, which no connection
// has.
type listed struct{ *store.Store }

func (l listed) Heads(ctx context.Context) ([]engine.MailboxHead, error) {
	h, err := l.Head(ctx, org, mailbox)
	return []engine.MailboxHead{{Org: org, Mailbox: mailbox, Seq: h.Seq}}, err
}

// TestCollectNeedsAllSnapshots takes the commits of the repository away, as a
// folder that is not mounted does: nothing may be condemned then.
func TestCollectNeedsAllSnapshots(t *testing.T) {
	b, p := newBench(t), newProvider()
	p.add("inbox", "a", []byte(strings.Repeat("text ", 1000)))
	b.run(p)
	b.Catalog = listed{b.store}
	if c, err := b.Collect(t.Context(), org); err != nil || c.Condemned != 0 || c.Packs == 0 {
		t.Fatalf("Collect = %+v, %v; want packs and none condemned", c, err)
	}
	var commits []string
	for e, err := range b.storage.List(t.Context(), "t/"+string(org)+"/c/") {
		if err != nil {
			t.Fatal(err)
		}
		commits = append(commits, e.Key)
	}
	for _, key := range commits {
		if err := b.storage.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	if c, err := b.Collect(t.Context(), org); backup.KindOf(err) == "" || c != (repo.Collection{}) {
		t.Errorf("Collect = %+v, %v; want a problem and nothing condemned", c, err)
	}
	for e, err := range b.storage.List(t.Context(), "t/"+string(org)+"/g/") {
		t.Errorf("the deletion log has %s (%v)", e.Key, err)
	}
}
