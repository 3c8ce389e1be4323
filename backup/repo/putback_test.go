package repo_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"holdfast/backup/repo"
)

// copied makes three commits, lets the first expire, and copies the repository.
func copied(t testing.TB) (box, *repo.Memory) {
	t.Helper()
	b, _ := three(t)
	if err := b.Expire(t.Context(), "org", "box", repo.SpansOf([]int64{1})); err != nil {
		t.Fatal(err)
	}
	to := repo.NewMemory()
	if _, err := repo.Replicate(t.Context(), b.storage, to, nil, nil); err != nil {
		t.Fatal(err)
	}
	return b, to
}

// putBack puts objects back and returns what was told of each.
func (b box) putBack(t testing.TB, from repo.Storage, keys ...string) map[string]error {
	t.Helper()
	told := map[string]error{}
	again := open(t, b.storage, keyStore{"k"})
	if err := again.PutBack(t.Context(), from, "org", keys, func(key string, err error) error { told[key] = err; return nil }); err != nil {
		t.Fatalf("PutBack of %v: %v", keys, err)
	}
	return told
}

func TestDamagedObjectsArePutBackFromACopy(t *testing.T) {
	for _, kind := range []string{"d", "m", "c", "g"} {
		for name, harm := range harms {
			b, from := copied(t)
			key := nth(t, b.storage, "t/org/"+kind+"/", 0)
			want := bytes.Clone(object(t, b.storage, key))
			b.harm(t, key, harm)
			if told := b.putBack(t, from, key); told[key] != nil || len(told) != 1 {
				t.Errorf("%s of %s: %v, want it put back", name, key, told)
			}
			if got := object(t, b.storage, key); !bytes.Equal(got, want) {
				t.Errorf("%s of %s: after it was put back its bytes are others", name, key)
			}
			again := open(t, b.storage, keyStore{"k"})
			if report, err := again.Verify(t.Context(), "org", "box", repo.VerifyBlobs); err != nil || len(report.Damaged) > 0 {
				t.Errorf("%s of %s: after it was put back Verify = %+v, %v", name, key, report, err)
			}
		}
	}
}

// TestEverythingIsPutBackAtOnce loses all objects of a tenant: the log and the
// commits come first, since they say what packs have to be.
func TestEverythingIsPutBackAtOnce(t *testing.T) {
	b, from := copied(t)
	lost := keys(t, b.storage, "t/org/")
	for _, key := range lost {
		b.harm(t, key, nil)
	}
	told := b.putBack(t, from, lost...)
	for _, key := range lost {
		if err, ok := told[key]; err != nil || !ok {
			t.Errorf("%s: told %v, %v; want it put back", key, err, ok)
		}
		if !bytes.Equal(object(t, b.storage, key), object(t, from, key)) {
			t.Errorf("%s is not what the copy has", key)
		}
	}
}

// TestWhatTheCopyCantHelpWithStays damages the copy as well: what is there stays
// as it is, since parts of it can be read, and it is told.
func TestWhatTheCopyCantHelpWithStays(t *testing.T) {
	for _, kind := range []string{"d", "m", "c", "g"} {
		for name, harm := range harms {
			b, from := copied(t)
			key := nth(t, b.storage, "t/org/"+kind+"/", 0)
			b.harm(t, key, harms["flip in the middle"])
			want := bytes.Clone(object(t, b.storage, key))
			if harm == nil {
				if err := from.Delete(t.Context(), key); err != nil {
					t.Fatal(err)
				}
			} else {
				from.Set(key, harm(bytes.Clone(object(t, from, key))))
			}
			err := b.putBack(t, from, key)[key]
			if !errors.Is(err, repo.ErrDamaged) && !errors.Is(err, repo.ErrNotExist) {
				t.Errorf("%s of the copy's %s: told %v, want damaged or missing", name, key, err)
			}
			if !bytes.Equal(object(t, b.storage, key), want) {
				t.Errorf("%s of the copy's %s: the object was changed", name, key)
			}
		}
	}
}

func TestWholeObjectsAndOtherKeysAreLeftAlone(t *testing.T) {
	b, from := copied(t)
	key := nth(t, b.storage, "t/org/d/", 0)
	from.Set(key, []byte("not this"))
	if told := b.putBack(t, from, key, "t/other/d/00/00", "item/BOX/X"); told[key] != nil || told["t/other/d/00/00"] == nil || told["item/BOX/X"] == nil {
		t.Errorf("told %v, want only what is no object of the tenant refused", told)
	}
	other := open(t, repo.NewMemory(), keyStore{"k"})
	other.store(t, "org", "box", 1, []byte("x"))
	err := b.PutBack(t.Context(), other.storage, "org", []string{key}, func(string, error) error { return nil })
	if !errors.Is(err, repo.ErrOther) {
		t.Errorf("PutBack from another repository: %v, want ErrOther", err)
	}
	stop := errors.New("stop")
	if err := b.PutBack(t.Context(), from, "org", []string{key}, func(string, error) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("PutBack that is stopped: %v, want why", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.PutBack(ctx, from, "org", []string{key}, func(string, error) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("PutBack that is cancelled: %v", err)
	}
}
