package jobs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/riverqueue/river"
	"golang.org/x/time/rate"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/store"
)

// upkeep does work on an organization's repository. What happened stands in
// its row; River never repeats it, since the schedule does.
type upkeep struct {
	river.WorkerDefaults[backup.UpkeepJob]
	*Runner
}

// Timeout implements river.Worker: the work takes as long as there is data. A
// process that died is found by its missing beat instead.
func (*upkeep) Timeout(*river.Job[backup.UpkeepJob]) time.Duration { return -1 }

// Work implements river.Worker.
func (w *upkeep) Work(ctx context.Context, job *river.Job[backup.UpkeepJob]) error {
	_, err := w.Upkeep(ctx, job.Args.OrgID, job.Args.Work, nil)
	if errors.Is(err, backup.ErrNotFound) || errors.Is(err, backup.ErrConflict) {
		return nil // the organization has nothing to look at, is gone, or its catalog is made anew: the schedule asks again
	}
	if err != nil {
		return river.JobCancel(fmt.Errorf("%s of organization %s: %w", job.Args.Work, job.Args.OrgID, err))
	}
	return nil
}

const (
	upkeepLife  = 2 * time.Minute // how long work counts as alive after its last beat
	upkeepBeat  = 2 * time.Second // between two reports of progress
	upkeepAgain = time.Hour       // until work that failed is tried again
)

// task is one piece of work under way.
type task struct {
	*Runner
	reader *engine.Engine // reads the storage anew, and not too fast
	u      backup.Upkeep
	report func(backup.Upkeep)
	beaten time.Time
	found  map[string]bool // what it found damaged, by name
	failed string          // what people read of the last one, if it could not be done
	again  time.Duration   // until it goes on, for work that is not planned; 0 if it ended
	once   bool            // it is not tried again by itself
}

// finds counts what is damaged, once each, however often the work comes across it.
func (t *task) finds(object string) {
	if t.found == nil {
		t.found = map[string]bool{}
	}
	t.found[object] = true
	t.u.Damaged = int64(len(t.found))
}

// works are what is done for each kind. They set the counters of the task's
// row; an error is for what kept them from going on.
var works = map[backup.UpkeepKind]func(*task, context.Context) error{
	backup.UpkeepProveItem:    (*task).proveItem,
	backup.UpkeepProveMailbox: (*task).proveMailbox,
	backup.UpkeepStructure:    (*task).checkStructure,
	backup.UpkeepData:         (*task).checkData,
	backup.UpkeepAll:          (*task).checkAll,
	backup.UpkeepRepair:       (*task).repair,
	backup.UpkeepRekey:        (*task).rekey,
	backup.UpkeepRebuild:      (*task).rebuild,
	backup.UpkeepCollect:      (*task).collect,
}

// Upkeep does work of a kind on an organization's repository and keeps how it
// went. report, if it is not nil, is told the progress now and then. It returns
// backup.ErrNotFound if there is nothing to work at, and backup.ErrConflict if the
// work has to wait for a rebuild of the catalog.
func (r *Runner) Upkeep(ctx context.Context, org backup.OrgID, kind backup.UpkeepKind, report func(backup.Upkeep)) (backup.Upkeep, error) {
	work, ok := works[kind]
	if !ok {
		return backup.Upkeep{}, fmt.Errorf("unknown upkeep %q: %w", kind, backup.ErrNotFound)
	}
	if _, err := r.Store.OrganizationByID(ctx, org); err != nil {
		return backup.Upkeep{}, err
	}
	t := &task{Runner: r, reader: r.Engine.Unhurried(r.checkLimit()), u: backup.Upkeep{OrgID: org, Kind: kind}, report: report, beaten: time.Now()}
	if err := r.Store.StartUpkeep(ctx, org, kind); err != nil {
		return t.u, err
	}
	kinds, err := r.Store.Upkeeps(ctx, org)
	if err != nil {
		return t.u, err
	}
	if kind != backup.UpkeepRebuild && kinds[backup.UpkeepRebuild].Step != "" {
		// What the catalog does not lead to yet would look damaged.
		err := fmt.Errorf("%s waits until the catalog of organization %s is made anew: %w", kind, org, backup.ErrConflict)
		return t.u, errors.Join(err, r.Store.PutBackUpkeep(ctx, org, kind))
	}
	t.u.Step, t.failed = kinds[kind].Step, kinds[kind].Problem.Text
	err = work(t, ctx)
	save := context.WithoutCancel(ctx)
	if ctx.Err() != nil {
		return t.u, errors.Join(ctx.Err(), r.Store.PutBackUpkeep(save, org, kind))
	}
	t.u.EndedAt = time.Now()
	t.u.NextAt = t.nextAt(err)
	switch {
	case errors.Is(err, backup.ErrNotFound):
		t.u.State = backup.UpkeepOK // there is nothing to look at
	case err != nil:
		t.u.State, t.u.Problem = backup.UpkeepFailed, *backup.AsProblem(err)
	case t.u.Damaged > 0:
		t.u.State = backup.UpkeepDamaged
	default:
		t.u.State = backup.UpkeepOK
	}
	if saveErr := r.Store.FinishUpkeep(save, t.u); saveErr != nil {
		return t.u, errors.Join(err, saveErr)
	}
	if t.u.Damaged > 0 {
		r.Log.Error("repository is damaged", "organization", org, "found_by", kind, "damaged", t.u.Damaged)
	}
	return t.u, err
}

