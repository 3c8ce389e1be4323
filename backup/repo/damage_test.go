package repo_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"holdfast/backup/repo"
)

// harms are what may happen to an object; nil deletes it.
var harms = map[string]func([]byte) []byte{
	"flip at start":      func(d []byte) []byte { d[1] ^= 1; return d },
	"flip in the middle": func(d []byte) []byte { d[len(d)/2] ^= 1; return d },
	"flip at end":        func(d []byte) []byte { d[len(d)-2] ^= 1; return d },
	"truncate":           func(d []byte) []byte { return d[:len(d)*2/3] },
	"one byte less":      func(d []byte) []byte { return d[:len(d)-1] },
	"one byte more":      func(d []byte) []byte { return append(d, 0) },
	"zero":               func(d []byte) []byte { clear(d[len(d)/3 : len(d)*2/3]); return d },
	"empty":              func([]byte) []byte { return nil },
	"delete":             nil,
}

func (b box) harm(t testing.TB, key string, harm func([]byte) []byte) {
	t.Helper()
	storage, _ := b.storage.(*repo.Memory)
	if harm != nil {
		storage.Set(key, harm(bytes.Clone(object(t, storage, key))))
	} else if err := storage.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
}

// three stores three commits with small, shared and large pieces, one pack each.
func three(t testing.TB) (box, []repo.Content) {
	b := open(t, repo.NewMemory(), keyStore{"k"})
	var all []repo.Content
	for i := range 3 {
		all = append(all, b.store(t, "org", "box", int64(i+1), []byte(fmt.Sprint("message ", i)),
			[]byte(lines(noise(uint64(i), 100<<10), 76, "\n")), noise(uint64(i+9), 100<<10))...)
	}
	return b, all
}

func TestDamageIsFoundAndNamed(t *testing.T) {
	sample, _ := three(t)
	for _, kind := range []string{"d", "m", "c"} {
		n := len(keys(t, sample.storage, "t/org/"+kind+"/"))
		for name, harm := range harms {
			b, _ := three(t)
			key := nth(t, b.storage, "t/org/"+kind+"/", n/2)
			b.harm(t, key, harm)
			report, err := b.Verify(t.Context(), "org", "box", repo.VerifyBlobs)
			if err != nil {
				t.Errorf("%s of %s: Verify stopped: %v", name, key, err)
			}
			if len(report.Damaged) != 1 || !strings.Contains(report.Damaged[0], key[strings.LastIndex(key, "/")+1:]) {
				t.Errorf("%s of %s: report = %q, want one line that names it", name, key, report.Damaged)
			}
		}
	}
}

func TestEveryFlippedBitOfACommitOrFormatIsFound(t *testing.T) {
	b, _ := three(t)
	for _, key := range []string{"format.json", nth(t, b.storage, "t/org/c/", 0)} {
		whole := object(t, b.storage, key)
		for i := range whole {
			b.harm(t, key, func(d []byte) []byte { d[i] ^= 4; return d })
			err := reopen(t, b)
			changed := object(t, b.storage, key)
			b.harm(t, key, func([]byte) []byte { return bytes.Clone(whole) })
			if err == nil {
				t.Errorf("byte %d of %s changed to %q: not found", i, key, changed[i])
			} else if errors.Is(err, repo.ErrDamaged) && !strings.Contains(err.Error(), key) {
				t.Errorf("byte %d of %s: %v, want its name", i, key, err)
			}
		}
	}
}

// reopen opens the repository again and reads its first commit.
func reopen(t testing.TB, b box) error {
	r, err := repo.Open(t.Context(), b.storage, keyStore{"k"}, b.index, repo.Options{})
	if err != nil {
		return err
	}
	_, err = r.Commit(t.Context(), "org", "box", 1)
	return err
}

// TestWhatIsNotDamagedIsRead damages each pack in turn: what does not need it
// comes back, what needs it is an error and never other bytes.
func TestWhatIsNotDamagedIsRead(t *testing.T) {
	sample, _ := three(t)
	packs := len(keys(t, sample.storage, "t/org/d/"))
	for name, harm := range harms {
		for i := range packs {
			b, contents := three(t)
			want := make([][]byte, len(contents))
			for j, c := range contents {
				want[j] = b.read(t, "org", "box", c)
			}
			again := open(t, b.storage, keyStore{"k"}) // with nothing cached
			again.load(t)
			again.harm(t, nth(t, b.storage, "t/org/d/", i), harm)
			lost := 0
			for j, c := range contents {
				var out bytes.Buffer
				err := again.ReadContent(t.Context(), "org", "box", c, &out)
				switch {
				case err == nil && !bytes.Equal(out.Bytes(), want[j]):
					t.Errorf("%s of pack %d: content %d came back changed without an error", name, i, j)
				case err != nil && !errors.Is(err, repo.ErrDamaged) && !errors.Is(err, repo.ErrNotExist):
					t.Errorf("%s of pack %d: content %d: %v, want ErrDamaged or ErrNotExist", name, i, j, err)
				case err != nil:
					lost++
				}
			}
			if lost > 3 {
				t.Errorf("%s of pack %d: %d contents lost, want the three of its commit at most", name, i, lost)
			}
		}
	}
}

