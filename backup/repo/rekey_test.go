package repo_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/backup/repo"
)

// epochKeys are the keys of some epochs: from is the oldest that is left, and data
// is written under the keys of to.
type epochKeys struct {
	from, to int
	gone     string // a source whose keys are destroyed
}

func (k *epochKeys) Epoch(context.Context, string) (int, error) { return k.to, nil }

func (k *epochKeys) TenantKey(ctx context.Context, tenant string, epoch int) ([]byte, error) {
	if epoch < k.from || epoch > k.to {
		return nil, repo.ErrNoKey
	}
	return keyStore{"k"}.TenantKey(ctx, tenant, epoch)
}

func (k *epochKeys) SourceKey(ctx context.Context, tenant, source string, epoch int) ([]byte, error) {
	if epoch < k.from || epoch > k.to || source == k.gone {
		return nil, repo.ErrNoKey
	}
	return keyStore{"k"}.SourceKey(ctx, tenant, source, epoch)
}

func (k *epochKeys) Secrets(ctx context.Context, tenant string) ([]byte, error) {
	if k.from == 0 {
		return nil, repo.ErrNoKey
	}
	first, err := keyStore{"k"}.TenantKey(ctx, tenant, 0)
	return repo.SecretsOf(first), err
}

// aged is a repository with content of two epochs, and what was stored.
type aged struct {
	box
	keys     *epochKeys
	texts    [][]byte
	contents []repo.Content
	sources  []string
}

func newAged(t testing.TB, storage repo.Storage) *aged {
	t.Helper()
	a := &aged{keys: &epochKeys{}}
	a.box = open(t, storage, a.keys)
	attachment := []byte(lines(noise(3, 90<<10), 76, "\n"))
	a.add(t, "box", 1, noise(1, 100<<10), attachment, []byte("a letter"))
	a.add(t, "other", 1, attachment, []byte("another letter"), noise(2, 300<<10))
	a.keys.to = 1 // a rotation
	a.add(t, "box", 2, []byte("a letter"), attachment, []byte(lines(noise(4, 70<<10), 76, "\r\n")))
	return a
}

func (a *aged) add(t testing.TB, source string, seq int64, texts ...[]byte) {
	t.Helper()
	for _, c := range a.store(t, "org", source, seq, texts...) {
		a.contents, a.sources = append(a.contents, c), append(a.sources, source)
	}
	a.texts = append(a.texts, texts...)
}