// checkLimit is the bandwidth that all checks of this process share; nil for
// none.
func (r *Runner) checkLimit() *rate.Limiter {
	r.checkOnce.Do(func() {
		if r.CheckRate > 0 {
			r.checks = rate.NewLimiter(rate.Limit(r.CheckRate), max(int(min(r.CheckRate, 64<<20)), 64<<10))
		}
	})
	return r.checks
}

// nextAt says when work that ended is due again, zero for never.
func (t *task) nextAt(err error) time.Time {
	switch {
	case (t.u.Kind == backup.UpkeepRekey || t.u.Kind == backup.UpkeepRepair && !t.once) && err != nil && !errors.Is(err, backup.ErrNotFound):
		return t.u.EndedAt.Add(upkeepAgain)
	case t.again > 0:
		return t.u.EndedAt.Add(t.again)
	}
	return nextUpkeep(t.u.Kind, t.u.EndedAt, err)
}

// nextUpkeep says when planned work is due again: spread over a tenth of its
// period, so that organizations that came together do not stay together.
func nextUpkeep(kind backup.UpkeepKind, now time.Time, err error) time.Time {
	every := backup.UpkeepPlanned[kind]
	if every == 0 {
		return time.Time{}
	}
	if err != nil {
		return now.Add(upkeepAgain)
	}
	return now.Add(every - rand.N(every/10)) //nolint:gosec // to spread load
}

// progress reports how far the work is, now and then.
func (t *task) progress(ctx context.Context, done, total int64) error {
	if time.Since(t.beaten) < upkeepBeat {
		return ctx.Err()
	}
	t.beaten = time.Now()
	t.u.Done, t.u.Total = done, total
	if t.report != nil {
		t.report(t.u)
	}
	return t.Store.BeatUpkeep(ctx, t.u.OrgID, t.u.Kind, done, total)
}

// upkeep puts planned work into the queue that is due, and what was lost.
func (w *schedule) upkeep(ctx context.Context, now time.Time) error {
	for kind := range backup.UpkeepPlanned {
		due, err := w.Store.DueUpkeep(ctx, kind, now)
		if err != nil {
			return err
		}
		for _, org := range due {
			if err := w.Store.Enqueue(ctx, backup.UpkeepJob{OrgID: org, Work: kind}); err != nil {
				return fmt.Errorf("queue %s of organization %s: %w", kind, org, err)
			}
		}
	}
	again, err := w.Store.DueAgain(ctx, now)
	if err != nil {
		return err
	}
	for _, job := range again {
		if err := w.Store.Enqueue(ctx, job); err != nil {
			return fmt.Errorf("queue %s of organization %s again: %w", job.Work, job.OrgID, err)
		}
	}
	lost, err := w.Store.LostUpkeep(ctx, now.Add(-upkeepLife))
	if err != nil {
		return err
	}
	for _, u := range lost {
		if err := w.Store.Enqueue(ctx, backup.UpkeepJob{OrgID: u.OrgID, Work: u.Kind}); err != nil {
			return fmt.Errorf("queue %s of organization %s: %w", u.Kind, u.OrgID, err)
		}
	}
	return nil
}

