package engine_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"holdfast/backup/engine"
	"holdfast/backup/repo"
	"holdfast/backup/repo/s3"
	"holdfast/backup/repo/s3/s3test"
)

// lockedPlace is a storage that locks what is in it, with ways around the lock.
type lockedPlace struct {
	repo.Storage
	set    func(key string, data []byte) // what a disk may do to a locked object
	unlock func()
}

// TestAMailboxGoesOnUnderALock damages the newest snapshot of a mailbox, which the
// catalog had not taken in, where an object lock keeps everything: one repair gets the
// mailbox going all the same; what it could not replace is whole after a repair when
// the lock has ended.
func TestAMailboxGoesOnUnderALock(t *testing.T) {
	for _, part := range []string{"/m/", "/c/"} {
		t.Run("memory"+part, func(t *testing.T) {
			t.Parallel()
			m := &mortalStorage{Memory: repo.NewMemory(), left: -1, locked: true}
			goesOnLocked(t, lockedPlace{m, m.Set, func() { m.locked = false }}, part)
		})
		t.Run("bucket"+part, func(t *testing.T) { goesOnLocked(t, lockedBucket(t), part) })
	}
}

func goesOnLocked(t *testing.T, place lockedPlace, part string) {
	b, p := openBench(t, openStore(t), place), newProvider()
	images := map[int64]map[string]string{}
	for range 2 {
		p.add("inbox", "letter", randomText(random(t)))
		b.run(p)
		images[b.newest()] = p.image()
	}
	p.add("inbox", "new", randomText(random(t)))
	for _, key := range killedRun(t, b, p) {
		if strings.Contains(key, part) {
			place.set(key, harms["flip"](bytes.Clone(contentOf(t, place, key))))
		}
	}
	mended, lost, err := openBench(t, b.store, place).tryMend(nil)
	if err != nil || len(lost) > 0 || len(mended.LostSnapshots) != 1 || mended.LostSnapshots[0].Seq != 3 {
		t.Fatalf("Mend = %+v with %q lost, %v; want snapshot 3 named", mended, lost, err)
	}
	for range 2 {
		p.add("inbox", "later", randomText(random(t)))
		b = openBench(t, b.store, place)
		b.run(p)
		images[b.newest()] = p.image()
	}
	report := must[engine.Report](t)(openBench(t, b.store, place).Verify(t.Context(), org, true))
	if len(report.Damaged) != 1 || !strings.Contains(report.Damaged[0], "000000000003") && !strings.Contains(report.Damaged[0], "snapshot 3") {
		t.Errorf("under the lock Verify says %q, want snapshot 3 alone named", report.Damaged)
	}
	place.unlock()
	if mended, _, err = openBench(t, b.store, place).tryMend(nil); err != nil || mended.Snapshots != 1 || len(mended.LostSnapshots) > 0 {
		t.Errorf("after the lock Mend = %+v, %v; want the snapshot written anew", mended, err)
	}
	images[3] = images[2]
	openBench(t, b.store, place).isSound(t, images)
}

// lockedBucket is a bucket of a real server with object lock.
func lockedBucket(t *testing.T) lockedPlace {
	server := s3test.Real(t)
	c := server.LockedBucket(t)
	c.Lock = s3.Lock{Mode: s3.Governance, Period: 30 * 24 * time.Hour}
	bucket := must[*s3.Storage](t)(s3.Open(t.Context(), c))
	client := server.Client(t)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	set := func(key string, data []byte) {
		t.Helper()
		old := must[minio.ObjectInfo](t)(client.StatObject(t.Context(), c.Bucket, key, minio.StatObjectOptions{}))
		check(client.RemoveObject(t.Context(), c.Bucket, key, minio.RemoveObjectOptions{VersionID: old.VersionID, GovernanceBypass: true}))
		_, err := client.PutObject(t.Context(), c.Bucket, key, bytes.NewReader(data), int64(len(data)),
			minio.PutObjectOptions{Mode: minio.Governance, RetainUntilDate: time.Now().Add(c.Lock.Period), DisableContentSha256: true})
		check(err)
	}
	unlock := func() {
		t.Helper()
		check(s3test.EndLocks(client, c.Bucket, slices.DeleteFunc(keysBelow(t, bucket, "t/"), func(key string) bool { return !repo.Lasting(key) })))
	}
	return lockedPlace{bucket, set, unlock}
}
