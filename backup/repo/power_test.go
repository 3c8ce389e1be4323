package repo_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"holdfast/backup/repo"
)

// disk knows what of a folder outlives a power failure: the contents of files
// that were synced, and the entries of folders when those were.
type disk struct {
	t    *testing.T
	path string

	mu      sync.Mutex
	files   map[uint64][]byte           // by inode, as synced last
	folders map[string]map[string]entry // by path, as synced last
	cuts    []string                    // what would be left after each sync
	acked   []int64                     // commits that had been answered then
	answers *atomic.Int64
	random  *rand.Rand
}

// entry is one of a folder: a file's content, nil if it never was synced, or a folder.
type entry struct {
	folder bool
	data   []byte
}

// note is told what was synced, and makes what a failure right now would leave:
// once without anything that was not synced, once with some of it.
func (d *disk) note(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	at := filepath.Join(d.path, name)
	if info, err := os.Stat(at); err != nil || !info.IsDir() {
		d.files[inode(d.t, at)] = d.content(at)
	} else {
		d.folders[filepath.Clean(name)] = d.entries(at)
	}
	for _, lucky := range []bool{false, true} {
		to := filepath.Join(d.t.TempDir(), "left")
		d.write(".", to, lucky)
		d.cuts, d.acked = append(d.cuts, to), append(d.acked, d.answers.Load())
	}
}

func inode(t *testing.T, path string) uint64 {
	info, err := os.Stat(path)
	if err != nil {
		t.Errorf("a synced file is gone: %v", err)
		return 0
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

func (d *disk) content(path string) []byte {
	data, err := os.ReadFile(path)
	if err != nil {
		d.t.Error(err)
	}
	return data
}

// entries are those that a folder has now, with what was synced of them.
func (d *disk) entries(path string) map[string]entry {
	list, err := os.ReadDir(path)
	if err != nil {
		d.t.Error(err)
	}
	out := map[string]entry{}
	for _, e := range list {
		if e.IsDir() {
			out[e.Name()] = entry{folder: true}
		} else if info, err := e.Info(); err == nil { // else it was deleted meanwhile
			out[e.Name()] = entry{data: d.files[info.Sys().(*syscall.Stat_t).Ino]}
		}
	}
	return out
}

// write makes what is left of a folder. Of what was not synced the lucky disk
// has a half: entries, and of contents some first bytes.
func (d *disk) write(name, to string, lucky bool) {
	must(d.t, os.MkdirAll(to, 0o700))
	left := map[string]entry{}
	for n, e := range d.folders[name] {
		left[n] = e
	}
	at := filepath.Join(d.path, name)
	if _, err := os.Stat(at); lucky && err == nil {
		now := d.entries(at)
		for n, e := range now {
			if _, ok := left[n]; ok || d.random.IntN(2) == 0 {
				continue
			}
			if !e.folder && e.data == nil {
				e.data, _ = os.ReadFile(filepath.Join(at, n)) // gone: empty
				e.data = e.data[:d.random.IntN(len(e.data)+1)]
			}
			left[n] = e
		}
		for n := range left {
			if _, ok := now[n]; !ok && d.random.IntN(2) == 0 {
				delete(left, n)
			}
		}
	}
	for n, e := range left {
		if e.folder {
			d.write(filepath.Join(name, n), filepath.Join(to, n), lucky)
		} else {
			must(d.t, os.WriteFile(filepath.Join(to, n), e.data, 0o600))
		}
	}
}

func must(t *testing.T, err error) {
	if err != nil {
		t.Error(err)
	}
}

// TestPowerFailure lets the power fail after everything that a run makes durable,
// and drops what was not: each commit that had been answered is there and whole,
// nothing else is damaged, and the next run works.
func TestPowerFailure(t *testing.T) {
	d := &disk{t: t, path: filepath.Join(t.TempDir(), "repository"), files: map[uint64][]byte{}, folders: map[string]map[string]entry{},
		answers: &atomic.Int64{}, random: rand.New(rand.NewPCG(3, 4))}
	storage := openDir(t, d.path)
	storage.OnDisk(d.note)
	b := open(t, storage, keyStore{"k"})
	kept := map[int64][]repo.Content{}
	for seq := int64(1); seq <= 3; seq++ {
		kept[seq] = b.store(t, "org", "box", seq, noise(uint64(seq), 30<<10), []byte(lines(noise(uint64(seq+9), 80<<10), 76, "\n"))) //nolint:gosec // small
		d.answers.Store(seq)
	}
	if len(d.cuts) < 30 {
		t.Fatalf("only %d syncs were seen", len(d.cuts)/2)
	}
	for i, path := range d.cuts {
		when := fmt.Sprintf("after sync %d", i/2)
		left := open(t, openDir(t, path), keyStore{"k"})
		left.load(t)
		for seq := int64(1); seq <= d.acked[i]; seq++ {
			for j, c := range kept[seq] {
				var out bytes.Buffer
				if err := left.ReadContent(t.Context(), "org", "box", c, &out); err != nil || out.Len() != int(c.Size) {
					t.Errorf("%s: content %d of commit %d: %v", when, j, seq, err)
				}
			}
		}
		if commits := checkKilled(t, path, when); int64(commits) < d.acked[i] {
			t.Errorf("%s: %d commits, although %d had been answered", when, commits, d.acked[i])
		}
	}
}

// TestUnsyncedIsLost checks the disk itself: a file that is linked and not
// synced is empty after a failure.
func TestUnsyncedIsLost(t *testing.T) {
	path := t.TempDir()
	d := &disk{t: t, path: path, files: map[uint64][]byte{}, folders: map[string]map[string]entry{}, answers: &atomic.Int64{}, random: rand.New(rand.NewPCG(3, 4))}
	must(t, os.WriteFile(filepath.Join(path, "never"), []byte("text"), 0o600))
	must(t, os.WriteFile(filepath.Join(path, "synced"), []byte("text"), 0o600))
	d.note("synced")
	d.note(".")
	must(t, os.WriteFile(filepath.Join(path, "late"), []byte("text"), 0o600))
	d.note("late")
	left := filepath.Dir(d.cuts[4]) + "/left"
	for name, want := range map[string]string{"never": "", "synced": "text"} {
		if got, err := os.ReadFile(filepath.Join(left, name)); err != nil || string(got) != want {
			t.Errorf("%s = %q, %v; want %q", name, got, err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(left, "late")); err == nil {
		t.Error("a file is there whose folder was not synced")
	}
}