// proveItem restores a random message.
func (t *task) proveItem(ctx context.Context) error {
	mailbox, _, err := t.Store.RandomMailbox(ctx, t.u.OrgID, true)
	if err != nil {
		return err
	}
	item, err := t.Store.RandomItem(ctx, t.u.OrgID, mailbox)
	if err != nil {
		return err
	}
	t.u.MailboxID = mailbox
	return t.prove(ctx, item)
}

// proveMailbox restores all messages of the newest snapshot of a random
// mailbox.
func (t *task) proveMailbox(ctx context.Context) error {
	mailbox, seq, err := t.Store.RandomMailbox(ctx, t.u.OrgID, false)
	if err != nil {
		return err
	}
	t.u.MailboxID = mailbox
	const size = 1000
	for page, seen := 1, int64(0); ; page++ {
		items, total, err := t.Store.Items(ctx, t.u.OrgID, mailbox, seq, store.ItemQuery{Page: page, PageSize: size})
		if err != nil {
			return err
		}
		for _, item := range items {
			if !item.Damaged { // its content never came from the provider
				if err := t.prove(ctx, item.ID); err != nil {
					return err
				}
			}
			seen++
			if err := t.progress(ctx, seen, total); err != nil {
				return err
			}
		}
		if len(items) == 0 || seen >= total {
			return nil
		}
	}
}

// prove restores one message of the task's mailbox and keeps how it went.
func (t *task) prove(ctx context.Context, item backup.ItemID) error {
	size, damage, err := t.reader.Prove(ctx, t.u.OrgID, t.u.MailboxID, item)
	if errors.Is(err, backup.ErrNotFound) {
		return nil // expired since it was listed
	}
	if err != nil {
		return err
	}
	t.u.Counted++
	t.u.Bytes += size
	object := itemObject(t.u.MailboxID, item)
	if damage == "" {
		_, err := t.Store.MendDamage(ctx, t.u.OrgID, object)
		return err
	}
	t.finds(object)
	number, _ := engine.RecordNumber(item)
	t.Log.Error("message is damaged", "organization", t.u.OrgID, "mailbox", t.u.MailboxID, "item", item, "error", damage)
	return t.Store.NoteDamage(ctx, backup.Damage{OrgID: t.u.OrgID, Object: object, MailboxID: t.u.MailboxID, Record: number, How: damage})
}

// itemObject names a message among what is damaged.
func itemObject(mailbox backup.MailboxID, item backup.ItemID) string {
	return "item/" + string(mailbox) + "/" + string(item)
}

// upkeepEvents are what people have to be told of an organization's repository.
func (r *Runner) upkeepEvents(ctx context.Context, org backup.Organization) ([]backup.Notification, error) {
	var list []backup.Notification
	n, since, err := r.Store.CountDamages(ctx, org.ID)
	if err != nil {
		return nil, err
	}
	if n > 0 {
		subject := fmt.Sprintf("%d damaged messages or objects", n)
		if n == 1 {
			subject = "One damaged message or object"
		}
		list = append(list, backup.Notification{Kind: backup.NotifyDamage, Key: "damage", Subject: subject, Since: since, Path: "/status", Text: backup.ProblemDamage})
	}
	kinds, err := r.Store.Upkeeps(ctx, org.ID)
	if err != nil {
		return nil, err
	}
	for _, u := range kinds {
		if u.State == backup.UpkeepFailed && !u.Problem.IsZero() && u.Kind != backup.UpkeepRepair && u.Kind != backup.UpkeepRebuild && u.Kind != backup.UpkeepCollect {
			list = append(list, backup.Notification{Kind: backup.NotifyDamage, Key: "failed " + string(u.Kind), Subject: "A check of the backup storage could not be done", Since: u.EndedAt,
				Path: "/status", Text: u.Problem.Text})
		}
	}
	return list, nil
}
