// Package jobs does the background work: it makes sub-applications, connects
// the custom role, lists accounts and runs backups. River carries the jobs;
// what is due and what happened stands in Holdfast's own tables.
package jobs

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	"golang.org/x/time/rate"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/m365"
	"holdfast/store"
)

// Runner works the jobs of one process.
type Runner struct {
	Store     *store.Store
	Engine    *engine.Engine
	Microsoft *m365.Client
	Every     time.Duration // pause between two runs of a mailbox
	Workers   int           // mailboxes backed up at the same time
	Log       *slog.Logger
	PublicURL string // of the portal, for links in e-mail
	CheckRate int64  // bytes a second that checks read from the repository at most; 0 for no limit
	// MailRoots are the certificates that a mail server's is held against; nil
	// for the system's.
	MailRoots *x509.CertPool

	// Spool is a folder for files under way; "" for the system's.
	Spool string
	// Replica is where a copy of the repository is kept; nil for nowhere.
	Replica *Replica
	// Worked, if not nil, is told what runs have read since they told it last,
	// and Ended every run that ended; for measurements.
	Worked func(items, bytes int64)
	Ended  func(backup.Run)

	apps       appCache
	noticeMu   sync.Mutex
	lastNotice time.Time
	checkOnce  sync.Once
	checks     *rate.Limiter
	bandwidths bandwidths
}

// The queues. Setup is separate, so that a person in the wizard never waits
// behind backups; upkeep, so that neither waits for checks of the repository.
const (
	queueBackup = store.QueueBackup
	queueSetup  = store.QueueSetup
	queueUpkeep = store.QueueUpkeep
	queueExport = store.QueueExport
	// queueReplica is apart, since a first copy may take days.
	queueReplica = "replica"
)

// setupTimeout bounds one try of a setup job; a role may need minutes while
// Microsoft's directory catches up.
const setupTimeout = 10 * time.Minute

// stopTimeout is how long running jobs get to record where they are.
const stopTimeout = 20 * time.Second

// Run works jobs until ctx ends, then lets those under way record where they
// are. Work that a crash left open is taken up again at the start.
func (r *Runner) Run(ctx context.Context) error {
	holder := backup.NewID[string]()
	if err := r.takeUp(ctx, holder); ctx.Err() != nil {
		return nil // asked to stop before it began
	} else if err != nil {
		return err
	}
	client, err := r.Store.River(r.config(holder))
	if err != nil {
		return fmt.Errorf("start the job queue: %w", err)
	}
	// River gets a context of its own: when ctx ends, jobs are cancelled by
	// StopAndCancel and still reach the database to say so.
	jobs, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	ended, _ := client.Subscribe(backupEnds...)
	if err := client.Start(jobs); err != nil {
		return fmt.Errorf("start the job queue: %w", err)
	}
	filled := make(chan struct{})
	go func() { defer close(filled); r.refill(ctx, ended) }()
	r.beat(ctx, holder)
	<-filled
	stop, cancelStop := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancelStop()
	if err := client.StopAndCancel(stop); err != nil {
		r.Log.Warn("jobs did not stop in time", "error", err)
	}
	if err := r.Store.RemoveWorker(stop, holder); err != nil {
		r.Log.Warn("worker not removed", "error", err)
	}
	return nil
}

// takeUp registers this worker and takes up what a crash left open.
func (r *Runner) takeUp(ctx context.Context, holder string) error {
	if err := r.Store.RegisterWorker(ctx, holder, r.Workers, workerLife); err != nil {
		return fmt.Errorf("register this worker: %w", err)
	}
	if err := r.releaseDead(ctx); err != nil {
		return fmt.Errorf("take up work left open: %w", err)
	}
	if err := r.cleanSpool(); err != nil {
		return err
	}
	if err := r.Engine.Recover(ctx); err != nil {
		return fmt.Errorf("bring the catalog up to date with the repository: %w", err)
	}
	return nil
}

