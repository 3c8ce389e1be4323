package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
)

// Files keeps large files beside the tenants' data, on the same Storage, so
// that every process reaches them: exports, and copies of the portal's
// database. It knows nothing of their content, which the caller encrypts.
//
// A file is a sequence of parts below its name, each an object of FilePart
// bytes but the last, and an object "end" with its size, which is created last:
// without it there is no file, only what a crash left.
type Files struct {
	Storage Storage
}

// FilePart is the size of a part in bytes.
const FilePart = 32 << 20

const fileEnd = "/end"

func filePart(name string, n int64) string { return fmt.Sprintf("%s/%08d", name, n) }

// Files returns the files beside the repository's data.
func (r *Repository) Files() Files { return Files{Storage: r.storage} }

// Create begins a file. It is there once Close returned nil. Abort forgets the
// part under way; those before it are deleted by Delete.
func (f Files) Create(ctx context.Context, name string) *FileWriter {
	return &FileWriter{ctx: ctx, storage: f.Storage, name: name}
}

// FileWriter writes a file.
type FileWriter struct {
	ctx     context.Context //nolint:containedctx // io.Writer takes none
	storage Storage
	name    string
	part    Upload // nil between two parts
	filled  int    // bytes of part
	size    int64
	err     error
}

// Write implements io.Writer.
func (w *FileWriter) Write(p []byte) (int, error) {
	done := 0
	for len(p) > 0 && w.err == nil {
		n := min(len(p), FilePart-w.filled)
		if w.err = w.write(p[:n]); w.err == nil {
			done, p = done+n, p[n:]
		}
	}
	return done, w.err
}

func (w *FileWriter) write(p []byte) (err error) {
	if w.part == nil {
		if w.part, err = w.storage.Create(w.ctx, filePart(w.name, w.size/FilePart)); err != nil {
			return err
		}
	}
	n, err := w.part.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return err
	}
	w.filled, w.size = w.filled+n, w.size+int64(n)
	if w.filled < FilePart {
		return nil
	}
	return w.commit()
}

func (w *FileWriter) commit() error {
	if w.part == nil {
		return nil
	}
	part := w.part
	w.part, w.filled = nil, 0
	defer part.Abort()
	return part.Commit(w.ctx)
}

// Size returns the bytes that were written.
func (w *FileWriter) Size() int64 { return w.size }

// Close makes the file durable and visible.
func (w *FileWriter) Close() error {
	if w.err != nil {
		w.Abort()
		return w.err
	}
	if w.err = w.commit(); w.err == nil {
		w.err = put(w.ctx, w.storage, w.name+fileEnd, []byte(strconv.FormatInt(w.size, 10)))
	}
	return w.err
}

// Abort forgets the part under way. After Close it does nothing.
func (w *FileWriter) Abort() {
	if w.part != nil {
		w.part.Abort()
		w.part = nil
	}
}

// Open opens a file, or returns ErrNotExist. The File reads through ctx.
func (f Files) Open(ctx context.Context, name string) (*File, error) {
	data, err := get(ctx, f.Storage, name+fileEnd, 0, -1, 32)
	if err != nil {
		return nil, err
	}
	size, err := strconv.ParseInt(string(data), 10, 64)
	if err != nil || size < 0 {
		return nil, damaged(name+fileEnd, "it holds no size")
	}
	return &File{ctx: ctx, storage: f.Storage, name: name, size: size}, nil
}

// File is an open file. It is an io.ReaderAt that reads ahead, and safe for
// concurrent use.
type File struct {
	ctx     context.Context //nolint:containedctx // io.ReaderAt takes none
	storage Storage
	name    string
	size    int64

	mu    sync.Mutex
	start int64 // of what was read ahead
	ahead []byte
}

// readAhead is how much of a part is read at once: requests to a remote storage
// take longer than their bytes.
const readAhead = 1 << 20

// Size returns the bytes of the file.
func (f *File) Size() int64 { return f.size }

