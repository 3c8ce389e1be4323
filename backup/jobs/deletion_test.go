package jobs

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/repo"
	"holdfast/store"
	"holdfast/store/storetest"
)

// dyingStorage lets the process die, which is what kill stands for, before a
// deletion of an object; locked objects are refused.
type dyingStorage struct {
	*repo.Dir
	left   int // deletions until then, -1 for never
	kill   context.CancelFunc
	locked bool
	until  time.Time
}

func (s *dyingStorage) Delete(ctx context.Context, key string) error {
	if s.left == 0 {
		s.kill()
		return ctx.Err()
	}
	s.left--
	if s.locked && repo.Lasting(key) {
		return fmt.Errorf("%s: %w", key, repo.ErrRetained)
	}
	return s.Dir.Delete(ctx, key)
}

func (s *dyingStorage) LockedUntil(context.Context, string) (time.Time, error) { return s.until, nil }

// doomed is a store with two organizations whose mailboxes are backed up in a
// folder with a copy. Contoso is to be deleted.
type doomed struct {
	*deleteOrganization
	w       storetest.World
	folder  string
	storage *dyingStorage
}

func newDoomed(t *testing.T, st *store.Store) doomed {
	t.Helper()
	d := doomed{w: storetest.Fill(t, st), folder: t.TempDir()}
	dir, err := repo.OpenDir(filepath.Join(d.folder, "repository"))
	if err != nil {
		t.Fatal(err)
	}
	copied, err := repo.OpenDir(filepath.Join(d.folder, "copy"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close(); copied.Close() })
	d.storage = &dyingStorage{Dir: dir, left: -1}
	r, err := repo.Open(t.Context(), d.storage, st, st, repo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d.deleteOrganization = &deleteOrganization{Runner: &Runner{Store: st, Engine: &engine.Engine{Repo: r, Catalog: st}, Log: slog.New(slog.DiscardHandler)}}
	for i, by := range []backup.Actor{d.w.Ada, d.w.Otto} {
		_, boxes := storetest.Connect(t, st, by, fmt.Sprint("tenant-", i), storetest.Account("a"))
		if _, err := d.Engine.Backup(t.Context(), engine.Job{Org: by.Org.ID, Mailbox: boxes["a"].ID, Source: &slowBox{n: 20, size: 1000}}); err != nil {
			t.Fatal(err)
		}
	}
	d.Replica = &Replica{Place: "copy", Open: func(context.Context) (repo.Storage, repo.Storage, error) { return dir, copied, nil }}
	if _, err := d.Replicate(t.Context()); err != nil {
		t.Fatal(err)
	}
	org := d.w.Contoso
	if err := st.SetSuspended(t.Context(), org.PartnerID, org.ID, true, "The contract ended", d.w.Owner); err != nil {
		t.Fatal(err)
	}
	if err := st.StartDeletion(t.Context(), org.PartnerID, org.ID, backup.DeletionWish{Name: org.Name, Reason: "The contract ended"}, d.w.Owner); err != nil {
		t.Fatal(err)
	}
	return d
}

// work is a try of the job, which ends when the process dies.
func (d doomed) work(t *testing.T) error {
	t.Helper()
	ctx, kill := context.WithCancel(t.Context())
	defer kill()
	d.storage.kill = kill
	return d.Work(ctx, &river.Job[backup.DeleteOrganizationJob]{Args: backup.DeleteOrganizationJob{OrgID: d.w.Contoso.ID}})
}

// isGone looks for what is left of Contoso, and whether Fabrikam's stays.
func (d doomed) isGone(t *testing.T) {
	t.Helper()
	for _, place := range []string{"repository", "copy"} {
		if _, err := os.Stat(filepath.Join(d.folder, place, "t", string(d.w.Contoso.ID))); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the %s has a folder of the deleted organization: %v", place, err)
		}
		if _, err := os.Stat(filepath.Join(d.folder, place, "t", string(d.w.Fabrikam.ID))); err != nil {
			t.Errorf("the %s of the other organization: %v", place, err)
		}
	}
	row, err := d.Store.DeletionByID(t.Context(), d.w.Contoso.ID)
	if err != nil || row.Step != backup.DeletionDone || row.EndedAt.IsZero() || !row.NextTryAt.IsZero() {
		t.Errorf("the deletion is %+v, %v", row, err)
	}
	if row.Objects == 0 {
		t.Error("no object was deleted")
	}
	if _, err := d.Store.OrganizationByID(t.Context(), d.w.Contoso.ID); !errors.Is(err, backup.ErrNotFound) {
		t.Errorf("the organization = %v, want ErrNotFound", err)
	}
	page, err := d.Store.Mailboxes(t.Context(), d.w.Fabrikam.ID, store.MailboxQuery{})
	if err != nil || len(page.Mailboxes) != 1 {
		t.Fatalf("the other organization has %d mailboxes, %v", len(page.Mailboxes), err)
	}
	items, _, err := d.Store.Items(t.Context(), d.w.Fabrikam.ID, page.Mailboxes[0].ID, 1, store.ItemQuery{})
	if err != nil || len(items) == 0 {
		t.Fatalf("the other organization has %d items, %v", len(items), err)
	}
	if err := d.Engine.WriteItem(t.Context(), d.w.Fabrikam.ID, page.Mailboxes[0].ID, items[0].ID, io.Discard); err != nil {
		t.Errorf("the other organization's message: %v", err)
	}
}

