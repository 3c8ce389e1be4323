package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/jobs"
	"holdfast/backup/repo"
	"holdfast/store"
	"holdfast/store/storetest"
)

// leaked is a server's data, of which an organization moves to new keys.
type leaked struct {
	config config
	org    backup.OrgID
	boxes  map[string]backup.Mailbox
}

// perBox is how many messages each mailbox of it has.
const perBox = notes(6)

func newLeaked(t *testing.T) leaked {
	t.Helper()
	ctx, l := t.Context(), leaked{config: config{Data: t.TempDir()}}
	st, eng := openConfig(t, l.config)
	defer st.Close()
	w := storetest.Fill(t, st)
	var accounts []backup.Mailbox
	for n := range 60 { // each has packs of its own
		accounts = append(accounts, storetest.Account(fmt.Sprint("box", n)))
	}
	l.org = w.Contoso.ID
	_, l.boxes = storetest.Connect(t, st, w.Ada, "one", accounts...)
	for _, m := range l.boxes {
		if _, err := eng.Backup(ctx, engine.Job{Org: l.org, Mailbox: m.ID, Source: perBox}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := st.BeginRekey(ctx, w.Owner.Partner.ID, l.org, w.Owner); err != nil {
		t.Fatal(err)
	}
	return l
}

// row is how the move stands.
func (l leaked) row(t *testing.T, st *store.Store) backup.Upkeep {
	t.Helper()
	kinds, err := st.Upkeeps(t.Context(), l.org)
	if err != nil {
		t.Fatal(err)
	}
	return kinds[backup.UpkeepRekey]
}

// objects counts what the organization has in the repository.
func (l leaked) objects(t *testing.T, storage repo.Storage) (n int) {
	t.Helper()
	for _, err := range storage.List(t.Context(), "t/"+string(l.org)+"/") {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// TestKilledWhileRekeying kills the server with SIGKILL again and again while it
// moves an organization to new keys. When the grace is over the old keys are
// destroyed, and everything is there under the new ones.
func TestKilledWhileRekeying(t *testing.T) {
	l := newLeaked(t)
	st, _ := openConfig(t, l.config)
	storage, err := repo.OpenDir(filepath.Join(l.config.Data, "repository"))
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, args: []string{"serve", "-addr", freeAddr(t), "-data", l.config.Data, "-workers", "1"}}
	s.start()
	waits := func() bool { return !l.row(t, st).NextAt.IsZero() } // for the grace
	until := func(is func() bool) {
		t.Helper()
		for deadline := time.Now().Add(4 * time.Minute); !is(); time.Sleep(time.Millisecond) { // another process works
			if time.Now().After(deadline) {
				t.Fatalf("it does not go on: %+v %s", l.row(t, st), s.now.logged())
			}
		}
	}
	killed := 0
	for range killCount(4) {
		goal := l.objects(t, storage) + 1 + rand.IntN(40) // the moments are random on purpose
		until(func() bool { return l.objects(t, storage) >= goal || waits() })
		if !waits() {
			killed++
		}
		s.now.kill()
		s.start()
	}
	until(waits)
	s.now.kill()
	t.Logf("killed %d times in the middle", killed)
	if u := l.row(t, st); u.State != backup.UpkeepOK || u.Done == 0 || u.Done >= u.Total {
		t.Errorf("the move stands at %+v", u)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) { l.endsAfterTheGrace(t) })
}

// endsAfterTheGrace does the rest of the move in a bubble, whose time begins long ago.
func (l leaked) endsAfterTheGrace(t *testing.T) {
	st, eng := openConfig(t, l.config)
	defer st.Close()
	r := &jobs.Runner{Store: st, Engine: eng, Log: slog.New(slog.DiscardHandler)}
	for passes := 0; ; passes++ {
		u := l.row(t, st)
		if u.NextAt.IsZero() {
			break
		}
		if passes > 5 {
			t.Fatalf("it does not end: %+v", u)
		}
		time.Sleep(time.Until(u.NextAt))
		if _, err := r.Upkeep(t.Context(), l.org, backup.UpkeepRekey, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := st.TenantKey(t.Context(), string(l.org), 0); !errors.Is(err, repo.ErrNoKey) {
		t.Errorf("the old key = %v, want ErrNoKey", err)
	}
	for _, m := range l.boxes {
		items, _, err := st.Items(t.Context(), l.org, m.ID, 1, store.ItemQuery{PageSize: 100})
		if err != nil || len(items) != int(perBox) {
			t.Fatalf("%d messages of %s, %v; want %d", len(items), m.Name, err, perBox)
		}
		for _, i := range items {
			var text bytes.Buffer
			if err := eng.WriteItem(t.Context(), l.org, m.ID, i.ID, &text); err != nil || text.String() != perBox.text(i.ProviderID) {
				t.Errorf("message %s of %s: %q, %v", i.ProviderID, m.Name, text.String(), err)
			}
		}
	}
	if report, err := eng.Verify(t.Context(), l.org, true); err != nil || len(report.Damaged) > 0 || report.Packs == 0 {
		t.Errorf("Verify = %+v, %v", report, err)
	}
	standing, err := eng.Repo.Standing(t.Context(), string(l.org))
	if err != nil || standing.Old+len(standing.Retained) != 0 {
		t.Errorf("%+v stands, %v", standing, err)
	}
}
