package engine

import (
	"sync"
	"time"

	"holdfast/backup"
)

// progressEvery is the least time between two reports.
const progressEvery = 250 * time.Millisecond

// progress counts what a run does and reports it at a modest rate.
type progress struct {
	report func(backup.Run)
	mu     sync.Mutex
	run    backup.Run
	last   time.Time
}

func newProgress(report func(backup.Run)) *progress {
	return &progress{report: report}
}

// change makes a change to the counters and reports them if it is time to.
func (p *progress) change(f func(*backup.Run)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.run)
	if now := time.Now(); p.report != nil && now.Sub(p.last) >= progressEvery {
		p.last = now
		p.report(p.run)
	}
}

// flush reports the counters now.
func (p *progress) flush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.report != nil {
		p.last = time.Now()
		p.report(p.run)
	}
}

func (p *progress) counters() backup.Run {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.run
}

func (p *progress) folders(n int)  { p.change(func(r *backup.Run) { r.FoldersTotal = n }) }
func (p *progress) folderDone()    { p.change(func(r *backup.Run) { r.FoldersDone++ }) }
func (p *progress) expect(n int64) { p.change(func(r *backup.Run) { r.ItemsTotal += n }) }
func (p *progress) read(n int64)   { p.change(func(r *backup.Run) { r.ReadBytes += n }) }
func (p *progress) failed()        { p.change(func(r *backup.Run) { r.FailedItems++ }) }

// item counts an item that was worked on. The provider's estimate is raised if
// it was too low.
func (p *progress) item() {
	p.change(func(r *backup.Run) {
		r.ItemsDone++
		r.ItemsTotal = max(r.ItemsTotal, r.ItemsDone)
	})
}