// rekey does what is due of a rekey, and a collection.
func (a *aged) rekey(t testing.TB) (repo.Rekeyed, repo.Standing) {
	t.Helper()
	done, err := a.Rekey(t.Context(), "org", owner{a.box}, func(int, int) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	a.gather(t)
	s, err := a.Standing(t.Context(), "org")
	if err != nil {
		t.Fatal(err)
	}
	return done, s
}

func (a *aged) gather(t testing.TB) repo.Collection {
	t.Helper()
	c, err := a.Collect(t.Context(), "org", owner{a.box})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// whole checks that a program with given keys finds everything in the storage as
// it was stored.
func (a *aged) whole(t testing.TB, keys repo.KeyStore) {
	t.Helper()
	b := open(t, a.storage, keys)
	b.load(t)
	if a.keys.gone != "" { // what others share with it, as a rebuild finds it
		packs, err := b.OtherPacks(t.Context(), "org", a.keys.gone)
		if err != nil {
			t.Fatal(err)
		}
		b.add(t, "org", packs)
	}
	for i, c := range a.contents {
		if a.sources[i] == a.keys.gone {
			continue
		}
		if got := b.read(t, "org", a.sources[i], c); !bytes.Equal(got, a.texts[i]) {
			t.Errorf("content %d is not what was stored", i)
		}
	}
	for _, source := range []string{"box", "other"} {
		report, err := b.Verify(t.Context(), "org", source, repo.VerifyBlobs)
		if err != nil || len(report.Damaged) > 0 {
			t.Errorf("Verify of %s = %+v, %v", source, report, err)
		}
	}
	if err := b.VerifyLog(t.Context(), "org"); err != nil {
		t.Errorf("VerifyLog: %v", err)
	}
}

// closed checks that who has the older keys, all recipes with the keys of shared
// pieces, and even an index, reads nothing of what is in the storage.
func (a *aged) closed(t testing.TB, thief *epochKeys) {
	t.Helper()
	b, err := repo.Open(t.Context(), a.storage, thief, a.index, repo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range a.contents {
		if err := b.ReadContent(t.Context(), "org", a.sources[i], c, io.Discard); err == nil {
			t.Errorf("content %d of %s opens", i, a.sources[i])
		}
	}
	for root := range a.needs {
		if _, err := b.ReadMeta(t.Context(), "org", "box", 'r', root); err == nil {
			t.Errorf("root %s opens", root)
		}
	}
	for _, source := range []string{"box", "other"} {
		for c, err := range b.Commits(t.Context(), "org", source, 0) {
			if err == nil {
				t.Errorf("commit %d of %s opens", c.Seq, source)
			}
		}
	}
	if err := b.VerifyLog(t.Context(), "org"); err == nil {
		t.Error("the deletion log opens")
	}
	for _, kind := range []repo.PackKind{repo.PackData, repo.PackMeta} {
		for _, key := range keys(t, a.storage, fmt.Sprintf("t/org/%c/", kind)) {
			id := packID(t, key)
			if _, err := b.Objects(t.Context(), "org", []repo.Pack{{ID: id, Kind: kind}}); err == nil {
				t.Errorf("the footer of %s opens", key)
			}
			for _, source := range []string{"box", "other"} {
				if list, err := b.Rescan(t.Context(), "org", source, kind, id); err != nil || len(list) > 0 {
					t.Errorf("%d pieces of %s open for %s, %v", len(list), key, source, err)
				}
			}
		}
	}
}

func packID(t testing.TB, key string) repo.PackID {
	t.Helper()
	raw, err := hex.DecodeString(path.Base(key))
	if err != nil {
		t.Fatal(err)
	}
	return repo.PackID(raw)
}

func TestRekeyedRepositoryOpensUnderNewKeysOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAged(t, repo.NewMemory())
		a.keys.to = 2
		done, s := a.rekey(t)
		if done.Epoch != 2 || done.Packs == 0 || done.Sealed != 3 || len(done.Damaged) > 0 || s.Old == 0 {
			t.Fatalf("Rekey = %+v, then %+v stands", done, s)
		}
		a.whole(t, a.keys)
		if again, _ := a.rekey(t); again.Packs+again.Sealed != 0 {
			t.Errorf("once more: %+v, want nothing to do", again)
		}
		time.Sleep(repo.Grace)
		if _, s = a.rekey(t); s.Old+len(s.Retained) > 0 || s.Objects == 0 {
			t.Fatalf("after the grace %+v stands", s)
		}
		a.closed(t, &epochKeys{from: 0, to: 1})
		a.keys.from = 2
		a.whole(t, &epochKeys{from: 2, to: 2})
		// Life goes on, also in the next epoch and with what was shared before.
		before := size(t, a.storage, "t/org/d/")
		a.add(t, "other", 2, a.texts[1])
		if grown := size(t, a.storage, "t/org/d/") - before; grown > 4<<10 {
			t.Errorf("%d bytes were written for an attachment that is there", grown)
		}
		a.gather(t)
		a.whole(t, &epochKeys{from: 2, to: 3})
	})
}

// dyingOwner is an owner whose process dies like its storage.
type dyingOwner struct {
	owner
	m *mortal
}

func (o dyingOwner) Add(ctx context.Context, objects []repo.Object) error {
	if err := o.m.alive(); err != nil {
		return err
	}
	return o.owner.Add(ctx, objects)
}

// rekeyAll does all that a rekey takes, until its storage dies.
func (a *aged) rekeyAll(t testing.TB, o repo.Owner) error {
	t.Helper()
	for range 4 {
		if _, err := a.Rekey(t.Context(), "org", o, func(int, int) error { return nil }); err != nil {
			return err
		}
		if _, err := a.Collect(t.Context(), "org", o); err != nil {
			return err
		}
		s, err := a.Standing(t.Context(), "org")
		if err != nil {
			return err
		}
		if s.Old+len(s.Retained) == 0 {
			return nil
		}
		time.Sleep(repo.Grace)
	}
	return errors.New("it does not end")
}