// ReadAt implements io.ReaderAt.
func (f *File) ReadAt(p []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, errors.New("negative offset")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	done := 0
	for done < len(p) {
		at := offset + int64(done)
		if at >= f.size {
			return done, io.EOF
		}
		if at < f.start || at >= f.start+int64(len(f.ahead)) {
			if err := f.fill(at); err != nil {
				return done, err
			}
		}
		done += copy(p[done:], f.ahead[at-f.start:])
	}
	return done, nil
}

// fill reads what stands at an offset and after it, to the end of its part.
func (f *File) fill(at int64) error {
	start := at / readAhead * readAhead
	want := min(readAhead, f.size-start)
	key := filePart(f.name, start/FilePart)
	r, err := f.storage.Open(f.ctx, key, start%FilePart, want)
	if err != nil {
		return err
	}
	defer r.Close()
	data := make([]byte, want)
	if _, err := io.ReadFull(r, data); err != nil {
		return damaged(key, "it is shorter than it was written: "+err.Error())
	}
	f.start, f.ahead = start, data
	return nil
}

// Names lists the complete files below a folder, which ends in a slash, in order
// of their names.
func (f Files) Names(ctx context.Context, folder string) ([]string, error) {
	var names []string
	for e, err := range f.Storage.List(ctx, folder) {
		if err != nil {
			return nil, err
		}
		if name, ok := strings.CutSuffix(e.Key, fileEnd); ok {
			names = append(names, name)
		}
	}
	return names, nil
}

// Begun lists the files below a folder, which ends in a slash, those included of
// which only parts are there, in order of their names.
func (f Files) Begun(ctx context.Context, folder string) ([]string, error) {
	var names []string
	for e, err := range f.Storage.List(ctx, folder) {
		if err != nil {
			return nil, err
		}
		name := e.Key[:strings.LastIndexByte(e.Key, '/')]
		if len(names) == 0 || names[len(names)-1] != name {
			names = append(names, name)
		}
	}
	return names, nil
}

// Delete removes all objects below a folder, which ends in a slash: a file, or
// many, or what a crash left. The ends go first, so that no half file is left
// to be opened. It returns how many objects there were.
func (f Files) Delete(ctx context.Context, folder string) (int, error) {
	var ends, parts []string
	for e, err := range f.Storage.List(ctx, folder) {
		if err != nil {
			return 0, err
		}
		if strings.HasSuffix(e.Key, fileEnd) {
			ends = append(ends, e.Key)
		} else {
			parts = append(parts, e.Key)
		}
	}
	for i, key := range append(ends, parts...) {
		if err := f.Storage.Delete(ctx, key); err != nil && !errors.Is(err, ErrNotExist) {
			return i, err
		}
	}
	return len(ends) + len(parts), nil
}

// CopyTo copies the objects below a folder, which ends in a slash, that another
// storage lacks; the ends of files come last.
func (f Files) CopyTo(ctx context.Context, folder string, to Storage) error {
	c := copier{from: f.Storage, to: to}
	for e, err := range f.Storage.List(ctx, folder) {
		if err != nil {
			return err
		}
		if _, err := to.Stat(ctx, e.Key); err == nil {
			continue
		} else if !errors.Is(err, ErrNotExist) {
			return err
		}
		if _, err := c.copy(ctx, e.Key); err != nil {
			return fmt.Errorf("copy %s: %w", e.Key, err)
		}
	}
	return nil
}

// DeleteMissing deletes the objects below a folder, which ends in a slash, that
// another storage does not have.
func (f Files) DeleteMissing(ctx context.Context, folder string, from Storage) error {
	kept := map[string]bool{}
	for e, err := range from.List(ctx, folder) {
		if err != nil {
			return err
		}
		kept[e.Key] = true
	}
	var gone []string
	for e, err := range f.Storage.List(ctx, folder) {
		if err != nil {
			return err
		}
		if !kept[e.Key] {
			gone = append(gone, e.Key)
		}
	}
	for _, key := range gone {
		if err := f.Storage.Delete(ctx, key); err != nil && !errors.Is(err, ErrNotExist) && !errors.Is(err, ErrRetained) {
			return err
		}
	}
	return nil
}
