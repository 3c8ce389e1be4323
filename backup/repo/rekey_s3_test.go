package repo_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/minio/minio-go/v7"

	"holdfast/backup/repo"
	"holdfast/backup/repo/s3"
	"holdfast/backup/repo/s3/s3test"
	"holdfast/backup/repo/storagetest"
)

// TestRekeyOnABucketWithObjectLock rekeys what a real server keeps locked: the old
// keys are needed no more all the same, what stays is named, and it goes when the
// locks end.
func TestRekeyOnABucketWithObjectLock(t *testing.T) {
	server := s3test.Real(t)
	c := server.LockedBucket(t)
	c.Lock = s3.Lock{Mode: s3.Governance, Period: 30 * 24 * time.Hour}
	bucket, err := s3.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	client := server.Client(t)
	outside := storagetest.GoOutside(t, bucket)
	synctest.Test(t, func(t *testing.T) {
		a := newAged(t, outside)
		stays := map[string]bool{} // all that is there, but for the deletion log
		for _, key := range keys(t, outside, "t/org/") {
			stays[key] = repo.Lasting(key)
		}
		s := a.rekeyLocked(t)
		for _, key := range s.Retained {
			if !stays[key] {
				t.Errorf("%s stays, which was not locked before", key)
			}
			delete(stays, key)
		}
		for key, locked := range stays {
			if locked {
				t.Errorf("%s was locked, and is not named", key)
			}
		}
		var last time.Time
		outside.Do(func() { last, err = lastLock(client, c.Bucket, s.Retained) })
		if err != nil || !s.RetainedUntil.Equal(last) {
			t.Errorf("they are locked until %s, the server says %s (%v)", s.RetainedUntil, last, err)
		}
		a.keys.from = 2
		a.Forget("org", "")
		a.whole(t, a.keys)
		outside.Do(func() { err = s3test.EndLocks(client, c.Bucket, s.Retained) })
		if err != nil {
			t.Fatalf("end the locks: %v", err)
		}
		if _, s := a.rekey(t); s.Old+len(s.Retained) != 0 {
			t.Errorf("after the locks %+v stands", s)
		}
		a.closed(t, &epochKeys{from: 0, to: 1})
		a.whole(t, a.keys)
	})
}

// lastLock is when the last lock of objects ends, as the server says.
func lastLock(client *minio.Client, bucket string, keys []string) (last time.Time, err error) {
	for _, key := range keys {
		info, err := client.StatObject(context.Background(), bucket, key, minio.StatObjectOptions{})
		if err != nil {
			return last, err
		}
		until, err := time.Parse(time.RFC3339, info.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date"))
		if err != nil {
			return last, err
		}
		if until.After(last) {
			last = until
		}
	}
	return last, nil
}