// TestRekeyKilledAtEveryChange kills a rekey before each change of the storage
// and of the index. Whatever is left is whole, a backup goes on, and the next
// rekey ends as if nothing had happened.
func TestRekeyKilledAtEveryChange(t *testing.T) {
	ended := false
	for n := 0; !ended; n++ {
		synctest.Test(t, func(t *testing.T) {
			a := newAged(t, repo.NewMemory())
			a.keys.to = 2
			m := &mortal{Storage: a.storage, left: n}
			dying := *a
			r, err := repo.Open(t.Context(), m, a.keys, a.index, repo.Options{TargetPack: 256 << 10})
			if err != nil {
				t.Fatal(err)
			}
			dying.box = box{r, m, a.index, a.needs}
			switch err := dying.rekeyAll(t, dyingOwner{owner{dying.box}, m}); {
			case err == nil:
				ended = true
			case !errors.Is(err, errDies):
				t.Fatalf("killed at change %d: %v", n, err)
			}
			a.whole(t, a.keys)
			a.add(t, "box", 3, fmt.Appendf(nil, "written after change %d", n), a.texts[1])
			if err := a.rekeyAll(t, owner{a.box}); err != nil {
				t.Fatalf("after a kill at change %d: %v", n, err)
			}
			a.closed(t, &epochKeys{from: 0, to: 1})
			a.whole(t, &epochKeys{from: 2, to: 2})
			if t.Failed() {
				t.Fatalf("killed at change %d", n)
			}
		})
	}
}

// TestRekeyWithARunAcrossIt has a run that began under older keys commit after
// everything else was moved.
func TestRekeyWithARunAcrossIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAged(t, repo.NewMemory())
		w, err := a.NewWriter(t.Context(), "org", "other")
		if err != nil {
			t.Fatal(err)
		}
		defer w.Abort()
		text := noise(9, 300<<10)
		c, err := w.PutContent(t.Context(), bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		again, err := w.PutContent(t.Context(), bytes.NewReader(a.texts[1])) // found in a pack that is moved
		if err != nil {
			t.Fatal(err)
		}
		a.keys.to = 2
		a.rekey(t)
		time.Sleep(repo.WriterLife)
		root, err := w.PutMeta(t.Context(), 'r', []byte("root 2"))
		if err != nil {
			t.Fatal(err)
		}
		done, err := w.Commit(t.Context(), repo.Commit{Seq: 2, At: time.Now(), Root: root})
		if err != nil {
			t.Fatal(err)
		}
		a.index.Add("org", done.Objects)
		a.needs[root] = []repo.Content{c, again}
		a.contents, a.texts, a.sources = append(a.contents, c, again), append(a.texts, text, a.texts[1]), append(a.sources, "other", "other")
		if _, s := a.rekey(t); s.Old == 0 {
			t.Error("what the run committed under older keys was not seen")
		}
		if err := a.rekeyAll(t, owner{a.box}); err != nil {
			t.Fatal(err)
		}
		a.closed(t, &epochKeys{from: 0, to: 1})
		a.whole(t, &epochKeys{from: 2, to: 2})
	})
}

// TestErasedSourceStaysErased rekeys after the keys of a source were destroyed:
// others keep what they share with it, and nothing else of it comes back.
func TestErasedSourceStaysErased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAged(t, repo.NewMemory())
		if err := a.Erase(t.Context(), "org", "box"); err != nil {
			t.Fatal(err)
		}
		a.keys.gone = "box"
		a.Forget("org", "box")
		a.keys.to = 2
		if err := a.rekeyAll(t, owner{a.box}); err != nil {
			t.Fatal(err)
		}
		a.closed(t, &epochKeys{from: 0, to: 1})
		now := &epochKeys{from: 2, to: 2, gone: "box"}
		a.whole(t, now)
		b := open(t, a.storage, now)
		if gone, err := b.Expired(t.Context(), "org", "box"); err != nil || !gone.Erased {
			t.Errorf("the tombstone says %+v, %v", gone, err)
		}
		for range 3 {
			time.Sleep(repo.Grace)
			a.gather(t)
		}
		if list := keys(t, a.storage, "t/org/c/box/"); len(list) > 0 {
			t.Errorf("%q is left of it", list)
		}
		a.whole(t, now)
	})
}

// lockedStorage keeps packs and commits until a time.
type lockedStorage struct {
	repo.Storage
	until time.Time
}

func (l *lockedStorage) Delete(ctx context.Context, key string) error {
	if repo.Lasting(key) && time.Now().Before(l.until) {
		return repo.ErrRetained
	}
	return l.Storage.Delete(ctx, key)
}

