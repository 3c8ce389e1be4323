package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/minio/minio-go/v7"

	"holdfast/backup/repo"
)

// maxInMemory is how much of an upload is kept in memory before it goes to a
// file: commits and entries of the deletion log are below it.
const maxInMemory = 64 << 10

// mark is the metadata by which an upload knows its own object.
const mark = "Holdfast-Upload"

// body is what is uploaded, with its hash.
type body struct {
	io.ReadSeeker
	size int64
	sum  []byte // SHA-256
}

func newBody(data []byte) body {
	sum := sha256.Sum256(data)
	return body{bytes.NewReader(data), int64(len(data)), sum[:]}
}

// upload is a repo.Upload: it is spooled and sent by Commit, so that memory
// stays flat and the request can be repeated.
type upload struct {
	storage *Storage
	key     string
	head    bytes.Buffer // all of it, until file is there
	file    *os.File
	size    int64
	sum     hash.Hash
}

// Create implements repo.Storage.
func (s *Storage) Create(_ context.Context, key string) (repo.Upload, error) {
	if !repo.ValidKey(key) {
		return nil, badKey(key)
	}
	return &upload{storage: s, key: key, sum: sha256.New()}, nil
}

// Write implements io.Writer.
func (u *upload) Write(p []byte) (int, error) {
	if u.file == nil && u.head.Len()+len(p) > maxInMemory {
		if err := u.spool(); err != nil {
			return 0, err
		}
	}
	var w io.Writer = &u.head
	if u.file != nil {
		w = u.file
	}
	n, err := w.Write(p)
	u.sum.Write(p[:n])
	u.size += int64(n)
	return n, err
}

// spool moves what there is to a file, which loses its name at once, so that a
// crash leaves nothing behind.
func (u *upload) spool() error {
	file, err := os.CreateTemp(u.storage.config.Spool, "holdfast-upload-*")
	if err != nil {
		return fmt.Errorf("spool an upload: %w", err)
	}
	_ = os.Remove(file.Name()) // where that is not possible, Abort does it
	u.file = file
	_, err = file.Write(u.head.Bytes())
	u.head = bytes.Buffer{}
	return err
}

// Commit implements repo.Upload.
func (u *upload) Commit(ctx context.Context) error {
	defer u.Abort()
	b := body{bytes.NewReader(u.head.Bytes()), u.size, u.sum.Sum(nil)}
	if u.file != nil {
		b.ReadSeeker = io.NewSectionReader(u.file, 0, u.size)
	}
	return u.storage.put(ctx, u.key, b)
}

// Abort implements repo.Upload.
func (u *upload) Abort() {
	if u.file == nil {
		return
	}
	_ = u.file.Close()           // it is not read again
	_ = os.Remove(u.file.Name()) // mostly gone already
	u.file = nil
}

// put creates an object, or returns repo.ErrExist.
func (s *Storage) put(ctx context.Context, key string, b body) error {
	id := rand.Text()
	opts := minio.PutObjectOptions{
		UserMetadata:         map[string]string{mark: id, "x-amz-checksum-sha256": base64.StdEncoding.EncodeToString(b.sum)},
		DisableContentSha256: true, // not in chunks: of the whole, below
	}
	opts.SetMatchETagExcept("*")
	if s.config.Lock.on() && repo.Lasting(key) {
		opts.Mode, opts.RetainUntilDate = s.config.Lock.mode(), time.Now().Add(s.config.Lock.Period)
	}
	for {
		_, err := s.core.PutObject(ctx, s.config.Bucket, s.name(key), b.ReadSeeker, b.size, "", hex.EncodeToString(b.sum), opts)
		answer := minio.ToErrorResponse(err)
		switch {
		case err == nil:
			return nil
		case answer.StatusCode == http.StatusConflict && answer.Code == "ConditionalRequestConflict":
			// Somebody else creates or deletes the object right now: see who wins.
			if err := pause(ctx); err != nil {
				return err
			}
		case answer.StatusCode == http.StatusPreconditionFailed || answer.Code == minio.PreconditionFailed:
			return s.whose(ctx, key, id)
		default:
			return s.explain("write "+key, err)
		}
	}
}

// whose tells whether the object that is in the way was made by the upload id,
// whose first answer was lost.
func (s *Storage) whose(ctx context.Context, key, id string) error {
	info, err := s.core.StatObject(ctx, s.config.Bucket, s.name(key), minio.StatObjectOptions{})
	if err != nil && minio.ToErrorResponse(err).StatusCode != http.StatusNotFound {
		return s.explain("look at "+key, err)
	}
	if err == nil && info.UserMetadata[mark] == id {
		return nil
	}
	return fmt.Errorf("%s: %w", key, repo.ErrExist)
}

// pause waits a little before a request is repeated.
func pause(ctx context.Context) error {
	select {
	case <-time.After(100 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

var errBroken = errors.New("the server broke the answer off")