func TestVerifyReadsTheStorageAndNotTheCache(t *testing.T) {
	b, contents := three(t)
	b.read(t, "org", "box", contents[0])
	for _, key := range keys(t, b.storage, "t/org/d/") {
		b.harm(t, key, func(d []byte) []byte { d[60] ^= 1; return d })
	}
	report, err := b.Verify(t.Context(), "org", "box", repo.VerifyBlobs)
	if err != nil || len(report.Damaged) != 3 {
		t.Errorf("Verify = %+v, %v; want all three packs", report, err)
	}
}

func TestMissingCommitIsFound(t *testing.T) {
	b, _ := three(t)
	key := nth(t, b.storage, "t/org/c/", 0)
	b.harm(t, key, nil)
	report, err := b.Verify(t.Context(), "org", "box", repo.VerifyStructure)
	if err != nil || len(report.Damaged) != 1 || !strings.Contains(report.Damaged[0], key) {
		t.Errorf("Verify = %+v, %v; want the missing commit by name", report, err)
	}
}

// TestSwappedObjectsAreFound puts each object in the place of another one.
func TestSwappedObjectsAreFound(t *testing.T) {
	for _, kind := range []string{"d", "m", "c"} {
		for _, from := range []string{"org", "other"} {
			b, _ := three(t)
			b.store(t, "other", "box", 1, []byte("theirs"))
			to := nth(t, b.storage, "t/org/"+kind+"/", 1)
			data := object(t, b.storage, nth(t, b.storage, "t/"+from+"/"+kind+"/", 0))
			b.harm(t, to, func([]byte) []byte { return data })
			report, err := b.Verify(t.Context(), "org", "box", repo.VerifyStructure)
			if err != nil || len(report.Damaged) != 1 || !strings.Contains(report.Damaged[0], to[strings.LastIndex(to, "/")+1:]) {
				t.Errorf("%s from %s: report = %q, %v; want one line that names it", kind, from, report.Damaged, err)
			}
		}
	}
}

// TestSwappedBlobsAreFound exchanges blobs of the same length and number.
func TestSwappedBlobsAreFound(t *testing.T) {
	text := func(i int) []byte { return noise(uint64(i), 60<<10) }
	shared := func(i int) []byte { return []byte(lines(noise(uint64(i), 60<<10), 76, "\n")) }
	for name, make := range map[string]func(int) []byte{"source": text, "shared": shared} {
		for _, other := range [][2]string{{"org", "box"}, {"org", "two"}, {"other", "box"}} {
			b := open(t, repo.NewMemory(), keyStore{"k"})
			mine := b.store(t, "org", "box", 1, make(1))[0]
			key := nth(t, b.storage, "t/org/d/", 0)
			b.store(t, other[0], other[1], 2, make(2))
			key2 := key
			for _, k := range keys(t, b.storage, "t/"+other[0]+"/d/") {
				if k != key {
					key2 = k
				}
			}
			theirs := object(t, b.storage, key2)
			b.harm(t, key, func(d []byte) []byte {
				n := len(d) - 300 // the blob, without the footer
				if len(theirs) != len(d) || bytes.Equal(d[:n], theirs[:n]) {
					t.Fatalf("the packs have %d and %d bytes; the test needs other ones of the same length", len(d), len(theirs))
				}
				copy(d[32:n], theirs[32:n])
				return d
			})
			if err := b.ReadContent(t.Context(), "org", "box", mine, io.Discard); !errors.Is(err, repo.ErrDamaged) {
				t.Errorf("%s blob of %s: ReadContent = %v, want ErrDamaged", name, other, err)
			}
		}
	}
}

func TestPiecesAreBoundToTheirSource(t *testing.T) {
	b := open(t, repo.NewMemory(), keyStore{"k"})
	ada := b.store(t, "org", "ada", 1, []byte("a letter"))[0]
	ben := b.store(t, "org", "ben", 1, []byte("a letter"))[0]
	if ada.Skeleton[0] == ben.Skeleton[0] {
		t.Error("the same letter in two mailboxes has one identifier")
	}
	b.read(t, "org", "ada", ada) // into the cache
	if err := b.ReadContent(t.Context(), "org", "ben", ada, io.Discard); !errors.Is(err, repo.ErrDamaged) {
		t.Errorf("reading another source's content = %v, want ErrDamaged", err)
	}
	if err := b.ReadContent(t.Context(), "other", "ada", ada, io.Discard); err == nil {
		t.Error("reading another tenant's content worked")
	}
}

