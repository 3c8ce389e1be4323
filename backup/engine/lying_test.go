package engine_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/repo"
	"holdfast/backup/repo/storagetest"
	"holdfast/store"
)

// lyingLife is a mailbox that lives on a storage which lies.
type lyingLife struct {
	history
	t    *testing.T
	st   *store.Store
	lie  *storagetest.Lying
	want map[int64]map[string]string
}

// TestLifeOnAStorageThatLies lets a mailbox live through random histories on a
// storage that takes back what it answered, does things twice and has storms: runs,
// expiry, collections, rebuilds and crashes. Whatever is read is what it was, or is
// an error while a check names damage; and after one repair and a run everything is
// whole that the provider still has, or named. HOLDFAST_ROUNDS has it live through
// more of them, HOLDFAST_TEST_SEED through one.
func TestLifeOnAStorageThatLies(t *testing.T) {
	seeds := []uint64{1, 2, 3, 4}
	if n, err := strconv.ParseUint(os.Getenv("HOLDFAST_ROUNDS"), 10, 32); err == nil {
		seeds = nil
		for seed := range n {
			seeds = append(seeds, seed)
		}
	}
	if s, err := strconv.ParseUint(os.Getenv("HOLDFAST_TEST_SEED"), 10, 64); err == nil {
		seeds = []uint64{s}
	}
	for _, seed := range seeds {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { liveOnLies(t, seed) })
		})
	}
}

func liveOnLies(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 7))
	l := &lyingLife{history: history{random, newProvider()}, t: t, st: openStore(t), lie: storagetest.NewLying(rand.New(rand.NewPCG(seed, 8))), want: map[int64]map[string]string{}}
	l.lie.Prompt = true
	for i := range 16 {
		l.live()
		l.check()
		if t.Failed() {
			t.Fatalf("at step %d: HOLDFAST_TEST_SEED=%d; %q", i, seed, l.lie.Harmed())
		}
	}
	if l.end(); t.Failed() {
		t.Fatalf("in the end: HOLDFAST_TEST_SEED=%d; %q", seed, l.lie.Harmed())
	}
}

// open is the next process, which takes in what the last one committed.
func (l *lyingLife) open() *bench {
	l.t.Helper()
	b := openBench(l.t, l.st, l.lie)
	l.mayFail("Refill", b.Refill(l.t.Context(), org, nil))
	return b
}

func (l *lyingLife) live() {
	l.t.Helper()
	ctx := l.t.Context()
	time.Sleep(time.Duration(l.Int64N(int64(2 * storagetest.LieTime))))
	switch l.IntN(10) {
	case 0:
		var seqs []int64
		for i, s := range must[[]backup.Snapshot](l.t)(l.st.Snapshots(ctx, org, mailbox)) {
			if i > 0 && l.IntN(2) == 0 {
				seqs = append(seqs, s.Seq)
			}
		}
		l.mayFail("Expire", l.open().Expire(ctx, org, mailbox, seqs))
	case 1:
		time.Sleep(time.Duration(l.Int64N(int64(2 * repo.Grace))))
		_, err := l.open().Collect(ctx, org)
		l.mayFail("Collect", err)
	case 2:
		l.mayFail("Rebuild", l.open().Rebuild(ctx, org))
	default:
		for range 1 + l.IntN(12) {
			l.step()
		}
		l.p.failing = map[string]error{}
		b := l.open()
		b.Checkpoint = engine.Checkpoint{Items: 1 + l.IntN(30)}
		if l.IntN(4) == 0 {
			l.lie.Storm(l.IntN(20))
		}
		_, err := b.Backup(ctx, engine.Job{Org: org, Mailbox: mailbox, Source: l.p})
		l.lie.Storm(0)
		if l.mayFail("Backup", err); err == nil {
			l.want[b.newest()] = l.p.image()
		}
		if l.IntN(3) == 0 {
			l.lie.Crash(l.t)
		}
	}
}

