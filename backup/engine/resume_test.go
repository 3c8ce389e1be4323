package engine_test

import (
	"context"
	"errors"
	"iter"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/repo"
	"holdfast/store/storetest"
)

// failing is a mailbox of small messages that does not answer any more after some
// of them.
type failing struct {
	small
	after small
}

// Changes implements engine.Source.
func (f failing) Changes(ctx context.Context, folder, cursor string) iter.Seq2[engine.Page, error] {
	return func(yield func(engine.Page, error) bool) {
		for page, err := range f.after.Changes(ctx, folder, cursor) {
			if page.Cursor = ""; !yield(page, err) {
				return
			}
		}
		yield(engine.Page{}, &backup.Problem{Kind: backup.ProblemUnavailable, Temporary: true, Text: "The server does not answer."})
	}
}

// BenchmarkResumedFirstRun compares what a new message costs in a first backup
// that another process began, and that was interrupted, with one in a first backup
// of the same mailbox that was not: by CPU time, which other work on the machine
// changes less.
func BenchmarkResumedFirstRun(b *testing.B) {
	const all, before, most = small(45_000), small(5_000), 1.15
	var whole, resumed []time.Duration // for a message
	for b.Loop() {
		for range 3 {
			dir := b.TempDir()
			back := func(box backup.MailboxID, from engine.Source, n small) (time.Duration, error) {
				e := openBench(b, storetest.At(b, filepath.Join(dir, "holdfast.db")), must[*repo.Dir](b)(repo.OpenDir(filepath.Join(dir, "repository"))))
				e.Checkpoint.Items = 2500
				began := cpuTime(b)
				_, err := e.Backup(b.Context(), engine.Job{Org: org, Mailbox: box, Source: from})
				return (cpuTime(b) - began) / time.Duration(n), err
			}
			var problem *backup.Problem
			if _, err := back("RESUMED", failing{all, before}, before); !errors.As(err, &problem) {
				b.Fatalf("the first backup is to be interrupted: %v", err)
			}
			took := must[time.Duration](b)(back("RESUMED", all, all-before))
			resumed = append(resumed, took)
			took = must[time.Duration](b)(back("WHOLE", all, all))
			whole = append(whole, took)
		}
	}
	slices.Sort(whole)
	slices.Sort(resumed)
	middle := len(whole) / 2
	ratio := float64(resumed[middle]) / float64(whole[middle])
	b.ReportMetric(float64(resumed[middle].Nanoseconds())/1e3, "cpu-us/item")
	b.ReportMetric(ratio, "of-uninterrupted")
	if ratio > most {
		b.Errorf("a message of a resumed first backup takes %.2f times one of an uninterrupted one, want at most %.2f", ratio, most)
	}
}
