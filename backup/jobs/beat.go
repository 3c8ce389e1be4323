package jobs

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"holdfast/backup"
	"holdfast/store"
)

// beatEvery is how often a run writes its progress and that it lives.
const beatEvery = 2 * time.Second

// beat keeps the newest counters of a run and writes them to the store at a
// steady pace, so that progress costs the same however fast items come.
type beat struct {
	mu     sync.Mutex
	run    backup.Run
	worked func(items, bytes int64) // may be nil
	end    chan struct{}
	done   chan struct{}
	once   sync.Once
}

func newBeat(st *store.Store, run backup.Run, worked func(items, bytes int64), log *slog.Logger) *beat {
	b := &beat{run: run, worked: worked, end: make(chan struct{}), done: make(chan struct{})}
	go b.loop(st, log)
	return b
}

func (b *beat) loop(st *store.Store, log *slog.Logger) {
	defer close(b.done)
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	for {
		select {
		case <-b.end:
			return
		case <-ticker.C:
			run := b.current()
			run.BeatAt = time.Now()
			if err := st.BeatRun(context.Background(), run); err != nil {
				log.Warn("progress not written", "run", run.ID, "error", err)
			}
		}
	}
}

// progress takes the counters of p; identity and times stay the run's own.
func (b *beat) progress(p backup.Run) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.worked != nil {
		b.worked(p.ItemsDone-b.run.ItemsDone, p.ReadBytes-b.run.ReadBytes)
	}
	p.ID, p.OrgID, p.MailboxID = b.run.ID, b.run.OrgID, b.run.MailboxID
	p.State, p.Trigger, p.StartedAt, p.BeatAt = b.run.State, b.run.Trigger, b.run.StartedAt, b.run.BeatAt
	b.run = p
}

func (b *beat) current() backup.Run {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.run
}

// stop ends the writing and returns the run with its last counters.
func (b *beat) stop() backup.Run {
	b.once.Do(func() { close(b.end) })
	<-b.done
	return b.current()
}
