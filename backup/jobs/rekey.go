package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/backup"
)

// rekeyEvery is how often a move to new keys looks whether it can go on: what it
// moved is deleted two days after.
const rekeyEvery = 24 * time.Hour

// stepDestroyed says that older keys are destroyed, there and where else they stand.
const stepDestroyed = "destroyed"

// rekey moves what an organization has stored to the newest of its keys. When
// nothing needs the older ones any more it destroys them, in the database and in
// the copies of it. Until then, and until a lock lets go of what is left, it is
// done again.
func (t *task) rekey(ctx context.Context) error {
	r, err := t.reader.Rekey(ctx, t.u.OrgID, func(done, total int) error { return t.progress(ctx, int64(done), int64(total)) })
	if err != nil {
		return err
	}
	t.u.Counted, t.u.Bytes, t.u.Damaged = int64(r.Packs), r.Bytes, int64(len(r.Damaged))
	t.u.Retained, t.u.RetainedUntil = int64(len(r.Retained)), r.RetainedUntil
	for _, key := range r.Damaged {
		t.Log.Error("object stays under older keys, since it is damaged", "organization", t.u.OrgID, "object", key)
	}
	t.Log.Info("organization moves to new keys", "organization", t.u.OrgID, "epoch", r.Epoch, "packs", r.Packs, "bytes", r.Bytes, "sealed", r.Sealed, "old", r.Old, "retained", len(r.Retained), "retained_until", r.RetainedUntil)
	for _, key := range r.Retained {
		t.Log.Info("object under older keys stays until its lock ends", "organization", t.u.OrgID, "object", key)
	}
	again := r.Old > 0 || len(r.Retained) > 0
	if r.Old == 0 {
		err := t.destroyOldKeys(ctx)
		if err != nil && !errors.Is(err, backup.ErrConflict) {
			return err
		}
		again = again || err != nil
	}
	if again {
		t.again = rekeyEvery
	}
	t.u.Done, t.u.Total = int64(r.Objects-r.Old), int64(r.Objects)
	return t.Store.BeatUpkeep(ctx, t.u.OrgID, t.u.Kind, t.u.Done, t.u.Total)
}

// destroyOldKeys destroys the older keys of the task's organization. While a run may
// need them it is backup.ErrConflict.
func (t *task) destroyOldKeys(ctx context.Context) error {
	// The step comes first: who is killed after the keys were is followed by who looks.
	if err := t.Store.StepUpkeep(ctx, t.u.OrgID, t.u.Kind, stepDestroyed); err != nil {
		return err
	}
	destroyed, err := t.Store.DestroyOldKeys(ctx, t.u.OrgID)
	if err != nil {
		return err
	}
	if destroyed == 0 && t.u.Step != stepDestroyed && t.failed == "" {
		return nil
	}
	t.Engine.Repo.Forget(string(t.u.OrgID), "")
	t.Log.Info("older keys destroyed", "organization", t.u.OrgID, "keys", destroyed)
	if err := t.Store.Scrub(ctx); err != nil {
		return err
	}
	copies, err := t.eraseCopies(ctx)
	if err != nil {
		return fmt.Errorf("delete copies with the older keys: %w", err)
	}
	for _, place := range copies.Unreached {
		t.Log.Warn("older copies of the portal's database may have keys that were destroyed", "place", place)
	}
	return nil
}
