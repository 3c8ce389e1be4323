package s3_test

import (
	"errors"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"holdfast/backup/repo"
	"holdfast/backup/repo/s3"
	"holdfast/backup/repo/s3/s3test"
	"holdfast/backup/repo/storagetest"
)

const day = 24 * time.Hour

// retention is what the server says of an object's lock.
func retention(t *testing.T, server *s3test.Server, c s3.Config, key string) (minio.RetentionMode, time.Duration) {
	t.Helper()
	info, err := server.Client(t).StatObject(t.Context(), c.Bucket, key, minio.StatObjectOptions{})
	if err != nil {
		return "", 0
	}
	until, err := time.Parse(time.RFC3339, info.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date"))
	if err != nil {
		return "", 0
	}
	return minio.RetentionMode(info.Metadata.Get("X-Amz-Object-Lock-Mode")), time.Until(until).Round(time.Hour)
}

func TestLastingObjectsAreLocked(t *testing.T) {
	server := s3test.Real(t)
	for _, mode := range []s3.LockMode{s3.Governance, s3.Compliance} {
		c := server.LockedBucket(t)
		c.Lock = s3.Lock{Mode: mode, Period: 30 * day}
		s := open(t, c)
		for key, locked := range map[string]bool{
			"format.json": true, "t/a/c/b/000000000001": true, "t/a/d/00/pack": true, "t/a/m/00/pack": true,
			"t/a/g/000000000001": false, "t/a/l/collect/1": false,
		} {
			storagetest.MustCreate(t, s, key, "data")
			_, left := retention(t, server, c, key)
			if locked != (left == 30*day) {
				t.Errorf("%s, %s: locked for %s", mode, key, left)
			}
			err := s.Delete(t.Context(), key)
			if locked && !errors.Is(err, repo.ErrRetained) || !locked && err != nil {
				t.Errorf("%s, %s: Delete = %v", mode, key, err)
			}
			if _, err := s.Stat(t.Context(), key); locked != (err == nil) {
				t.Errorf("%s, %s: Stat after Delete = %v", mode, key, err)
			}
		}
	}
}

func TestLocksAreExtended(t *testing.T) {
	server := s3test.Real(t)
	c := server.LockedBucket(t)
	short := c
	short.Lock = s3.Lock{Mode: s3.Compliance, Period: 10 * day}
	c.Lock = s3.Lock{Mode: s3.Compliance, Period: 30 * day}
	const key = "t/a/d/00/pack"
	storagetest.MustCreate(t, open(t, short), key, "data") // ten days are less than half of thirty
	s := open(t, c)
	for i, want := range []bool{true, false} {
		if done, err := s.Extend(t.Context(), key); err != nil || done != want {
			t.Errorf("Extend %d = %v, %v; want %v", i, done, err, want)
		}
	}
	if mode, left := retention(t, server, c, key); mode != minio.Compliance || left != 30*day {
		t.Errorf("the lock is %s for %s, want COMPLIANCE for 30 days", mode, left)
	}
	// Another configuration makes no lock weaker.
	if done, err := open(t, short).Extend(t.Context(), key); err != nil || done {
		t.Errorf("Extend to less = %v, %v; want nothing done", done, err)
	}
	if mode, left := retention(t, server, c, key); mode != minio.Compliance || left != 30*day {
		t.Errorf("the lock is %s for %s, want it as it was", mode, left)
	}
	if _, err := s.Extend(t.Context(), "t/a/d/00/none"); !errors.Is(err, repo.ErrNotExist) {
		t.Errorf("Extend of nothing = %v, want ErrNotExist", err)
	}
	// What was stored before there was a lock gets one.
	storagetest.MustCreate(t, open(t, s3.Config{Bucket: c.Bucket, Endpoint: c.Endpoint, Region: c.Region, PathStyle: true, AccessKey: c.AccessKey, SecretKey: c.SecretKey}), "t/a/m/00/old", "data")
	if done, err := s.Extend(t.Context(), "t/a/m/00/old"); err != nil || !done {
		t.Errorf("Extend of an object without a lock = %v, %v; want it locked", done, err)
	}
}
