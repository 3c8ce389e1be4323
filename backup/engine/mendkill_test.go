package engine_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/repo"
	"holdfast/store"
)

// epochKeys are keys of as many epochs as there are runs.
type epochKeys struct{ newest *int }

func (k epochKeys) Epoch(context.Context, string) (int, error) { return *k.newest, nil }

func (k epochKeys) TenantKey(_ context.Context, tenant string, epoch int) ([]byte, error) {
	h := sha256.Sum256(fmt.Appendf(nil, "%s %d", tenant, epoch))
	return h[:], nil
}

func (k epochKeys) SourceKey(_ context.Context, tenant, source string, epoch int) ([]byte, error) {
	h := sha256.Sum256(fmt.Appendf(nil, "%s %s %d", tenant, source, epoch))
	return h[:], nil
}

func (k epochKeys) Secrets(context.Context, string) ([]byte, error) { return nil, repo.ErrNoKey }

// mortalStorage fails from its nth change on, as for a process that is killed
// there. Under a lock nothing lasting is deleted.
type mortalStorage struct {
	*repo.Memory
	left   int // changes until then, -1 for never
	locked bool
}

func (m *mortalStorage) change() error {
	if m.left == 0 {
		return errKilled
	}
	m.left--
	return nil
}

func (m *mortalStorage) Create(ctx context.Context, key string) (repo.Upload, error) {
	if err := m.change(); err != nil {
		return nil, err
	}
	return m.Memory.Create(ctx, key)
}

func (m *mortalStorage) Delete(ctx context.Context, key string) error {
	if m.locked && repo.Lasting(key) {
		if _, err := m.Stat(ctx, key); err != nil {
			return err
		}
		return fmt.Errorf("%s: %w", key, repo.ErrRetained)
	}
	if err := m.change(); err != nil {
		return err
	}
	return m.Memory.Delete(ctx, key)
}

// LockedUntil tells of the lock.
func (m *mortalStorage) LockedUntil(context.Context, string) (time.Time, error) {
	if m.locked {
		return time.Now().Add(time.Hour), nil
	}
	return time.Time{}, nil
}

// epochsBench has four snapshots under four epochs of keys, the second of which expired.
type epochsBench struct {
	t       *testing.T
	store   *store.Store
	storage *mortalStorage
	keys    epochKeys
	p       *provider
	images  map[int64]map[string]string
}

func newEpochsBench(t *testing.T, locked bool) *epochsBench {
	t.Helper()
	e := &epochsBench{t: t, store: openStore(t), storage: &mortalStorage{Memory: repo.NewMemory(), left: -1, locked: locked}, keys: epochKeys{new(int)}, p: newProvider(), images: map[int64]map[string]string{}}
	file := bytes.Repeat([]byte("a file that many have "), 5000)
	for run := range 4 {
		*e.keys.newest = run
		for i := range 3 {
			text := fmt.Appendf(nil, "Subject: letter %d of run %d\r\n\r\n", i, run)
			if i == 1 {
				text = append(text, lines(file[run*10_000/2:])...)
			}
			e.p.add("inbox", fmt.Sprintf("letter %d of run %d", i, run), text)
		}
		e.open().run(e.p)
	}
	b := e.open()
	if err := b.Expire(t.Context(), org, mailbox, []int64{2}); err != nil {
		t.Fatal(err)
	}
	for _, seq := range must[[]int64](t)(e.store.SnapshotNumbers(t.Context(), org, mailbox)) {
		e.images[seq] = b.image(seq)
	}
	return e
}

// open is the next process.
func (e *epochsBench) open() *bench {
	e.t.Helper()
	r := must[*repo.Repository](e.t)(repo.Open(e.t.Context(), e.storage, e.keys, e.store, repo.Options{}))
	eng := &engine.Engine{Repo: r, Catalog: e.store}
	return &bench{Engine: eng, t: e.t, store: e.store, engine: eng}
}

