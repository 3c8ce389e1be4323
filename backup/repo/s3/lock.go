package s3

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/minio/minio-go/v7"

	"holdfast/backup/repo"
)

// checkLock refuses a bucket without object lock, which would take the times
// and not heed them.
func (s *Storage) checkLock(ctx context.Context) error {
	on, _, _, _, err := s.core.GetObjectLockConfig(ctx, s.config.Bucket)
	if err != nil && minio.ToErrorResponse(err).Code != "ObjectLockConfigurationNotFoundError" {
		return s.explain("ask for the object lock", err)
	}
	if err != nil || on != "Enabled" {
		return fmt.Errorf("-object-lock is set, but the bucket %s has no object lock; most servers can switch it on only while a bucket is made: "+
			"make a new bucket with it and move the repository there (holdfast replicate)", s.config.Bucket)
	}
	return nil
}

// Extend implements repo.Locker.
func (s *Storage) Extend(ctx context.Context, key string) (bool, error) {
	if !s.config.Lock.on() || !repo.Lasting(key) {
		return false, nil
	}
	l, err := s.locked(ctx, key, "")
	if err != nil {
		return false, err
	}
	mode, now := l.mode, time.Now()
	if mode != "" && l.until.Sub(now) >= s.config.Lock.Period/2 {
		return false, nil
	}
	if mode == "" {
		mode = s.config.Lock.mode()
	} // else it stays: servers refuse to change it
	to := now.Add(s.config.Lock.Period)
	to = to.UTC().Truncate(time.Second)
	if err := s.core.PutObjectRetention(ctx, s.config.Bucket, s.name(key), minio.PutObjectRetentionOptions{Mode: &mode, RetainUntilDate: &to}); err != nil {
		return false, s.explain("extend the lock of "+key, err)
	}
	return true, nil
}

// locked is the lock of an object.
type locked struct {
	mode  minio.RetentionMode // "" for none
	until time.Time
	hold  bool // somebody put a legal hold on it
}

// locked reads the lock of an object. It stands in the headers of the object,
// which all servers write alike; their answers to GetObjectRetention differ.
func (s *Storage) locked(ctx context.Context, key, version string) (locked, error) {
	info, err := s.core.StatObject(ctx, s.config.Bucket, s.name(key), minio.StatObjectOptions{VersionID: version})
	if err != nil {
		return locked{}, s.explain("ask for the lock of "+key, err)
	}
	l := locked{hold: info.Metadata.Get("X-Amz-Object-Lock-Legal-Hold") == string(minio.LegalHoldEnabled)}
	until := info.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date")
	if until == "" {
		return l, nil
	}
	l.mode = minio.RetentionMode(info.Metadata.Get("X-Amz-Object-Lock-Mode"))
	if l.until, err = time.Parse(time.RFC3339, until); err != nil {
		return l, fmt.Errorf("ask for the lock of %s: %w", key, err)
	}
	return l, nil
}

// Delete implements repo.Storage. In a bucket with versions it deletes the
// version, not only the name. A locked object is repo.ErrRetained.
func (s *Storage) Delete(ctx context.Context, key string) error {
	info, err := s.stat(ctx, key)
	if err != nil {
		return err
	}
	version := info.VersionID
	err = s.core.RemoveObject(ctx, s.config.Bucket, s.name(key), minio.RemoveObjectOptions{VersionID: version})
	if err == nil {
		return nil
	}
	if code := minio.ToErrorResponse(err).StatusCode; code >= http.StatusBadRequest && code < http.StatusInternalServerError && s.retains(ctx, key, version) {
		return fmt.Errorf("%s: %w", key, repo.ErrRetained)
	}
	return s.explain("delete "+key, err)
}

// retains says whether a lock or a legal hold is why an object can't be deleted.
// Servers word that refusal differently, so the object is asked.
func (s *Storage) retains(ctx context.Context, key, version string) bool {
	l, err := s.locked(ctx, key, version)
	return err == nil && (l.hold || l.until.After(time.Now()))
}

// LockedUntil returns when the lock of an object ends, zero if that is not known:
// a legal hold has no end.
func (s *Storage) LockedUntil(ctx context.Context, key string) (time.Time, error) {
	l, err := s.locked(ctx, key, "")
	return l.until, err
}
