package jobs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/jobs"
	"holdfast/backup/repo"
	"holdfast/store"
	"holdfast/store/storetest"
)

// copyTo keeps a copy of the repository, as a replica.
func (k kept) copyTo(t *testing.T) *repo.Memory {
	t.Helper()
	to := repo.NewMemory()
	if _, err := repo.Replicate(t.Context(), k.storage, to, nil, nil); err != nil {
		t.Fatal(err)
	}
	k.Replica = &jobs.Replica{Place: "a copy", Open: func(context.Context) (repo.Storage, repo.Storage, error) { return k.storage, to, nil }}
	return to
}

// TestRepairPutsBackWhatACopyHas damages an object of each kind in every way.
func TestRepairPutsBackWhatACopyHas(t *testing.T) {
	for name, harm := range map[string]func([]byte) []byte{
		"flip":     func(d []byte) []byte { d[len(d)/2] ^= 1; return d },
		"truncate": func(d []byte) []byte { return d[:len(d)/3] },
		"delete":   nil,
	} {
		for _, folders := range [][]string{{"d", "m"}, {"c"}, {"d", "m", "c"}} {
			if name == "flip" && len(folders) == 3 {
				continue // a pack that no commit names is not read; the next check finds it
			}
			t.Run(name+fmt.Sprint(folders), func(t *testing.T) { repairs(t, harm, folders) })
		}
	}
}

func repairs(t *testing.T, harm func([]byte) []byte, folders []string) {
	st := storetest.Open(t)
	k := keep(t, st, someLetters(5))
	k.copyTo(t)
	org, ctx := k.w.Contoso.ID, t.Context()
	whole := map[string][]byte{}
	for _, folder := range folders {
		key := k.objects(t, "t/"+string(org)+"/"+folder+"/")[0]
		whole[key] = k.read(t, key)
		if harm == nil {
			if err := k.storage.Delete(ctx, key); err != nil {
				t.Fatal(err)
			}
		} else {
			k.change(t, key, harm)
		}
	}
	if u := k.do(t, backup.UpkeepData); u.State != backup.UpkeepDamaged {
		t.Fatalf("the check found %+v", u)
	}
	if u := k.do(t, backup.UpkeepRepair); u.State != backup.UpkeepOK || u.Counted != int64(len(folders)) || u.Damaged != 0 {
		t.Errorf("repair = %+v, want what is damaged put back", u)
	}
	for key, want := range whole {
		if !bytes.Equal(k.read(t, key), want) {
			t.Errorf("%s has other bytes than before", key)
		}
	}
	if n, _, err := st.CountDamages(ctx, org); err != nil || n != 0 {
		left, _ := st.Damages(ctx, org, 10)
		t.Errorf("%d damages left, %v: %+v", n, err, left)
	}
	if u := k.do(t, backup.UpkeepAll); u.State != backup.UpkeepOK {
		t.Errorf("a check of everything after the repair = %+v", u)
	}
}