// TestMendKilled damages an object under several epochs of keys, with and without
// an object lock, and kills the repair at changes of the storage, each at one time or
// another: the next repair brings it to the same end, and touches nothing else.
func TestMendKilled(t *testing.T) {
	const step = 5 // all of them take a minute and a half
	first := rand.IntN(step)
	t.Logf("killed at changes %d, %d, %d …", first, first+step, first+2*step)
	for _, locked := range []bool{false, true} {
		for _, kind := range []string{"d", "m", "c", "g"} {
			t.Run(fmt.Sprintf("%s locked=%t", kind, locked), func(t *testing.T) {
				t.Parallel()
				for at := first; ; at += step {
					if !killMend(t, kind, locked, at) {
						break
					}
					if at > 100 || t.Failed() {
						t.Fatalf("stopped at change %d", at)
					}
				}
			})
		}
	}
}

// killMend says whether the repair was killed at its nth change.
func killMend(t *testing.T, kind string, locked bool, at int) bool {
	e := newEpochsBench(t, locked)
	ctx := t.Context()
	list := keysBelow(t, e.storage, "t/"+string(org)+"/"+kind+"/")
	key := list[len(list)/2]
	before := map[string][]byte{}
	for _, k := range packsIn(t, e.storage.Memory) {
		before[k] = contentOf(t, e.storage, k)
	}
	data := bytes.Clone(contentOf(t, e.storage, key))
	data[len(data)/2] ^= 1
	data[len(data)-6] ^= 1 // the table of contents as well
	e.storage.Set(key, data)
	if _, isPack := before[key]; isPack {
		before[key] = data
	}

	e.storage.left = at
	killed := false
	b := e.open()
	if _, err := b.Mend(ctx, org, []string{key}, nil, func(int, int) error { return nil }); err != nil {
		if killed = errors.Is(err, errKilled); !killed {
			t.Fatalf("change %d: Mend = %v", at, err)
		}
	}
	e.storage.left = -1
	lost := e.open().mend()
	for k, want := range before {
		if got := contentOf(t, e.storage, k); !bytes.Equal(got, want) {
			t.Errorf("change %d: the repair of %s touched %s", at, key, k)
		}
	}
	e.whole(fmt.Sprintf("killed at change %d of the repair of %s", at, key), key, lost)
	return killed
}

// whole checks that all but what is lost is as before, and all after the next run.
func (e *epochsBench) whole(what, key string, lost []string) {
	e.t.Helper()
	ctx := e.t.Context()
	isLost := func(text string) bool {
		return slices.ContainsFunc(lost, func(subject string) bool { return strings.Contains(text, subject) })
	}
	report, err := e.open().Verify(ctx, org, true)
	if err != nil {
		e.t.Fatal(err)
	}
	for _, line := range report.Damaged {
		// A locked snapshot can't be written anew: it is named until the lock ends.
		if !isLost(line) && (!e.storage.locked || !strings.Contains(line, key) && !strings.Contains(line, "no commit holds it")) {
			e.t.Errorf("%s: Verify says %s; lost are %q", what, line, lost)
		}
	}
	for seq, want := range e.images {
		got := e.open().imageLeft(seq)
		for id, text := range want {
			if got[id] != text && !isLost(text) {
				e.t.Errorf("%s: in snapshot %d %s came back as %.80s, want %.80s", what, seq, id, got[id], text)
			}
		}
	}
	b := e.open()
	b.run(e.p)
	if e.storage.locked {
		commits := len(keysBelow(e.t, e.storage, "t/"+string(org)+"/"))
		for _, r := range b.records() {
			if fate, err := b.Settle(ctx, org, mailbox, r.Record.Number); err != nil || fate != backup.DamageMended && fate != backup.DamageWanted {
				e.t.Errorf("%s: under the lock %q is %s (%v)", what, r.Subject, fate, err)
			}
		}
		if now := len(keysBelow(e.t, e.storage, "t/"+string(org)+"/")); now != commits {
			e.t.Errorf("%s: %d objects were written in vain", what, now-commits)
		}
		e.storage.locked = false
		e.open().mend()
		b = e.open()
		b.run(e.p)
	}
	b.settle(e.t)
	report, err = e.open().Verify(ctx, org, true)
	if err != nil || len(report.Damaged) > 0 {
		e.t.Errorf("%s: after the next run Verify says %q, %v", what, report.Damaged, err)
	}
	for seq, want := range e.images {
		if got := e.open().image(seq); !maps.Equal(got, want) {
			e.t.Errorf("%s: after the next run snapshot %d is not what it was", what, seq)
		}
	}
}
