package jobs_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/jobs"
	"holdfast/backup/repo"
	"holdfast/backup/repo/storagetest"
	"holdfast/store/storetest"
)

// TestReplicaIsKept copies a repository twice, and shows how it went.
func TestReplicaIsKept(t *testing.T) {
	st := storetest.Open(t)
	org := string(storetest.Fill(t, st).Contoso.ID)
	ctx := t.Context()
	from, to := repo.NewMemory(), repo.NewMemory()
	r, err := repo.Open(ctx, from, st, repo.NewMemoryIndex(), repo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	commit := func(seq int64) {
		t.Helper()
		w, err := r.NewWriter(ctx, org, "box")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.PutContent(ctx, bytes.NewReader(bytes.Repeat([]byte{byte(seq)}, 5000))); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Commit(ctx, repo.Commit{Seq: seq, At: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	broken := errors.New("the bucket is gone")
	var opened error
	runner := &jobs.Runner{Store: st, Log: slog.New(slog.DiscardHandler), Replica: &jobs.Replica{Place: "elsewhere", Every: time.Hour,
		Open: func(context.Context) (repo.Storage, repo.Storage, error) { return from, to, opened }}}
	for seq, want := range []int64{0, 2, 2} { // a pack and a commit each
		if seq == 0 {
			continue
		}
		commit(int64(seq))
		got, err := runner.Replicate(ctx)
		if err != nil || got.Copied != want || got.There != got.Objects || got.Damaged != 0 {
			t.Errorf("copy %d = %+v, %v; want %d objects copied", seq, got, err, want)
		}
	}
	kept, err := st.Replica(ctx, "elsewhere")
	if err != nil || kept.Running || kept.OKAt.IsZero() || kept.Objects != 4 || kept.There != 4 {
		t.Errorf("Replica = %+v, %v; want all four objects there", kept, err)
	}
	if len(storagetest.Keys(t, to, "t/")) != 4 {
		t.Error("the copy lacks objects")
	}

	opened = broken
	if _, err := runner.Replicate(ctx); !errors.Is(err, broken) {
		t.Errorf("Replicate = %v, want its cause", err)
	}
	failed, err := st.Replica(ctx, "elsewhere")
	if err != nil || failed.Running || failed.Problem.Kind != backup.ProblemRepository || !failed.OKAt.Equal(kept.OKAt) {
		t.Errorf("Replica = %+v, %v; want its problem and the last good one", failed, err)
	}

	opened = nil
	for key := range packsOf(t, from) {
		from.Set(key, append(storagetest.Object(t, from, key)[:100], 1))
		if err := to.Delete(ctx, key); err != nil {
			t.Fatal(err)
		}
		break
	}
	if got, err := runner.Replicate(ctx); err != nil || got.Damaged != 1 {
		t.Errorf("copy of a damaged pack = %+v, %v; want it counted", got, err)
	}
}

func packsOf(t *testing.T, s repo.Storage) map[string]bool {
	t.Helper()
	packs := map[string]bool{}
	for _, key := range storagetest.Keys(t, s, "t/") {
		if !bytes.Contains([]byte(key), []byte("/c/")) {
			packs[key] = true
		}
	}
	return packs
}

// TestTheCopyFollowsAnErasure erases a mailbox: when collections have freed what
// it had, the copy has nothing of it either, and all of the others.
func TestTheCopyFollowsAnErasure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, ctx := keep(t, storetest.Open(t), someLetters(5)), t.Context()
		org := k.w.Contoso.ID
		if _, err := k.Engine.Backup(ctx, engine.Job{Org: org, Mailbox: "SECOND", Source: someLetters(3)}); err != nil {
			t.Fatal(err)
		}
		to := k.copyTo(t)
		r := k.on(t, k.storage)
		r.Replica = k.Replica
		if err := r.Erase(ctx, org, k.ask(t).ID); err != nil {
			t.Fatal(err)
		}
		replicate := func() {
			t.Helper()
			if _, err := r.Replicate(ctx); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 {
			if _, err := r.Engine.Collect(ctx, org); err != nil {
				t.Fatal(err)
			}
			replicate()
			time.Sleep(repo.Grace + time.Hour)
		}
		here, there := k.objects(t, "t/"), storagetest.Keys(t, to, "t/")
		lasting := slices.DeleteFunc(slices.Clone(there), func(key string) bool { return !repo.Lasting(key) })
		if !slices.Equal(here, there) || len(lasting) != 3 {
			t.Errorf("the copy has %q, the repository %q; want one mailbox's packs and commit, and the log", there, here)
		}
		copied, err := repo.Open(ctx, to, k.Store, k.Store, repo.Options{})
		if err != nil {
			t.Fatal(err)
		}
		report, err := (&engine.Engine{Repo: copied, Catalog: k.Store}).Verify(ctx, org, true)
		if err != nil || len(report.Damaged) > 0 || report.Items != 3 {
			t.Errorf("Verify of the copy = %+v, %v", report, err)
		}
	})
}