func TestRepairSaysWhatItCantDo(t *testing.T) {
	k := keep(t, storetest.Open(t), someLetters(5))
	org, ctx := k.w.Contoso.ID, t.Context()
	if u := k.do(t, backup.UpkeepRepair); u.State != backup.UpkeepOK || u.Counted != 0 {
		t.Errorf("repair without a copy and without damage = %+v, want nothing done", u)
	}
	to := k.copyTo(t)
	whole := k.Replica.Open
	closed := errors.New("no route to the bucket")
	k.Replica.Open = func(context.Context) (repo.Storage, repo.Storage, error) { return nil, nil, closed }
	if _, err := k.Upkeep(ctx, org, backup.UpkeepRepair, nil); !errors.Is(err, closed) || backup.AsProblem(err).Text != jobs.ProblemCopyClosed {
		t.Errorf("repair from a copy that can't be opened: %v, want its problem", err)
	}
	k.Replica.Open = whole
	key := k.objects(t, "t/"+string(org)+"/d/")[0]
	flip := func(d []byte) []byte { d[len(d)/2] ^= 1; return d }
	k.change(t, key, flip)
	torn := k.read(t, key)
	to.Set(key, flip(flip(bytes.Clone(torn)))) // as it was written
	to.Set(key, torn[:len(torn)/2])            // and then torn as well
	k.do(t, backup.UpkeepData)
	// What the copy can't help with is mended without it: all but one message of the pack.
	if u := k.do(t, backup.UpkeepRepair); u.State != backup.UpkeepDamaged || u.Counted != 1 || u.Damaged == 0 {
		t.Errorf("repair from a copy that is damaged too = %+v, want it said", u)
	}
	if _, err := k.storage.Stat(ctx, key); err != nil {
		t.Errorf("the damaged pack does not wait for its deletion: %v", err)
	}
	// Somebody mends the copy: what was lost comes back from it.
	to.Set(key, flip(bytes.Clone(torn)))
	if u := k.do(t, backup.UpkeepRepair); u.State != backup.UpkeepOK || u.Damaged != 0 {
		t.Errorf("repair from a copy that came later = %+v", u)
	}

	other := repo.NewMemory()
	if _, err := repo.Open(ctx, other, k.Store, k.Store, repo.Options{}); err != nil {
		t.Fatal(err)
	}
	k.Replica.Open = func(context.Context) (repo.Storage, repo.Storage, error) { return k.storage, other, nil }
	meta := k.objects(t, "t/"+string(org)+"/m/")[0]
	k.change(t, meta, flip)
	k.do(t, backup.UpkeepAll)
	_, err := k.Upkeep(ctx, org, backup.UpkeepRepair, nil)
	if backup.AsProblem(err).Text != engine.ProblemNotACopy {
		t.Errorf("repair from another repository: %v, want that it is no copy", err)
	}
}

// TestARepairFromANamedCopyIsNotGoneOnWithoutIt interrupts a repair whose copy was named
// for it alone: nobody goes on by itself without the copy, and gives up what it has.
func TestARepairFromANamedCopyIsNotGoneOnWithoutIt(t *testing.T) {
	k := keep(t, storetest.Open(t), someLetters(5))
	org, ctx := k.w.Contoso.ID, t.Context()
	k.copyTo(t)
	named := k.Replica
	named.Once = true
	key := k.objects(t, "t/"+string(org)+"/d/")[0]
	k.change(t, key, func(d []byte) []byte { d[len(d)/2] ^= 1; return d })
	k.do(t, backup.UpkeepData)
	log := len(k.objects(t, "t/"+string(org)+"/g/"))
	interrupted, interrupt := context.WithCancel(ctx)
	open := named.Open
	named.Open = func(ctx context.Context) (repo.Storage, repo.Storage, error) { interrupt(); return open(ctx) }
	if _, err := k.Upkeep(interrupted, org, backup.UpkeepRepair, nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("repair = %v, want it interrupted", err)
	}
	named.Open = func(context.Context) (repo.Storage, repo.Storage, error) { return nil, nil, errKilled }
	k.Replica = nil
	_, err := k.Upkeep(ctx, org, backup.UpkeepRepair, nil) // by a server
	if backup.AsProblem(err).Text != jobs.ProblemCopyNeeded || len(k.objects(t, "t/"+string(org)+"/g/")) != log {
		t.Errorf("repair without the copy = %v, want that it needs it, and nothing taken apart", err)
	}
	k.Replica = named
	if _, err := k.Upkeep(ctx, org, backup.UpkeepRepair, nil); backup.AsProblem(err).Text != jobs.ProblemCopyClosed {
		t.Errorf("repair from a copy that can't be opened = %v", err)
	}
	if due, err := k.Store.DueAgain(ctx, time.Now().Add(48*time.Hour)); err != nil || len(due) > 0 {
		t.Errorf("%v is tried again by itself, %v; want nothing", due, err)
	}
	named.Open = open
	if u := k.do(t, backup.UpkeepRepair); u.State != backup.UpkeepOK || u.Counted != 1 {
		t.Errorf("repair from the copy = %+v, want the pack put back", u)
	}
}

