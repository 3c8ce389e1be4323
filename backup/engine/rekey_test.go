package engine_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/backup/engine"
	"holdfast/backup/repo"
	"holdfast/store/storetest"
)

// agedKeys are goldenKeys of some epochs: from is the oldest that is left, and
// data is written under those of to.
type agedKeys struct{ from, to int }

func (k *agedKeys) Epoch(context.Context, string) (int, error) { return k.to, nil }

func (k *agedKeys) TenantKey(ctx context.Context, tenant string, epoch int) ([]byte, error) {
	if epoch < k.from || epoch > k.to {
		return nil, repo.ErrNoKey
	}
	return goldenKeys{}.TenantKey(ctx, tenant, epoch)
}

func (k *agedKeys) SourceKey(ctx context.Context, tenant, source string, epoch int) ([]byte, error) {
	if epoch < k.from || epoch > k.to {
		return nil, repo.ErrNoKey
	}
	return goldenKeys{}.SourceKey(ctx, tenant, source, epoch)
}

func (k *agedKeys) Secrets(ctx context.Context, tenant string) ([]byte, error) {
	if k.from == 0 {
		return nil, repo.ErrNoKey
	}
	first, err := goldenKeys{}.TenantKey(ctx, tenant, 0)
	return repo.SecretsOf(first), err
}

// ignore takes no notice of progress.
func ignore(int, int) error { return nil }

// TestMendInTheMiddleOfARekey is TestMendMatrix for what a rekey has written.
func TestMendInTheMiddleOfARekey(t *testing.T) {
	for _, kind := range []string{"d", "m", "c", "g"} {
		for name, harm := range harms {
			t.Run(kind+" "+name, func(t *testing.T) { mends(t, kind, harm, &agedKeys{}) })
		}
	}
}

// TestGoldenRepositoriesAreRekeyed moves what older versions wrote to new keys.
func TestGoldenRepositoriesAreRekeyed(t *testing.T) {
	eachGolden(t, func(t *testing.T, dir string) {
		synctest.Test(t, func(t *testing.T) { rekeysGolden(t, dir) })
	})
}

func rekeysGolden(t *testing.T, dir string) {
	files := must[*repo.Dir](t)(repo.OpenDir(dir))
	defer files.Close()
	keys := &agedKeys{}
	b, p := openUnder(t, storetest.Open(t), files, keys), newProvider()
	if err := b.Rebuild(t.Context(), org); err != nil {
		t.Fatalf("Rebuild: %v", err)
	}
	keys.to = 1
	var done repo.Rekeyed
	for range 3 {
		var err error
		if done, err = b.Rekey(t.Context(), org, ignore); err != nil {
			t.Fatal(err)
		}
		time.Sleep(repo.Grace)
	}
	if done.Old+len(done.Retained) > 0 || done.Objects == 0 {
		t.Fatalf("after the grace %+v stands", done.Standing)
	}
	keys.from = 1
	for _, again := range []*bench{b, openUnder(t, storetest.Open(t), files, keys)} {
		if again != b {
			if err := again.Rebuild(t.Context(), org); err != nil {
				t.Fatalf("Rebuild: %v", err)
			}
		}
		p = newProvider()
		again.isGolden(t, p)
	}
	thief := openUnder(t, b.store, files, &agedKeys{})
	if report := must[engine.Report](t)(thief.Verify(t.Context(), org, true)); report.Items > 0 || len(report.Damaged) == 0 {
		t.Errorf("the old keys open %+v", report)
	}
	p.add("inbox", "New", goldenMessage("New", goldenAttachment(80<<10)))
	if result := b.run(p); result.Run.NewItems != 1 || result.Run.StoredBytes > 40<<10 {
		t.Errorf("the next run took %+v, want the new message without the attachment, which is there", result.Run)
	}
}
