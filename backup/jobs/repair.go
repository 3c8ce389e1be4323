package jobs

import (
	"context"
	"fmt"
	"time"

	"holdfast/backup"
	"holdfast/backup/repo"
)

// ProblemCopyClosed is what people read when the copy can't be opened.
const ProblemCopyClosed = "The copy of the backup storage could not be opened, so nothing was repaired. The cause is in the log: " +
	"check that its disk or bucket can be reached, and choose Repair again."

// ProblemCopyNeeded is what people read when a repair can't be gone on with by itself.
const ProblemCopyNeeded = "A repair from a copy of the backup storage was interrupted, and that copy was named for it alone. " +
	"Run holdfast repair -from again. To go on without that copy, choose Repair, or run holdfast repair, once more."

// stepCopy says that a repair has a copy that was named for it alone.
const stepCopy = "copy"

// withCopy sees to it that a repair whose copy was named for it alone is not gone on
// with by who has no such copy, and would give up what that has.
func (t *task) withCopy(ctx context.Context) error {
	given := t.Replica != nil && t.Replica.Once
	t.once = given || t.u.Step == stepCopy
	switch {
	case given:
		return t.Store.StepUpkeep(ctx, t.u.OrgID, t.u.Kind, stepCopy)
	case t.once:
		return &backup.Problem{Kind: backup.ProblemRepository, Text: ProblemCopyNeeded, At: time.Now()}
	}
	return nil
}

// repair puts the objects that are known to be damaged, or not there, back from
// the copy of the repository, if there is one, and looks at them again. What is
// left then is mended without.
func (t *task) repair(ctx context.Context) error {
	if err := t.withCopy(ctx); err != nil {
		return err
	}
	from, err := t.copyOf(ctx)
	if err != nil {
		return err
	}
	back, err := t.fromCopy(ctx, from)
	if err != nil {
		return err
	}
	mended, err := t.mend(ctx, from)
	if err != nil {
		return err
	}
	t.u.Counted, t.u.Bytes = back+mended, 0
	if t.u.Damaged, _, err = t.Store.CountDamages(ctx, t.u.OrgID); err != nil {
		return err
	}
	return t.acceptLoss(ctx)
}

// acceptLoss names the newest snapshots that are lost for good, and lets later
// checks and collections go on without them.
func (t *task) acceptLoss(ctx context.Context) error {
	lost, err := t.Engine.AcceptLoss(ctx, t.u.OrgID)
	for _, l := range lost {
		t.Log.Error("newest snapshot is lost", "organization", l.Org, "mailbox", l.Mailbox, "snapshot", l.Seq, "newest", l.Last)
	}
	return err
}

// suspect names what a check of the structure does not see and the engine stumbles over.
func (t *task) suspect(ctx context.Context) error {
	keys, err := t.Engine.Suspects(ctx, t.u.OrgID)
	for _, key := range keys {
		if t.found[key] {
			continue
		}
		t.finds(key)
		if err := t.Store.NoteDamage(ctx, backup.Damage{OrgID: t.u.OrgID, Object: key, How: key + ": snapshots that are not in the catalog, or only the catalog, need it, and it is damaged or not there"}); err != nil {
			return err
		}
	}
	return err
}

// copyOf opens the copy of the repository; without one it is nil.
func (t *task) copyOf(ctx context.Context) (repo.Storage, error) {
	if t.Replica == nil {
		return nil, nil //nolint:nilnil // there may be none
	}
	_, from, err := t.Replica.Open(ctx)
	if err != nil {
		return nil, &backup.Problem{Kind: backup.ProblemRepository, Text: ProblemCopyClosed, At: time.Now(), Err: fmt.Errorf("open the copy: %w", err)}
	}
	return from, nil
}

// fromCopy returns how many objects were put back from the copy, if there is one.
func (t *task) fromCopy(ctx context.Context, from repo.Storage) (back int64, err error) {
	tried := map[string]bool{}
	for {
		// It finds what is not there, and looks at what was damaged as deep as it takes.
		t.u.Counted, t.u.Bytes, t.u.Damaged = 0, 0, 0
		clear(t.found)
		if err := t.checkStructure(ctx); err != nil {
			return back, err
		}
		if err := t.suspect(ctx); err != nil {
			return back, err
		}
		keys, err := t.damagedObjects(ctx, tried)
		if err != nil || len(keys) == 0 || from == nil {
			return back, err
		}
		n, err := t.putBack(ctx, from, keys)
		back += n
		if err != nil {
			return back, err
		}
	}
}

// damagedObjects lists the objects that are known to be damaged and were not
// tried yet: a commit that is whole again may name packs that are not there.
func (t *task) damagedObjects(ctx context.Context, tried map[string]bool) ([]string, error) {
	known, err := t.Store.Damages(ctx, t.u.OrgID, knownDamages)
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, d := range known {
		if objectKind(d.Object) != 0 && !tried[d.Object] {
			tried[d.Object] = true
			keys = append(keys, d.Object)
		}
	}
	return keys, nil
}

// putBack returns how many objects are whole now.
func (t *task) putBack(ctx context.Context, from repo.Storage, keys []string) (back int64, err error) {
	done := int64(0)
	err = t.Engine.PutBack(ctx, t.u.OrgID, from, keys, func(key string, err error) error {
		if done++; err == nil {
			back++
			t.Log.Info("object put back", "organization", t.u.OrgID, "object", key)
		} else {
			t.Log.Error("object not put back", "organization", t.u.OrgID, "object", key, "error", err)
		}
		return t.progress(ctx, done, int64(len(keys)))
	})
	return back, err
}

// stepRefill says that the catalog was cleared, and is filled again.
const stepRefill = "refill"

// rebuild makes the catalog anew. Interrupted, it goes on with the mailboxes
// that are missing.
func (t *task) rebuild(ctx context.Context) error {
	if t.u.Step != stepRefill {
		if err := t.Engine.Clear(ctx, t.u.OrgID); err != nil {
			return err
		}
		if err := t.Store.StepUpkeep(ctx, t.u.OrgID, t.u.Kind, stepRefill); err != nil {
			return err
		}
	}
	return t.Engine.Refill(ctx, t.u.OrgID, func(done, total int) error {
		t.u.Counted = int64(done)
		return t.progress(ctx, int64(done), int64(total))
	})
}