// mayFail refuses errors for which the storage gives no reason.
func (l *lyingLife) mayFail(what string, err error) {
	l.t.Helper()
	if err == nil || len(l.lie.Harmed()) > 0 {
		return
	}
	if text := err.Error(); !strings.Contains(text, storagetest.ErrBusy.Error()) && !strings.Contains(text, "exists") && !strings.Contains(text, repo.ErrCollecting.Error()) {
		l.t.Errorf("%s: %v, although nothing was taken", what, err)
	}
}

// check compares what can be read with what it was.
func (l *lyingLife) check() {
	l.t.Helper()
	report, err := l.open().Verify(l.t.Context(), org, true)
	if err != nil {
		l.t.Errorf("Verify: %v", err)
		return
	}
	if len(l.lie.Harmed()) == 0 && len(report.Damaged) > 0 {
		l.t.Errorf("Verify says %q although nothing was taken", report.Damaged)
	}
	there := map[int64]bool{}
	for _, seq := range must[[]int64](l.t)(l.st.SnapshotNumbers(l.t.Context(), org, mailbox)) {
		there[seq] = true
	}
	for seq := range l.want {
		if !there[seq] { // expired, or lost before a rebuild
			delete(l.want, seq)
		}
	}
	b := l.open()
	for seq, want := range l.want {
		items, _, err := b.store.Items(l.t.Context(), org, mailbox, seq, store.ItemQuery{PageSize: 10_000})
		if err != nil {
			l.t.Fatal(err)
		}
		for _, i := range items {
			var text bytes.Buffer
			err := b.WriteItem(l.t.Context(), org, mailbox, i.ID, &text)
			got := imageOf(i.FolderID, i.Subject, i.From, i.To, i.ReceivedAt, i.SentAt, i.Read, i.Draft, i.Flagged, i.Importance, i.Categories, text.String())
			switch {
			case err == nil && got != want["item "+i.ProviderID]:
				l.t.Errorf("snapshot %d: %s came back changed without an error", seq, i.ProviderID)
			case err != nil && len(report.Damaged) == 0:
				l.t.Errorf("snapshot %d: %s: %v, and nothing says so", seq, i.ProviderID, err)
			}
		}
	}
}

// end repairs, runs, and expects that everything is whole.
func (l *lyingLife) end() {
	l.t.Helper()
	ctx := l.t.Context()
	time.Sleep(2 * storagetest.LieTime)
	for try := 0; ; try++ { // a repair may say that its first answer was lost, and is called again
		_, _, err := l.open().tryMend(nil)
		if err == nil {
			break
		}
		if !errors.Is(err, repo.ErrExist) || try > 10 {
			l.t.Errorf("Mend: %v", err)
			return
		}
	}
	if _, err := l.open().AcceptLoss(ctx, org); err != nil {
		l.t.Error(err)
	}
	// A run may say that its first answer was lost; the next one goes on.
	for try := 0; ; try++ {
		b := l.open()
		_, err := b.Backup(ctx, engine.Job{Org: org, Mailbox: mailbox, Source: l.p})
		if err == nil {
			b.check(b.newest(), l.p.image())
			break
		}
		if try > 10 {
			l.t.Errorf("Backup after the repair: %v", err)
			return
		}
	}
	lost := 0
	for _, r := range l.open().records() {
		fate, err := l.open().Settle(ctx, org, mailbox, r.Record.Number)
		for errors.Is(err, repo.ErrExist) {
			fate, err = l.open().Settle(ctx, org, mailbox, r.Record.Number)
		}
		if err != nil {
			l.t.Error(err)
		} else if fate != backup.DamageMended {
			lost++
		}
	}
	report, err := l.open().Verify(ctx, org, true)
	if err != nil || lost == 0 && len(report.Damaged) > 0 {
		l.t.Errorf("after the repair and a run nothing is lost, and Verify says %q, %v", report.Damaged, err)
	}
}