// LockedUntil says when the lock of an object ends.
func (l *lockedStorage) LockedUntil(ctx context.Context, key string) (time.Time, error) {
	if _, err := l.Stat(ctx, key); err != nil || !repo.Lasting(key) {
		return time.Time{}, err
	}
	return l.until, nil
}

// rekeyLocked moves everything to the second epoch while locks keep what is under
// older keys.
func (a *aged) rekeyLocked(t *testing.T) repo.Standing {
	t.Helper()
	a.keys.to = 2
	a.rekey(t)
	time.Sleep(repo.Grace)
	a.rekey(t)
	_, s := a.rekey(t)
	if s.Old != 0 || len(s.Retained) == 0 {
		t.Fatalf("while the locks last %+v stands, want nothing that needs older keys, and what is locked", s)
	}
	return s
}

// TestRekeyOfLockedObjects has a lock keep what is under older keys: the keys are
// needed no more all the same, and what is locked goes when the lock ends.
func TestRekeyOfLockedObjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		until := time.Now().Add(30 * 24 * time.Hour)
		a := newAged(t, &lockedStorage{repo.NewMemory(), until})
		if s := a.rekeyLocked(t); !s.RetainedUntil.Equal(until) {
			t.Errorf("they are locked until %s, want %s", s.RetainedUntil, until)
		}
		a.keys.from = 2
		a.Forget("org", "")
		a.rekey(t) // goes on without the older keys
		a.whole(t, a.keys)
		time.Sleep(30 * 24 * time.Hour)
		if _, s := a.rekey(t); s.Old+len(s.Retained) != 0 || !s.RetainedUntil.IsZero() {
			t.Errorf("after the lock %+v stands", s)
		}
		a.closed(t, &epochKeys{from: 0, to: 1})
		a.whole(t, a.keys)
	})
}

// TestTwoRekeysAtOnce has several processes rekey: one moves each pack.
func TestTwoRekeysAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAged(t, repo.NewMemory())
		a.keys.to = 2
		errs := make(chan error, 4)
		for range cap(errs) {
			go func() {
				_, err := a.Rekey(t.Context(), "org", owner{a.box}, func(int, int) error { return nil })
				errs <- err
			}()
		}
		for range cap(errs) {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if err := a.rekeyAll(t, owner{a.box}); err != nil {
			t.Fatal(err)
		}
		a.closed(t, &epochKeys{from: 0, to: 1})
		a.whole(t, &epochKeys{from: 2, to: 2})
	})
}

// TestRenewedNumbersAreTaken tries to create what was sealed anew and whose first
// object is gone, as somebody does who slept since before it was there.
func TestRenewedNumbersAreTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAged(t, repo.NewMemory())
		a.keys.to = 2
		if err := a.rekeyAll(t, owner{a.box}); err != nil {
			t.Fatal(err)
		}
		before := keys(t, a.storage, "t/org/c/")
		w, err := a.NewWriter(t.Context(), "org", "other")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Commit(t.Context(), repo.Commit{Seq: 1, At: time.Now()}); !errors.Is(err, repo.ErrCommitExists) {
			t.Errorf("Commit = %v, want ErrCommitExists", err)
		}
		if after := keys(t, a.storage, "t/org/c/"); !slices.Equal(before, after) {
			t.Errorf("commits are %q, were %q", after, before)
		}
	})
}

// TestCopyFollowsARekey keeps a copy of the repository through a rekey: brought up
// to date, it has nothing under older keys either.
func TestCopyFollowsARekey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, to := newAged(t, repo.NewMemory()), repo.NewMemory()
		bring := func() {
			t.Helper()
			sums, err := repo.ReadSums(t.Context(), a.storage, a.keys)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := repo.Replicate(t.Context(), a.storage, to, sums, nil); err != nil {
				t.Fatal(err)
			}
			if done, err := repo.PruneCopy(t.Context(), a.storage, to, a.keys); err != nil || len(done.Left) > 0 {
				t.Fatalf("PruneCopy = %+v, %v", done, err)
			}
		}
		bring()
		a.keys.to = 2
		a.rekey(t)
		bring()
		if err := a.rekeyAll(t, owner{a.box}); err != nil {
			t.Fatal(err)
		}
		a.keys.from = 2
		a.Forget("org", "")
		bring()
		same(t, a.storage, to)
		moved := *a
		moved.storage = to
		moved.closed(t, &epochKeys{from: 0, to: 1})
		moved.whole(t, a.keys)
	})
}
