package jobs_test

import (
	"context"
	"io"
	"log/slog"
	"strings"
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

// slowStorage takes time to read anything.
type slowStorage struct {
	repo.Storage
	takes time.Duration
}

func (s slowStorage) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	time.Sleep(s.takes)
	return s.Storage.Open(ctx, key, offset, length)
}

// expired backs a mailbox up on two days and keeps one of them.
func expired(t *testing.T, st *store.Store) kept {
	t.Helper()
	letters := someLetters(6)
	k := keep(t, st, letters)
	time.Sleep(48 * time.Hour)
	clear(letters)
	letters["new"] = "Subject: new\r\n\r\n" + strings.Repeat("new ", 100)
	if _, err := k.Engine.Backup(t.Context(), engine.Job{Org: k.w.Contoso.ID, Mailbox: k.mailbox.ID, Source: letters}); err != nil {
		t.Fatal(err)
	}
	if err := st.SaveRetention(t.Context(), k.w.Contoso.ID, backup.Retention{Mode: backup.RetainPeriods, Daily: 1}, k.w.Ada); err != nil {
		t.Fatal(err)
	}
	return k
}

func TestACollectionIsKeptForThePages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		k := expired(t, st)
		u := k.do(t, backup.UpkeepCollect)
		if u.State != backup.UpkeepOK || u.Counted == 0 || u.Bytes != 0 || len(k.snapshots(t)) != 1 || !u.NextAt.Equal(u.EndedAt.Add(24*time.Hour)) {
			t.Errorf("the first collection = %+v with %d snapshots left; want one left, nothing freed yet, and the next in a day", u, len(k.snapshots(t)))
		}
		time.Sleep(repo.Grace)
		if u := k.do(t, backup.UpkeepCollect); u.State != backup.UpkeepOK || u.Bytes == 0 {
			t.Errorf("the second collection = %+v, want bytes freed", u)
		}
		if kinds, err := st.Upkeeps(t.Context(), k.w.Fabrikam.ID); err != nil || len(kinds) != 0 {
			t.Errorf("another organization has %v, %v", kinds, err)
		}

		// What keeps it from being done is told where it is shown, and by nobody's e-mail.
		for _, key := range k.objects(t, "t/"+string(k.w.Contoso.ID)+"/c/") {
			k.change(t, key, func(d []byte) []byte { d[len(d)/2] ^= 1; return d })
		}
		if _, err := k.Upkeep(t.Context(), k.w.Contoso.ID, backup.UpkeepCollect, nil); err == nil {
			t.Error("it collects although a snapshot can't be read")
		}
		kinds, err := st.Upkeeps(t.Context(), k.w.Contoso.ID)
		if u := kinds[backup.UpkeepCollect]; err != nil || u.State != backup.UpkeepFailed || !strings.Contains(u.Problem.Text, "holdfast verify") || u.NextAt.IsZero() {
			t.Errorf("a collection that can't be done = %+v, %v", u, err)
		}
		if err := k.Notice(t.Context(), time.Now()); err != nil {
			t.Fatal(err)
		}
		if got := open(t, st, k.w.Contoso.ID); len(got) != 0 {
			t.Errorf("notifications %v", got)
		}
	})
}

// TestALongCollectionIsAliveAndSaysHowFarItIs walks through a storage that is slower
// than work may be silent.
func TestALongCollectionIsAliveAndSaysHowFarItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		k := expired(t, st)
		k.do(t, backup.UpkeepCollect) // snapshots expire, which the next one walks for
		time.Sleep(repo.Grace)
		r, err := repo.Open(t.Context(), slowStorage{k.storage, 40 * time.Second}, st, st, repo.Options{})
		if err != nil {
			t.Fatal(err)
		}
		slow := &jobs.Runner{Store: st, Engine: &engine.Engine{Repo: r, Catalog: st}, Log: slog.New(slog.DiscardHandler)}
		began, longest, last := time.Now(), time.Duration(0), time.Now()
		var far backup.Upkeep
		if _, err := slow.Upkeep(t.Context(), k.w.Contoso.ID, backup.UpkeepCollect, func(u backup.Upkeep) {
			longest, last, far = max(longest, time.Since(last)), time.Now(), u
		}); err != nil {
			t.Fatal(err)
		}
		if time.Since(began) < 2*time.Minute || longest > 3*time.Second || far.Total != 1 {
			t.Errorf("it took %s, was silent for %s, and came to %d of %d mailboxes", time.Since(began), longest, far.Done, far.Total)
		}
	})
}
