package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/backup"
	"holdfast/backup/repo"
)

// streakMax is how many contents may fail in a row, for reasons that look like
// the provider's and not the item's, before the run asks whether the provider
// answers at all.
const streakMax = 8

// stageFailure stages that a content could not be read. The item stays with
// what is known of it: its name, and its earlier content if there is one.
func (r *run) stageFailure(ctx context.Context, item Item, s ItemState, cause error) error {
	problem := *backup.AsProblem(cause)
	problem.At, problem.Err, problem.RequestID, problem.RetryAfter = time.Now(), nil, "", 0
	problem.Text = cleanText(problem.Text)
	if old := item.Problem; old.Kind == problem.Kind && old.Code == problem.Code && old.Status == problem.Status {
		problem = old // the same as before: first seen then
	}
	r.log().Warn("message not read", "mailbox", r.job.Mailbox, "item", item.Number, "kind", problem.Kind, "code", problem.Code, "error", cause)
	now := ItemChange{Item: withState(item, s), NewItem: item.ID == ""}
	now.Problem = problem
	if now.NewItem || !sameHeader(item.ItemState, s) {
		old, err := r.oldRecord(ctx, item)
		if err != nil {
			return err
		}
		var content *repo.Content
		if old != nil {
			content = old.Content
		}
		if err := r.newRecord(ctx, &now, s, content); err != nil {
			return err
		}
	}
	r.progress.failed()
	staged, before := r.stage(item, now)
	if problem.Kind != backup.ProblemItems && problem.Temporary {
		r.mu.Lock()
		r.streak = append(r.streak, streakItem{now: staged, before: before})
		r.mu.Unlock()
	}
	return nil
}

// streakItem is a failure that may turn out not to be the item's.
type streakItem struct{ now, before *staged }

// checkStreak asks, after many failures in a row, whether the provider answers
// at all. If it does not, the run ends, and the items of the streak are not
// marked as failed.
func (r *run) checkStreak(ctx context.Context) error {
	r.mu.Lock()
	long := len(r.streak) >= streakMax
	r.mu.Unlock()
	if !long {
		return nil
	}
	if err := r.wait(); err != nil {
		return err
	}
	if _, err := r.job.Source.Folders(ctx, r.folderCursor); err != nil && !errors.Is(err, ErrCursorExpired) {
		return fmt.Errorf("ask whether the provider answers: %w", err)
	}
	r.mu.Lock()
	r.streak = nil
	r.mu.Unlock()
	return nil
}

// dropStreak takes back the failures that the end of the run explains.
func (r *run) dropStreak() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.streak) - 1; i >= 0; i-- {
		s := r.streak[i]
		r.undone[s.now.now.FolderID] = true
		if r.staged[s.now.now.Number] != s.now {
			continue
		}
		if s.before != nil {
			r.staged[s.now.now.Number] = s.before
			continue
		}
		delete(r.staged, s.now.now.Number)
		delete(r.stagedID, s.now.now.ID)
	}
	r.streak = nil
}

// retryFailed reads the contents again that could not be read before.
func (r *run) retryFailed(ctx context.Context) error {
	const batch = 500
	for after := int64(0); ; {
		items, err := r.Catalog.FailedItems(ctx, r.job.Org, r.job.Mailbox, after, batch)
		if err != nil {
			return fmt.Errorf("read failed items: %w", err)
		}
		for _, item := range items {
			after = max(after, item.Number)
			if _, gone := r.pending[item.Number]; gone || r.attempted.has(item.Number) {
				continue
			}
			known, err := r.lookup(ctx, []string{item.ID})
			if err != nil {
				return err
			}
			if now, ok := known[item.ID]; ok && now.FolderID != "" {
				if err := r.fetch(ctx, now, now.ItemState); err != nil {
					return err
				}
			}
		}
		if len(items) < batch {
			return r.wait()
		}
	}
}