func (r *Runner) config(holder string) *river.Config {
	workers := river.NewWorkers()
	river.AddWorker(workers, &createApplications{Runner: r})
	river.AddWorker(workers, &createAdministrator{Runner: r})
	river.AddWorker(workers, &removeAdministrator{Runner: r})
	river.AddWorker(workers, &verifyRole{Runner: r})
	river.AddWorker(workers, &listAccounts{Runner: r})
	river.AddWorker(workers, &undo{Runner: r})
	river.AddWorker(workers, &removeApplications{Runner: r})
	river.AddWorker(workers, &checkPermissions{Runner: r})
	river.AddWorker(workers, &rollCertificate{Runner: r})
	river.AddWorker(workers, &testIMAP{Runner: r})
	river.AddWorker(workers, &backUp{Runner: r})
	river.AddWorker(workers, &notify{Runner: r})
	river.AddWorker(workers, &letter{Runner: r})
	river.AddWorker(workers, &collect{Runner: r})
	river.AddWorker(workers, &upkeep{Runner: r})
	river.AddWorker(workers, &extendLocks{Runner: r})
	river.AddWorker(workers, &exportFile{Runner: r})
	river.AddWorker(workers, &replicate{Runner: r})
	river.AddWorker(workers, &portalCopy{Runner: r})
	river.AddWorker(workers, &erase{Runner: r})
	river.AddWorker(workers, &restore{Runner: r})
	river.AddWorker(workers, &returnRestore{Runner: r})
	river.AddWorker(workers, &deleteOrganization{Runner: r})
	river.AddWorker(workers, &schedule{Runner: r})
	periodic := []*river.PeriodicJob{river.NewPeriodicJob(river.PeriodicInterval(scheduleEvery),
		func() (river.JobArgs, *river.InsertOpts) {
			return backup.ScheduleJob{}, &river.InsertOpts{Queue: queueSetup, MaxAttempts: 1}
		}, &river.PeriodicJobOpts{RunOnStart: true}), collectDaily(), extendLocksOften(), portalDaily()}
	queues := map[string]river.QueueConfig{
		queueBackup:        {MaxWorkers: r.Workers},
		queueSetup:         {MaxWorkers: 8},
		queueUpkeep:        {MaxWorkers: 1},
		queueExport:        {MaxWorkers: exportsAtOnce},
		store.QueueRestore: {MaxWorkers: restoresAtATime},
		store.QueueDelete:  {MaxWorkers: 1},
	}
	if r.Replica != nil {
		periodic, queues[queueReplica] = append(periodic, r.replicateOften()), river.QueueConfig{MaxWorkers: 1}
	}
	return &river.Config{
		ID:                   holder,
		Workers:              workers,
		Queues:               queues,
		JobTimeout:           setupTimeout,
		RescueStuckJobsAfter: 2 * setupTimeout,
		RetryPolicy:          retryPolicy{},
		ErrorHandler:         &errorLog{log: r.Log},
		Logger:               slog.New(quiet{r.Log.Handler()}).With("part", "queue"),
		PeriodicJobs:         periodic,
		Middleware:           []rivertype.Middleware{river.WorkerMiddlewareFunc(r.refuseDeleted)},
	}
}

// workerLife is how long a worker counts as alive after its last beat.
const workerLife = 12 * time.Second

// beat tells the other processes that this one is alive, until ctx ends.
func (r *Runner) beat(ctx context.Context, holder string) {
	ticker := time.NewTicker(workerLife / 3)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if err := r.Store.RegisterWorker(ctx, holder, r.Workers, workerLife); err != nil && ctx.Err() == nil {
				r.Log.Error("worker could not say that it is alive", "error", err)
			}
		}
	}
}

// releaseDead gives jobs back to the queue whose process is gone, and closes
// the runs that it left open.
func (r *Runner) releaseDead(ctx context.Context) error {
	jobs, err := r.Store.ReleaseDeadJobs(ctx)
	if err != nil {
		return err
	}
	runs, err := r.Store.InterruptRuns(ctx, time.Now().Add(-runLife))
	if err != nil {
		return err
	}
	if jobs > 0 || runs > 0 {
		r.Log.Info("took up work left open", "jobs", jobs, "runs", runs)
	}
	return nil
}

// retryPolicy repeats a setup job after 2, 4, 8 … seconds, at most a minute.
type retryPolicy struct{}

// NextRetry implements river.ClientRetryPolicy.
func (retryPolicy) NextRetry(job *rivertype.JobRow) time.Time {
	return time.Now().Add(retryPause(len(job.Errors) + 1))
}

func retryPause(tries int) time.Duration {
	return time.Duration(math.Min(math.Pow(2, float64(tries)), 60)) * time.Second
}

// errorLog logs what a job returned; the row that it worked on has the words
// for people.
type errorLog struct{ log *slog.Logger }

// HandleError implements river.ErrorHandler.
func (e *errorLog) HandleError(_ context.Context, job *rivertype.JobRow, err error) *river.ErrorHandlerResult {
	level := slog.LevelError
	if p, ok := errors.AsType[*backup.Problem](err); ok && p.Temporary {
		level = slog.LevelWarn
	}
	e.log.Log(context.Background(), level, "job failed", "kind", job.Kind, "job", job.ID, "attempt", job.Attempt, "error", err)
	return nil
}

// HandlePanic implements river.ErrorHandler.
func (e *errorLog) HandlePanic(_ context.Context, job *rivertype.JobRow, value any, trace string) *river.ErrorHandlerResult {
	e.log.Error("job panicked", "kind", job.Kind, "job", job.ID, "panic", value, "trace", trace)
	return nil
}

// quiet hands on what the queue warns of; its counters and starts are not for
// an operator's log.
type quiet struct{ slog.Handler }

// Enabled implements slog.Handler.
func (q quiet) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && q.Handler.Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }

// WithGroup implements slog.Handler.
func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }
