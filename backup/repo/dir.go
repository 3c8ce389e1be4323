package repo

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// Dir is a Storage in a folder. Objects are written to a temporary name,
// synced, linked to their own name, which fails if that exists, and the
// folder is synced.
type Dir struct {
	root *os.Root
	made sync.Map // folders that exist
	// onDisk is told what outlives a power failure from now on: the content of a
	// file, or which entries a folder has. Tests note it.
	onDisk func(name string)
}

// uploads is the folder of objects under way. What a crash leaves there is
// deleted by the first OpenDir an hour later: no upload stands still for long.
const (
	uploads   = ".uploads"
	uploadAge = time.Hour
)

// OpenDir opens a folder as a Storage, making it with mode 0700.
func OpenDir(name string) (*Dir, error) {
	if err := os.MkdirAll(name, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	d := &Dir{root: root}
	if err := errors.Join(d.mkdir(uploads), d.clean()); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return d, nil
}

// clean deletes what crashed uploads left.
func (d *Dir) clean() error {
	list, err := fs.ReadDir(d.root.FS(), uploads)
	if err != nil {
		return err
	}
	for _, e := range list {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // its upload ended meanwhile
		}
		if err != nil {
			return err
		}
		if time.Since(info.ModTime()) < uploadAge {
			continue
		}
		if err := d.root.Remove(uploads + "/" + e.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Close closes the folder.
func (d *Dir) Close() error { return d.root.Close() }

func badKey(key string) error { return fmt.Errorf("%q is not an object's key", key) }

// mkdir makes a folder and those above it, durably.
func (d *Dir) mkdir(name string) error {
	if _, ok := d.made.Load(name); ok || name == "." {
		return nil
	}
	if err := d.mkdir(path.Dir(name)); err != nil {
		return err
	}
	if err := d.root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := d.sync(path.Dir(name)); err != nil {
		return err
	}
	d.made.Store(name, true)
	return nil
}

// sync makes the entries of a folder durable.
func (d *Dir) sync(name string) error {
	f, err := d.root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return err
	}
	d.note(name)
	return nil
}

func (d *Dir) note(name string) {
	if d.onDisk != nil {
		d.onDisk(name)
	}
}

// Create implements Storage.
func (d *Dir) Create(_ context.Context, key string) (Upload, error) {
	if !ValidKey(key) {
		return nil, badKey(key)
	}
	if err := d.mkdir(path.Dir(key)); err != nil {
		return nil, err
	}
	temp := uploads + "/" + rand.Text()
	f, err := d.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return &dirUpload{dir: d, key: key, temp: temp, file: f}, nil
}

type dirUpload struct {
	dir  *Dir
	key  string
	temp string
	file *os.File
	done bool
}

func (u *dirUpload) Write(p []byte) (int, error) { return u.file.Write(p) }

func (u *dirUpload) Commit(context.Context) error {
	defer u.Abort()
	if err := u.file.Sync(); err != nil {
		return err
	}
	u.dir.note(u.temp)
	if err := u.dir.root.Link(u.temp, u.key); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: %w", u.key, ErrExist)
	} else if err != nil {
		return err
	}
	return u.dir.sync(path.Dir(u.key))
}

func (u *dirUpload) Abort() {
	if u.done {
		return
	}
	u.done = true
	_ = u.file.Close()            // what matters of it is synced
	_ = u.dir.root.Remove(u.temp) // what stays is deleted later; the object itself is not concerned
}

// Open implements Storage.
func (d *Dir) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if !ValidKey(key) {
		return nil, badKey(key)
	}
	if _, err := d.Stat(ctx, key); err != nil {
		return nil, err
	}
	f, err := d.root.Open(key)
	if err != nil {
		return nil, notExist(key, err)
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if length < 0 {
		return f, nil
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(f, length), f}, nil
}

// Stat implements Storage.
func (d *Dir) Stat(_ context.Context, key string) (int64, error) {
	if !ValidKey(key) {
		return 0, badKey(key)
	}
	info, err := d.root.Stat(key)
	if err != nil {
		return 0, notExist(key, err)
	}
	if info.IsDir() {
		return 0, fmt.Errorf("%s: %w", key, ErrNotExist)
	}
	return info.Size(), nil
}

// List implements Storage.
func (d *Dir) List(ctx context.Context, prefix string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		start := strings.TrimSuffix(prefix, "/")
		if start == "" {
			start = "."
		} else if !ValidKey(start) {
			yield(Entry{}, badKey(prefix))
			return
		}
		err := fs.WalkDir(d.root.FS(), start, func(name string, e fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return nil // deleted meanwhile, or nothing there yet
			case err != nil:
				return err
			case ctx.Err() != nil:
				return ctx.Err()
			case e.IsDir():
				if name == uploads {
					return fs.SkipDir
				}
				return nil
			}
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			if !yield(Entry{Key: name, Size: info.Size()}, nil) {
				return fs.SkipAll
			}
			return nil
		})
		if err != nil {
			yield(Entry{}, err)
		}
	}
}

// Delete implements Storage.
func (d *Dir) Delete(ctx context.Context, key string) error {
	if _, err := d.Stat(ctx, key); err != nil {
		return err
	}
	if err := d.root.Remove(key); err != nil {
		return notExist(key, err)
	}
	return d.sync(path.Dir(key))
}

func notExist(key string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", key, ErrNotExist)
	}
	return err
}

// Prune removes the folders of a prefix, which ends in a slash, that are empty.
// The deepest go first.
func (d *Dir) Prune(ctx context.Context, prefix string) error {
	start := strings.TrimSuffix(prefix, "/")
	if !ValidKey(start) {
		return badKey(prefix)
	}
	var folders []string
	err := fs.WalkDir(d.root.FS(), start, func(name string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && e.IsDir() {
			folders = append(folders, name)
		}
		return cmp.Or(err, ctx.Err())
	})
	if err != nil {
		return err
	}
	for _, name := range slices.Backward(folders) {
		_ = d.root.Remove(name) // one that is not empty stays
		d.made.Delete(name)
	}
	return nil
}
