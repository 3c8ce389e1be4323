package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"

	"github.com/minio/minio-go/v7"

	"holdfast/backup/repo"
)

// Open implements repo.Storage. A reader whose connection breaks asks again for
// the rest.
func (s *Storage) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if !repo.ValidKey(key) {
		return nil, badKey(key)
	}
	if length == 0 { // no range says so
		_, err := s.Stat(ctx, key)
		return io.NopCloser(strings.NewReader("")), err
	}
	r := &reader{ctx: ctx, storage: s, key: key, offset: offset, length: length}
	return r, r.open()
}

// reader reads a range of an object.
type reader struct {
	ctx     context.Context //nolint:containedctx // of Storage.Open, for as long as it is read
	storage *Storage
	key     string
	offset  int64 // of what is read next
	length  int64 // that is left, negative for all
	body    io.ReadCloser
	etag    string
	broke   int
}

// maxBroken is how often a reader asks again.
const maxBroken = 5

// open asks for the rest.
func (r *reader) open() error {
	var opts minio.GetObjectOptions
	var err error
	switch {
	case r.length > 0:
		err = opts.SetRange(r.offset, r.offset+r.length-1)
	case r.offset > 0:
		err = opts.SetRange(r.offset, 0)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", r.key, err)
	}
	body, info, _, err := r.storage.core.GetObject(r.ctx, r.storage.config.Bucket, r.storage.name(r.key), opts)
	if err != nil {
		answer := minio.ToErrorResponse(err)
		if answer.StatusCode == http.StatusRequestedRangeNotSatisfiable || answer.Code == "InvalidRange" {
			r.body = io.NopCloser(strings.NewReader("")) // it begins behind the end
			return nil
		}
		return r.storage.explain("read "+r.key, err)
	}
	if r.etag != "" && info.ETag != r.etag {
		return errors.Join(fmt.Errorf("read %s: it changed meanwhile", r.key), body.Close())
	}
	r.body, r.etag = body, info.ETag
	return nil
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if r.length == 0 {
		return 0, io.EOF
	}
	if r.length > 0 && int64(len(p)) > r.length {
		p = p[:r.length] // also from a server that does not know ranges
	}
	n, err := r.body.Read(p)
	r.offset += int64(n)
	if r.length > 0 {
		r.length -= int64(n)
	}
	if err == nil || errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return n, err
	}
	if r.ctx.Err() != nil {
		return n, r.ctx.Err()
	}
	if r.broke++; r.broke > maxBroken {
		// Not ErrUnexpectedEOF, which would say that the object is too short.
		return n, fmt.Errorf("read %s: %w: %v", r.key, errBroken, err) //nolint:errorlint // on purpose
	}
	r.body.Close()
	if err := pause(r.ctx); err != nil {
		return n, err
	}
	return n, r.open()
}

// Close implements io.Closer.
func (r *reader) Close() error { return r.body.Close() }

// Stat implements repo.Storage.
func (s *Storage) Stat(ctx context.Context, key string) (int64, error) {
	info, err := s.stat(ctx, key)
	return info.Size, err
}

func (s *Storage) stat(ctx context.Context, key string) (minio.ObjectInfo, error) {
	if !repo.ValidKey(key) {
		return minio.ObjectInfo{}, badKey(key)
	}
	info, err := s.core.StatObject(ctx, s.config.Bucket, s.name(key), minio.StatObjectOptions{})
	if err != nil {
		return info, s.explain("look at "+key, err)
	}
	return info, nil
}

// List implements repo.Storage, in order of the keys.
func (s *Storage) List(ctx context.Context, prefix string) iter.Seq2[repo.Entry, error] {
	return func(yield func(repo.Entry, error) bool) {
		if prefix != "" && !repo.ValidKey(strings.TrimSuffix(prefix, "/")) {
			yield(repo.Entry{}, badKey(prefix))
			return
		}
		for o := range s.core.ListObjectsIter(ctx, s.config.Bucket, minio.ListObjectsOptions{Prefix: s.name(prefix), Recursive: true}) {
			if o.Err != nil {
				yield(repo.Entry{}, s.explain("list "+prefix, o.Err))
				return
			}
			key := strings.TrimPrefix(o.Key, s.config.Prefix)
			if !repo.ValidKey(key) {
				continue // the probe, and folders that other programs draw
			}
			if !yield(repo.Entry{Key: key, Size: o.Size}, nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(repo.Entry{}, err)
		}
	}
}
