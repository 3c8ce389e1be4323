package engine_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/repo"
	"holdfast/store/storetest"
)

// small is a mailbox of so many short messages, made as they are asked for.
type small int

// Folders implements engine.Source.
func (s small) Folders(context.Context, string) (engine.FolderChanges, error) {
	return engine.FolderChanges{Full: true, Cursor: "1", Folders: []engine.Folder{{ID: "inbox", Name: "Inbox", WellKnown: "inbox", Items: int64(s)}}}, nil
}

// Changes implements engine.Source.
func (s small) Changes(context.Context, string, string) iter.Seq2[engine.Page, error] {
	const page = 1000
	return func(yield func(engine.Page, error) bool) {
		for from := 0; from < int(s); from += page {
			p := engine.Page{Full: true}
			for i := from; i < min(from+page, int(s)); i++ {
				at := time.Unix(1_700_000_000+int64(i)*60, 0)
				p.Items = append(p.Items, engine.ItemState{ID: strconv.Itoa(i), Version: "1", FolderID: "inbox", Subject: fmt.Sprintf("Message %d", i), From: "Ada Lovelace <ada@example.org>",
					To: "ben@example.org", Received: at, Sent: at, Read: true, Importance: "normal", InternetMessageID: fmt.Sprintf("<%d@example.org>", i)})
			}
			if from+page >= int(s) {
				p.Cursor = "1"
			}
			if !yield(p, nil) {
				return
			}
		}
	}
}

// Content implements engine.Source.
func (s small) Content(_ context.Context, id string) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader("Subject: Message " + id + "\r\n\r\nThis is the short text of message " + id + ".\r\n")), nil
}

// BenchmarkGrowth backs up more and more short messages in four mailboxes, by one,
// two and four workers, into a directory and SQLite. An item of many must not cost
// more than 1.3 times one of few; that is compared by the CPU time, which other
// work on the machine changes less. HOLDFAST_BENCH_GROWTH=1000000 says how many the
// most are.
func BenchmarkGrowth(b *testing.B) {
	sizes := []int{10_000, 100_000}
	if n, err := strconv.Atoi(os.Getenv("HOLDFAST_BENCH_GROWTH")); err == nil {
		sizes = append(sizes, n)
	}
	const mailboxes = 4
	for _, workers := range []int{1, 2, 4} {
		per := map[int]float64{} // microseconds for an item
		for _, n := range sizes {
			b.Run(fmt.Sprintf("%d workers/%d items", workers, n), func(b *testing.B) {
				e := openBench(b, storetest.At(b, filepath.Join(b.TempDir(), "holdfast.db")), must[*repo.Dir](b)(repo.OpenDir(filepath.Join(b.TempDir(), "repository"))))
				before := cpuTime(b)
				for b.Loop() {
					var g errgroup.Group
					g.SetLimit(workers)
					for box := range mailboxes {
						g.Go(func() error {
							_, err := e.Backup(b.Context(), engine.Job{Org: org, Mailbox: backup.MailboxID(fmt.Sprint("BOX", box)), Source: small(n / mailboxes)})
							return err
						})
					}
					if err := g.Wait(); err != nil {
						b.Fatal(err)
					}
				}
				per[n] = float64((cpuTime(b) - before).Microseconds()) / float64(b.N*n)
				b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "items/s")
				b.ReportMetric(per[n], "cpu-us/item")
				if few := per[sizes[0]]; few > 0 {
					b.ReportMetric(per[n]/few, "of-10k")
					if per[n] > 1.3*few {
						b.Errorf("%.0f µs for an item, %.0f µs among %d; want at most 1.3 times as much", per[n], few, sizes[0])
					}
				}
			})
		}
	}
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