// TestADeletionGoesOnAfterAKill kills the process before each object that it
// deletes, and starts it again.
func TestADeletionGoesOnAfterAKill(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		d := newDoomed(t, st)
		for kills := 0; ; kills++ {
			d.storage.left = 1
			err := d.work(t)
			if err == nil {
				if kills < 2 {
					t.Errorf("it was killed %d times, want more often", kills)
				}
				break
			}
			if !errors.Is(err, context.Canceled) || kills > 100 {
				t.Fatal(err)
			}
		}
		d.isGone(t)
	})
}

// TestADeletionNamesTheCopyThatItDoesNotReach is done by a worker that was started
// without the place of the copy.
func TestADeletionNamesTheCopyThatItDoesNotReach(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		d := newDoomed(t, st)
		replica := d.Replica
		d.Replica = nil
		if err := d.work(t); err != nil {
			t.Fatal(err)
		}
		row, err := st.DeletionByID(t.Context(), d.w.Contoso.ID)
		if err != nil || row.Open() {
			t.Fatalf("the deletion is %+v, %v", row, err)
		}
		if len(row.Left) != 1 || row.Left[0].Place != "copy" || !strings.Contains(row.Left[0].How, "t/"+string(d.w.Contoso.ID)) {
			t.Errorf("left are %+v, want the folder in the copy", row.Left)
		}
		if _, err := os.Stat(filepath.Join(d.folder, "copy", "t", string(d.w.Contoso.ID))); err != nil {
			t.Errorf("the copy: %v, want it named because it is there", err)
		}
		d.Replica = replica // the next worker reaches it
		if _, err := d.Replicate(t.Context()); err != nil {
			t.Fatal(err)
		}
		d.isGone(t)
	})
}

// TestEachStepOfADeletionMayBeDoneTwice loses the word that a step was done.
func TestEachStepOfADeletionMayBeDoneTwice(t *testing.T) {
	storetest.EachRaw(t, func(t *testing.T, st *store.Store, raw *sql.DB) {
		d, ctx := newDoomed(t, st), t.Context()
		for n := 0; ; n++ {
			row, err := st.DeletionByID(ctx, d.w.Contoso.ID)
			if err != nil || n > 20 {
				t.Fatal(err, n)
			}
			if !row.Open() {
				break
			}
			lost := row
			if err := d.step(ctx, &lost); err != nil {
				t.Fatalf("%s: %v", row.Step, err)
			}
			if _, err := raw.ExecContext(ctx, `UPDATE deletions SET step = $1, step_at = $2 WHERE org_id = $3`, row.Step, row.StepAt.UnixMilli(), row.OrgID); err != nil {
				t.Fatal(err)
			}
			if err := d.step(ctx, &row); err != nil {
				t.Fatalf("%s, a second time: %v", row.Step, err)
			}
		}
		row, err := st.DeletionByID(ctx, d.w.Contoso.ID)
		if err != nil || row.Step != backup.DeletionDone {
			t.Errorf("the deletion is %+v, %v", row, err)
		}
	})
}

