package repo

import (
	"context"
	"errors"
	"io"
	"iter"
	"strings"
)

// Errors of a Storage, told by errors.Is.
var (
	// ErrExist says that there is already an object with the key.
	ErrExist = errors.New("object exists")
	// ErrNotExist says that there is no object with the key.
	ErrNotExist = errors.New("object does not exist")
	// ErrRetained says that an object can't be deleted before its lock ends.
	ErrRetained = errors.New("object is locked")
)

// Storage keeps objects under keys like "t/org/d/0a/0a1b…". An object is
// written once and never changes. Keys are relative slash-separated paths of
// letters, digits and ".-_"; other keys are an error.
type Storage interface {
	// Create begins an object. It appears only with Upload.Commit.
	Create(ctx context.Context, key string) (Upload, error)
	// Open reads length bytes from offset, to the end if length is negative.
	// The caller closes it. A missing object is ErrNotExist.
	Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error)
	// Stat returns the size of an object in bytes, or ErrNotExist.
	Stat(ctx context.Context, key string) (int64, error)
	// List yields the objects whose keys start with prefix, which ends in a
	// slash or is empty. Those below one folder come together, and in order of
	// their names within it.
	List(ctx context.Context, prefix string) iter.Seq2[Entry, error]
	// Delete removes an object, or returns ErrNotExist, or ErrRetained if it is a
	// Locker's and locked.
	Delete(ctx context.Context, key string) error
}

// Locker is a Storage that keeps lasting objects from being deleted for a time.
type Locker interface {
	Storage
	// Extend prolongs the lock of an object if less than half of its time
	// remains, and says whether it did.
	Extend(ctx context.Context, key string) (bool, error)
}

// Entry is an object in a listing.
type Entry struct {
	Key  string
	Size int64 // bytes
}

// Upload is an object that is being written. Exactly one of Commit and Abort
// ends it; Abort after Commit does nothing.
type Upload interface {
	io.Writer
	// Commit makes the object durable and visible, or returns ErrExist if the
	// key is taken, and then leaves that object as it is.
	Commit(ctx context.Context) error
	// Abort forgets what was written.
	Abort()
}

// put writes a small object in one go.
func put(ctx context.Context, s Storage, key string, data []byte) error {
	u, err := s.Create(ctx, key)
	if err != nil {
		return err
	}
	defer u.Abort()
	n, err := u.Write(data)
	if err == nil && n < len(data) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return err
	}
	return u.Commit(ctx)
}

// get reads an object of at most limit bytes.
func get(ctx context.Context, s Storage, key string, offset, length, limit int64) ([]byte, error) {
	if length > limit {
		return nil, damaged(key, "it is longer than its kind may be")
	}
	r, err := s.Open(ctx, key, offset, length)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if length >= 0 {
		data := make([]byte, length)
		n, err := io.ReadFull(r, data)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = nil // the object ends before
		}
		return data[:n], err
	}
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, damaged(key, "it is longer than its kind may be")
	}
	return data, nil
}

// Lasting says whether an object is one that a Locker locks: a pack, a commit,
// or format.json. The deletion log is not: without it, what was condemned waits
// anew.
func Lasting(key string) bool {
	if key == formatKey {
		return true
	}
	part := strings.SplitN(key, "/", 4)
	return len(part) == 4 && part[0] == "t" && (part[2] == "d" || part[2] == "m" || part[2] == "c")
}

// ValidKey says whether every segment of a key is a plain name that does not
// begin with a dot.
func ValidKey(key string) bool {
	for segment := range strings.SplitSeq(key, "/") {
		if segment == "" || segment[0] == '.' {
			return false
		}
		for _, c := range segment {
			switch {
			case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.ContainsRune("-_.", c):
			default:
				return false
			}
		}
	}
	return true
}