func TestRescanFindsThePiecesOfATornPack(t *testing.T) {
	b := open(t, repo.NewMemory(), keyStore{"k"})
	w, err := b.NewWriter(t.Context(), "org", "box")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		for _, data := range [][]byte{noise(uint64(i), 3<<10), []byte(lines(noise(uint64(i+20), 60<<10), 76, "\n"))} {
			if _, err := w.PutContent(t.Context(), bytes.NewReader(data)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.PutMeta(t.Context(), 'p', noise(uint64(i), 30<<10)); err != nil {
			t.Fatal(err)
		}
	}
	done, err := w.Commit(t.Context(), repo.Commit{Seq: 1, At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	where := map[repo.PieceID]repo.Location{}
	for _, o := range done.Objects {
		where[o.ID] = o.Location
	}
	for _, p := range done.Packs {
		key := fmt.Sprintf("t/org/%c/%s/%s", p.Kind, p.ID.String()[:2], p.ID)
		whole := object(t, b.storage, key)
		for _, cut := range []int{len(whole), len(whole) - 4, len(whole) - 2000, len(whole) / 2} {
			b.harm(t, key, func(d []byte) []byte { return d[:cut] })
			found, err := b.Rescan(t.Context(), "org", "box", p.Kind, p.ID)
			if err != nil {
				t.Fatal(err)
			}
			want := 0
			for _, at := range where {
				if at.Pack == p.ID && at.Type != 2 && at.Offset+16+int64(at.Length) <= int64(cut) {
					want++
				}
			}
			if len(found) != want {
				t.Errorf("%d of %d bytes left: found %d pieces, want %d", cut, len(whole), len(found), want)
			}
			for _, o := range found {
				if where[o.ID] != o.Location {
					t.Errorf("piece %s found at %+v, want %+v", o.ID, o.Location, where[o.ID])
				}
			}
			b.harm(t, key, func([]byte) []byte { return bytes.Clone(whole) })
		}
	}
}

// TestDamageOfTheDeletionLogOrFormatIsNamed does every harm to each entry of the
// log and to format.json, and puts entries in the place of others: it is named, and
// everything is still read.
func TestDamageOfTheDeletionLogOrFormatIsNamed(t *testing.T) {
	made := func(t *testing.T) (box, []repo.Content) {
		b, contents := three(t)
		for _, tenant := range []string{"org", "other"} {
			b.store(t, tenant, "two", 1, []byte("one"))
			b.store(t, tenant, "two", 2, []byte("two"))
			b.store(t, tenant, "two", 3, []byte("three"))
			for seq := int64(1); seq <= 2; seq++ {
				if err := b.Expire(t.Context(), tenant, "two", []repo.Span{{From: seq, To: seq}}); err != nil {
					t.Fatal(err)
				}
			}
		}
		return b, contents
	}
	check := func(name, key string, b box, contents []repo.Content) {
		t.Helper()
		fresh, err := repo.Open(t.Context(), b.storage, keyStore{"k"}, b.index, repo.Options{})
		if err == nil {
			err = fresh.VerifyLog(t.Context(), "org")
			for _, c := range contents {
				if err := fresh.ReadContent(t.Context(), "org", "box", c, io.Discard); err != nil {
					t.Errorf("%s of %s: content: %v", name, key, err)
				}
			}
		}
		if !errors.Is(err, repo.ErrDamaged) || !strings.Contains(err.Error(), key) {
			t.Errorf("%s of %s: %v, want damage that names it", name, key, err)
		}
	}
	logs := []string{"t/org/g/000000000001", "t/org/g/000000000002"}
	for _, key := range append([]string{"format.json"}, logs...) {
		for name, harm := range harms {
			if harm == nil && key == logs[1] {
				continue // the log is one entry shorter: the snapshot is kept again
			}
			b, contents := made(t)
			b.harm(t, key, harm)
			check(name, key, b, contents)
		}
	}
	for _, from := range []string{logs[1], "t/other/g/000000000001", "t/org/c/box/000000000001"} {
		b, contents := made(t)
		data := object(t, b.storage, from)
		b.harm(t, logs[0], func([]byte) []byte { return data })
		check("swapped with "+from, logs[0], b, contents)
	}
}