// TestADeletionWaitsForWhatRuns has a job of the organization and a copying under
// way, in another process; and a job that begins too late.
func TestADeletionWaitsForWhatRuns(t *testing.T) {
	storetest.EachRaw(t, func(t *testing.T, st *store.Store, raw *sql.DB) {
		d, ctx := newDoomed(t, st), t.Context()
		if err := st.Enqueue(ctx, backup.UpkeepJob{OrgID: d.w.Contoso.ID, Work: backup.UpkeepStructure}); err != nil {
			t.Fatal(err)
		}
		if err := st.Enqueue(ctx, backup.ReplicateJob{}); err != nil {
			t.Fatal(err)
		}
		run := func(kind, state string) {
			t.Helper()
			if _, err := raw.ExecContext(ctx, `UPDATE river_job SET state = $1 WHERE kind = $2`, state, kind); err != nil {
				t.Fatal(err)
			}
		}
		at := func(want backup.DeletionStep) {
			t.Helper()
			row, err := st.DeletionByID(ctx, d.w.Contoso.ID)
			if err != nil {
				t.Fatal(err)
			}
			row.NextTryAt = time.Now()
			if err := st.SaveDeletion(ctx, row); err != nil {
				t.Fatal(err)
			}
			if err := d.work(t); err != nil {
				t.Fatal(err)
			}
			if row, err = st.DeletionByID(ctx, d.w.Contoso.ID); err != nil || row.Step != want {
				t.Fatalf("the deletion is at %s, %v, want %s", row.Step, err, want)
			}
		}
		run("upkeep", "running")
		run("replicate", "running")
		at(backup.DeletionStop)
		run("upkeep", "available")
		at(backup.DeletionCopy)
		if n := waitingJobs(t, raw, "upkeep"); n != 0 {
			t.Errorf("%d jobs of the organization are in the queue", n)
		}
		run("replicate", "available")
		at(backup.DeletionDone)
		d.isGone(t)
		done := false
		if err := d.refuseDeleted(ctx, jobRow(t, backup.UpkeepJob{OrgID: d.w.Contoso.ID}), func(context.Context) error { done = true; return nil }); err != nil || done {
			t.Errorf("a job of the deleted organization began: %t, %v", done, err)
		}
		if err := d.refuseDeleted(ctx, jobRow(t, backup.UpkeepJob{OrgID: d.w.Fabrikam.ID}), func(context.Context) error { done = true; return nil }); err != nil || !done {
			t.Errorf("a job of another organization began: %t, %v", done, err)
		}
	})
}

// TestLockedObjectsAreDeletedLater has objects that nobody can delete before their
// locks end.
func TestLockedObjectsAreDeletedLater(t *testing.T) {
	st := storetest.Open(t)
	d, ctx := newDoomed(t, st), t.Context()
	d.storage.locked, d.storage.until = true, time.Now().Add(30*24*time.Hour)
	if err := d.work(t); err != nil {
		t.Fatal(err)
	}
	row, err := st.DeletionByID(ctx, d.w.Contoso.ID)
	if err != nil || row.Step != backup.DeletionRetained || row.Retained == 0 || !row.NextTryAt.Equal(row.RetainedUntil) || row.EndedAt.IsZero() {
		t.Fatalf("the deletion is %+v, %v", row, err)
	}
	if _, err := st.OrganizationByID(ctx, d.w.Contoso.ID); !errors.Is(err, backup.ErrNotFound) {
		t.Errorf("the organization = %v, want ErrNotFound", err)
	}
	d.storage.locked = false
	row.NextTryAt = time.Now()
	if err := st.SaveDeletion(ctx, row); err != nil {
		t.Fatal(err)
	}
	if err := d.work(t); err != nil {
		t.Fatal(err)
	}
	d.isGone(t)
}

// waitingJobs counts jobs of a kind in the queue.
func waitingJobs(t *testing.T, raw *sql.DB, kind string) (n int) {
	t.Helper()
	if err := raw.QueryRowContext(t.Context(), `SELECT count(*) FROM river_job WHERE kind = $1 AND state IN ('available', 'running')`, kind).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// jobRow is a job as the queue has it.
func jobRow(t *testing.T, args river.JobArgs) *rivertype.JobRow {
	t.Helper()
	data, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	return &rivertype.JobRow{Kind: args.Kind(), EncodedArgs: data}
}
