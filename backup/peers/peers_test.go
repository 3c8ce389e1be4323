package peers_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/repo"
	"holdfast/store"
	"holdfast/store/storetest"
)

const (
	org    = backup.OrgID("ORG1")
	rounds = 5 // of each side, in turn
)

// holdfast is a repository with its catalog, on disk.
type holdfast struct {
	*engine.Engine
	store *store.Store
	dir   string
}

func newHoldfast(b *testing.B) holdfast {
	b.Helper()
	engine.TuneMemory() // as the program does
	dir := b.TempDir()
	st := storetest.At(b, filepath.Join(dir, "holdfast.db"))
	files, err := repo.OpenDir(filepath.Join(dir, "repository"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { files.Close() })
	r, err := repo.Open(b.Context(), files, st, st, repo.Options{})
	if err != nil {
		b.Fatal(err)
	}
	return holdfast{&engine.Engine{Repo: r, Catalog: st, Log: slog.New(slog.DiscardHandler)}, st, dir}
}

func mailboxOf(n int) backup.MailboxID { return backup.MailboxID(fmt.Sprintf("BOX%d", n)) }

// backUp backs all mailboxes of a corpus up, two at a time.
func (h holdfast) backUp(b *testing.B, c corpus) time.Duration {
	b.Helper()
	start := time.Now()
	var g errgroup.Group
	g.SetLimit(2)
	for n := range boxes {
		g.Go(func() error {
			_, err := h.Backup(b.Context(), engine.Job{Org: org, Mailbox: mailboxOf(n + 1), Source: maildir(c.box(n + 1))})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
	return time.Since(start)
}

// items lists all items of a mailbox.
func (h holdfast) items(ctx context.Context, box backup.MailboxID) ([]backup.Item, error) {
	snapshots, err := h.store.Snapshots(ctx, org, box)
	if err != nil {
		return nil, err
	}
	if len(snapshots) == 0 {
		return nil, fmt.Errorf("mailbox %s has no snapshot", box)
	}
	list, _, err := h.store.Items(ctx, org, box, snapshots[0].Seq, store.ItemQuery{PageSize: 10_000})
	return list, err
}

// kept is an item of a mailbox.
type kept struct {
	box  int
	item backup.Item
}

// all lists the items of all mailboxes.
func (h holdfast) all(b *testing.B) (list []kept) {
	b.Helper()
	for n := range boxes {
		items, err := h.items(b.Context(), mailboxOf(n+1))
		if err != nil {
			b.Fatal(err)
		}
		for _, i := range items {
			list = append(list, kept{n + 1, i})
		}
	}
	return list
}

// restore writes all items to files, in a folder for each mailbox as restic does:
// one half from the first mailbox on, the other from the last.
func (h holdfast) restore(b *testing.B, to string) time.Duration {
	b.Helper()
	start := time.Now()
	for n := range boxes {
		if err := os.Mkdir(corpus{dir: to}.box(n+1), 0o700); err != nil {
			b.Fatal(err)
		}
	}
	list := h.all(b)
	half := len(list) / 2
	slices.Reverse(list[half:])
	var g errgroup.Group
	for _, part := range [][]kept{list[:half], list[half:]} {
		g.Go(func() error {
			for _, k := range part {
				if err := h.restoreItem(b.Context(), k, to); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
	return time.Since(start)
}

func (h holdfast) restoreItem(ctx context.Context, k kept, to string) error {
	f, err := os.Create(filepath.Join(corpus{dir: to}.box(k.box), k.item.ProviderID))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := h.WriteItem(ctx, org, mailboxOf(k.box), k.item.ID, f); err != nil {
		return err
	}
	return f.Close()
}

// compare checks that restored files are those of the corpus, to the byte.
func (c corpus) compare(b *testing.B, restored string) {
	b.Helper()
	count := 0
	for box := range boxes {
		there := corpus{dir: restored}.box(box + 1)
		entries, err := os.ReadDir(there)
		if err != nil {
			b.Fatal(err)
		}
		for _, e := range entries {
			got, err := os.ReadFile(filepath.Join(there, e.Name()))
			if err != nil {
				b.Fatal(err)
			}
			want, err := os.ReadFile(filepath.Join(c.box(box+1), "cur", e.Name()))
			if err != nil {
				b.Fatal(err)
			}
			if count++; !bytes.Equal(got, want) {
				b.Fatalf("%s came back with %d bytes that are not its %d", e.Name(), len(got), len(want))
			}
		}
	}
	if count != c.messages {
		b.Fatalf("%d files were restored, want %d", count, c.messages)
	}
}

// restic is a restic repository.
type restic struct{ dir string }

var resticEnv = []string{"RESTIC_PASSWORD=bench", "RESTIC_CACHE_DIR=", "XDG_CACHE_HOME=/nonexistent"}

func newRestic(b *testing.B) restic {
	b.Helper()
	r := restic{b.TempDir()}
	r.run(b, "init")
	return r
}

func (r restic) run(b *testing.B, args ...string) time.Duration {
	b.Helper()
	return command(b, resticEnv, "", "restic", append([]string{"--no-cache", "-q", "-r", r.dir, "--compression", "auto"}, args...)...)
}

// BenchmarkPeers keeps the corpus with Holdfast, restic and borg, and compares
// how much they store, how fast everything comes back and how fast all of it is
// checked.
func BenchmarkPeers(b *testing.B) {
	needs(b, "restic", "borg")
	c := newCorpus(b)
	h, r := newHoldfast(b), newRestic(b)
	first := h.backUp(b, c)
	peer := command(b, resticEnv, c.dir, "restic", "--no-cache", "-q", "-r", r.dir, "--compression", "auto", "backup", ".")
	b.Logf("%d messages, %d MB; first backup %s, restic %s", c.messages, c.bytes/1e6, first.Round(time.Millisecond), peer.Round(time.Millisecond))
	b.Run("size", func(b *testing.B) { comparedSize(b, c, h, r) })
	b.Run("restore", func(b *testing.B) { comparedRestore(b, c, h, r) })
	b.Run("verify", func(b *testing.B) { comparedVerify(b, h, r) })
	b.Run("one item", func(b *testing.B) { oneItem(b, h) })
	b.Run("rebuild", func(b *testing.B) { rebuilt(b, c, h) })
}

// most fails if a ratio is above what it may be.
func most(b *testing.B, what string, ratio, limit float64) {
	b.Helper()
	b.ReportMetric(ratio, "of-"+what)
	if ratio > limit {
		b.Errorf("%.2f of %s, want at most %.2f", ratio, what, limit)
	}
}

func comparedSize(b *testing.B, c corpus, h holdfast, r restic) {
	borgEnv := []string{"BORG_PASSPHRASE=bench", "BORG_BASE_DIR=" + b.TempDir()}
	borgDir := filepath.Join(b.TempDir(), "borg")
	for b.Loop() {
		command(b, borgEnv, "", "borg", "init", "--encryption=repokey-blake2", borgDir)
		command(b, borgEnv, c.dir, "borg", "create", "--compression", "zstd,3", borgDir+"::first", ".")
	}
	catalog, packs := h.catalogSize(b), treeSize(b, filepath.Join(h.dir, "repository"))
	own, restics, borgs := catalog+packs, treeSize(b, r.dir), treeSize(b, borgDir)
	b.Logf("%d MB: %d of the repository, %d of the database; restic %d MB, borg %d MB", own/1e6, packs/1e6, catalog/1e6, restics/1e6, borgs/1e6)
	b.ReportMetric(float64(own)/1e6, "MB")
	b.ReportMetric(float64(restics)/1e6, "restic-MB")
	b.ReportMetric(float64(borgs)/1e6, "borg-MB")
	most(b, "restic", float64(own)/float64(restics), 0.58)
	most(b, "borg", float64(own)/float64(borgs), 0.65)
}

// catalogSize is the size of the database with what SQLite wrote ahead of it, which
// goes into it when the program ends.
func (h holdfast) catalogSize(b *testing.B) int64 {
	b.Helper()
	name := filepath.Join(h.dir, "holdfast.db")
	db, err := sql.Open("sqlite", name)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	var busy, frames, moved int
	if err := db.QueryRowContext(b.Context(), `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &frames, &moved); err != nil || busy != 0 {
		b.Fatal("the log of the database can't be taken over: ", busy, err)
	}
	return treeSize(b, name)
}

func comparedRestore(b *testing.B, c corpus, h holdfast, r restic) {
	var own, peer []time.Duration
	for b.Loop() {
		for range rounds {
			to := b.TempDir()
			own = append(own, h.restore(b, to))
			if len(own) == 1 {
				c.compare(b, to)
			}
			if err := os.RemoveAll(to); err != nil {
				b.Fatal(err)
			}
			to = b.TempDir()
			peer = append(peer, r.run(b, "restore", "latest", "--target", to))
			if err := os.RemoveAll(to); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Logf("Holdfast %v, restic %v", own, peer)
	b.ReportMetric(float64(c.bytes)/1e6/median(own).Seconds(), "MB/s")
	most(b, "restic", median(own).Seconds()/median(peer).Seconds(), 0.7)
}

func comparedVerify(b *testing.B, h holdfast, r restic) {
	var own, peer []time.Duration
	for b.Loop() {
		for range rounds {
			start := time.Now()
			report, err := h.Verify(b.Context(), org, true)
			if err != nil || len(report.Damaged) > 0 {
				b.Fatal(report.Damaged, err)
			}
			own = append(own, time.Since(start))
			peer = append(peer, r.run(b, "check", "--read-data"))
		}
	}
	b.ReportMetric(median(own).Seconds(), "s")
	most(b, "restic", median(own).Seconds()/median(peer).Seconds(), 0.35)
}

// oneItem reads messages in no order, so that no group is read twice in a row.
func oneItem(b *testing.B, h holdfast) {
	const limit = time.Millisecond
	list := h.all(b)
	rng := rand.New(rand.NewPCG(1, 2))
	var took []time.Duration
	for b.Loop() {
		for range 1000 {
			k := list[rng.IntN(len(list))]
			start := time.Now()
			if err := h.WriteItem(b.Context(), org, mailboxOf(k.box), k.item.ID, io.Discard); err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(start))
		}
	}
	m := median(took)
	b.ReportMetric(float64(m.Microseconds()), "us-median")
	b.ReportMetric(float64(took[len(took)*95/100].Microseconds()), "us-p95")
	if m > limit {
		b.Errorf("an item takes %s in the median, want at most %s", m, limit)
	}
}

func rebuilt(b *testing.B, c corpus, h holdfast) {
	const least = 50_000
	count := 0
	start := time.Now()
	for b.Loop() {
		// SQLite takes its log over in every second one.
		for range 2 * rounds {
			if err := h.Rebuild(b.Context(), org); err != nil {
				b.Fatal(err)
			}
			count += c.messages
		}
	}
	rate := float64(count) / time.Since(start).Seconds()
	b.ReportMetric(rate, "items/s")
	if rate < least {
		b.Errorf("the catalog is rebuilt at %.0f items/s, want %d", rate, least)
	}
}