var errKilled = errors.New("killed")

// stopped is a catalog whose n-th commit does not arrive.
type stopped struct {
	*store.Store
	left int
}

func (s *stopped) ApplyCommit(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, d engine.Delta) error {
	if s.left--; s.left < 0 {
		return errKilled
	}
	return s.Store.ApplyCommit(ctx, org, mailbox, d)
}

// TestRebuildGoesOnWhereItWasInterrupted stops the process in the middle of a
// rebuild: what it had taken in is not taken in again.
func TestRebuildGoesOnWhereItWasInterrupted(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		k := keep(t, st, someLetters(5))
		org, ctx := k.w.Contoso.ID, t.Context()
		if _, err := k.Engine.Backup(ctx, engine.Job{Org: org, Mailbox: "SECOND", Source: someLetters(3)}); err != nil {
			t.Fatal(err)
		}
		heads := func() any {
			list, err := st.Heads(ctx)
			if err != nil {
				t.Fatal(err)
			}
			found := map[backup.MailboxID]int64{}
			for _, h := range list {
				found[h.Mailbox] = h.Seq
			}
			return found
		}
		before := heads()
		if err := st.AskUpkeep(ctx, k.w.Owner.Partner.ID, org, backup.UpkeepRebuild, k.w.Owner); err != nil {
			t.Fatal(err)
		}
		killed, kill := context.WithCancel(ctx)
		k.Engine.Catalog = &dying{Store: st, kill: kill}
		if _, err := k.Upkeep(killed, org, backup.UpkeepRebuild, nil); !errors.Is(err, context.Canceled) {
			t.Fatalf("interrupted rebuild: %v", err)
		}
		kinds, err := st.Upkeeps(ctx, org)
		if err != nil || kinds[backup.UpkeepRebuild].State != backup.UpkeepWaiting {
			t.Fatalf("after the interruption: %+v, %v; want it waiting", kinds[backup.UpkeepRebuild], err)
		}
		if _, err := k.Upkeep(ctx, org, backup.UpkeepProveItem, nil); !errors.Is(err, backup.ErrConflict) {
			t.Errorf("a restore test while the catalog is made anew: %v, want it to wait", err)
		}
		counting := &stopped{st, 1} // only the second mailbox is left
		k.Engine.Catalog = counting
		if u := k.do(t, backup.UpkeepRebuild); u.State != backup.UpkeepOK || u.Counted != 2 || counting.left != 0 {
			t.Errorf("rebuild after the interruption = %+v with %d commits too many, want it to go on with one", u, -counting.left)
		}
		if after := heads(); !reflect.DeepEqual(after, before) {
			t.Errorf("the catalog is at %v, want %v", after, before)
		}
		if u := k.do(t, backup.UpkeepProveItem); u.State != backup.UpkeepOK || u.Counted != 1 {
			t.Errorf("a restore test after the rebuild = %+v", u)
		}
		// Asked for again it begins anew.
		counting.left = 2
		if u := k.do(t, backup.UpkeepRebuild); u.State != backup.UpkeepOK || counting.left != 0 {
			t.Errorf("another rebuild = %+v, %d commits not taken in; want both mailboxes", u, counting.left)
		}
	})
}

// dying is a catalog whose process ends with the first commit that arrived.
type dying struct {
	*store.Store
	kill func()
	one  sync.Mutex // commits of other mailboxes arrive at the same time
}

func (d *dying) ApplyCommit(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, delta engine.Delta) error {
	d.one.Lock()
	defer d.one.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	err := d.Store.ApplyCommit(ctx, org, mailbox, delta)
	d.kill()
	return err
}
