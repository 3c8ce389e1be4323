package repo_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/backup/repo"
)

// keyStore makes keys from names; other seeds give other keys.
type keyStore struct{ seed string }

func (k keyStore) Epoch(context.Context, string) (int, error) { return 0, nil }

func (k keyStore) TenantKey(_ context.Context, tenant string, epoch int) ([]byte, error) {
	h := sha256.Sum256(fmt.Appendf(nil, "%s/%s/%d", k.seed, tenant, epoch))
	return h[:], nil
}

func (k keyStore) SourceKey(_ context.Context, tenant, source string, epoch int) ([]byte, error) {
	h := sha256.Sum256(fmt.Appendf(nil, "%s/%s/%s/%d", k.seed, tenant, source, epoch))
	return h[:], nil
}

// box is a repository with its parts.
type box struct {
	*repo.Repository
	storage repo.Storage
	index   *repo.MemoryIndex
}

func open(t testing.TB, storage repo.Storage, keys repo.KeyStore) box {
	t.Helper()
	index := repo.NewMemoryIndex()
	r, err := repo.Open(t.Context(), storage, keys, index, repo.Options{TargetPack: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	return box{r, storage, index}
}

// load reads the index anew from the repository alone.
func (b box) load(t testing.TB) {
	t.Helper()
	tenants, err := b.Tenants(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, tenant := range tenants {
		sources, err := b.Sources(t.Context(), tenant)
		if err != nil {
			t.Fatal(err)
		}
		for _, source := range sources {
			for c, err := range b.Commits(t.Context(), tenant, source, 0) {
				if err != nil {
					t.Fatal(err)
				}
				objects, err := b.Objects(t.Context(), tenant, c.Packs)
				if err != nil {
					t.Fatal(err)
				}
				b.index.Add(tenant, objects)
			}
		}
	}
}

// store puts contents in one commit and returns their recipes.
func (b box) store(t testing.TB, tenant, source string, seq int64, contents ...[]byte) []repo.Content {
	t.Helper()
	w, err := b.NewWriter(t.Context(), tenant, source)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	list := make([]repo.Content, len(contents))
	for i, data := range contents {
		if list[i], err = w.PutContent(t.Context(), bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := w.PutMeta(t.Context(), 'r', fmt.Appendf(nil, "root %d", seq))
	if err != nil {
		t.Fatal(err)
	}
	done, err := w.Commit(t.Context(), repo.Commit{Seq: seq, At: time.Now(), Root: root, Info: []byte("info")})
	if err != nil {
		t.Fatal(err)
	}
	b.index.Add(tenant, done.Objects)
	return list
}

func (b box) read(t testing.TB, tenant, source string, c repo.Content) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := b.ReadContent(t.Context(), tenant, source, c, &out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// mail is the messages of the test corpus.
func mail(t testing.TB) map[string][]byte {
	t.Helper()
	list := map[string][]byte{}
	err := filepath.WalkDir("../m365/simulator/testdata/mail", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		list[path], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 523 {
		t.Fatalf("%d files of test mail, want at least 523", len(list))
	}
	return list
}

// lines is data as base64 in lines of width characters.
func lines(data []byte, width int, end string) string {
	text := base64.StdEncoding.EncodeToString(data)
	var b strings.Builder
	for len(text) > 0 {
		n := min(width, len(text))
		b.WriteString(text[:n] + end)
		text = text[n:]
	}
	return b.String()
}

func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(b)
	return b
}

func TestEveryMessageComesBackByteForByte(t *testing.T) {
	dir, err := repo.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b := open(t, dir, keyStore{"k"})
	w, err := b.NewWriter(t.Context(), "org", "box")
	if err != nil {
		t.Fatal(err)
	}
	messages, contents := mail(t), map[string]repo.Content{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for name, data := range messages {
		wg.Go(func() {
			c, err := w.PutContent(t.Context(), bytes.NewReader(data))
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			mu.Lock()
			contents[name] = c
			mu.Unlock()
		})
	}
	wg.Wait()
	if _, err := w.Commit(t.Context(), repo.Commit{Seq: 1, At: time.Now()}); err != nil {
		t.Fatal(err)
	}

	again := open(t, dir, keyStore{"k"})
	again.load(t)
	for name, data := range messages {
		if got := again.read(t, "org", "box", contents[name]); !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes came back, want the %d that were stored", name, len(got), len(data))
		}
	}
	report, err := again.Verify(t.Context(), "org", "box", repo.VerifyBlobs)
	if err != nil || len(report.Damaged) > 0 || report.Commits != 1 {
		t.Errorf("Verify = %+v, %v; want one commit and no damage", report, err)
	}
}

func TestShapesOfContent(t *testing.T) {
	big := lines(noise(1, 6<<20), 76, "\r\n")
	cases := map[string]string{
		"empty":                 "",
		"no line end":           "hello",
		"only a run":            lines(noise(2, 57*100), 76, "\n"),
		"short run":             lines(noise(2, 57*39), 76, "\r\n"),
		"big run, last partial": "head\r\n\r\n" + big + "\r\n--end--\r\n",
		"two widths":            lines(noise(3, 57*1000), 76, "\n") + lines(noise(3, 54*1000), 72, "\n"),
		"two ends":              lines(noise(4, 57*1000), 76, "\n") + lines(noise(4, 57*1000), 76, "\r\n"),
		"stray CR in a line":    strings.Replace(lines(noise(5, 57*100), 76, "\n"), "A", "\r", 3),
		"no last end":           strings.TrimSuffix(lines(noise(6, 57*2000), 76, "\r\n"), "\r\n"),
		"long line":             strings.Repeat("x", 9<<20),
		"long base64 line":      base64.StdEncoding.EncodeToString(noise(7, 1<<20)),
		"many short runs":       strings.Repeat(lines(noise(8, 57*40), 76, "\n")+"--\n", 3000),
	}
	b := open(t, repo.NewMemory(), keyStore{"k"})
	seq := int64(0)
	for name, text := range cases {
		seq++
		c := b.store(t, "org", "box", seq, []byte(text))[0]
		if got := b.read(t, "org", "box", c); string(got) != text {
			t.Errorf("%s: %d bytes came back, want the %d that were stored", name, len(got), len(text))
		}
	}
}

func TestAttachmentIsStoredOnceForATenant(t *testing.T) {
	b := open(t, repo.NewMemory(), keyStore{"k"})
	attachment := lines(noise(1, 1<<20), 76, "\r\n")
	first := b.store(t, "org", "ada", 1, []byte("To: ada\r\n\r\n"+attachment))
	before := size(t, b.storage, "t/org/d/")
	second := b.store(t, "org", "ben", 1, []byte("To: ben, with other headers\r\n\r\n"+attachment))
	if grown := size(t, b.storage, "t/org/d/") - before; grown > 16<<10 {
		t.Errorf("the same attachment in another mailbox took %d bytes, want next to nothing", grown)
	}
	if first[0].Parts[1].Shared[0].ID != second[0].Parts[1].Shared[0].ID {
		t.Error("the attachment has two identifiers")
	}
	b.read(t, "org", "ben", second[0])

	b.store(t, "other", "eve", 1, []byte("To: eve\r\n\r\n"+attachment))
	if got := size(t, b.storage, "t/other/d/"); got < 1<<20 {
		t.Errorf("another tenant's copy took %d bytes, want all of it", got)
	}
}

func size(t testing.TB, s repo.Storage, prefix string) int64 {
	t.Helper()
	n := int64(0)
	for e, err := range s.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		n += e.Size
	}
	return n
}

func TestTooLargeContentIsRefused(t *testing.T) {
	b := open(t, repo.NewMemory(), keyStore{"k"})
	w, err := b.NewWriter(t.Context(), "org", "box")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if _, err := w.PutContent(t.Context(), io.LimitReader(zeros{}, repo.MaxContent+1)); !errors.Is(err, repo.ErrTooLarge) {
		t.Errorf("PutContent = %v, want ErrTooLarge", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestSecondWriterOfACommitIsRefused(t *testing.T) {
	b := open(t, repo.NewMemory(), keyStore{"k"})
	b.store(t, "org", "box", 1, []byte("one"))
	w, err := b.NewWriter(t.Context(), "org", "box")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.PutContent(t.Context(), strings.NewReader("two")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(t.Context(), repo.Commit{Seq: 1, At: time.Now()}); !errors.Is(err, repo.ErrCommitExists) {
		t.Errorf("Commit = %v, want ErrCommitExists", err)
	}
}

func TestWrongKeyOpensNothing(t *testing.T) {
	storage := repo.NewMemory()
	b := open(t, storage, keyStore{"k"})
	c := b.store(t, "org", "box", 1, []byte("secret words"))[0]
	thief := open(t, storage, keyStore{"other"})
	thief.index = b.index
	stolen, err := repo.Open(t.Context(), storage, keyStore{"other"}, b.index, repo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := stolen.ReadContent(t.Context(), "org", "box", c, io.Discard); !errors.Is(err, repo.ErrDamaged) {
		t.Errorf("ReadContent with another key = %v, want ErrDamaged", err)
	}
	if _, err := stolen.Commit(t.Context(), "org", "box", 1); !errors.Is(err, repo.ErrDamaged) {
		t.Errorf("Commit with another key = %v, want ErrDamaged", err)
	}
	for e := range storage.List(t.Context(), "") {
		r, err := storage.Open(t.Context(), e.Key, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		data, _ := io.ReadAll(r)
		if bytes.Contains(data, []byte("secret words")) {
			t.Errorf("%s holds the content in the clear", e.Key)
		}
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	storage := repo.NewMemory()
	storage.Set("format.json", []byte(`{"product":"holdfast repository","id":"x","version":2,"min_reader":2,"min_writer":2}`))
	_, err := repo.Open(t.Context(), storage, keyStore{"k"}, repo.NewMemoryIndex(), repo.Options{})
	if err == nil || !strings.Contains(err.Error(), "newer version") {
		t.Errorf("Open = %v, want a sentence about a newer version", err)
	}
}

func TestLostFormatIsNotMadeAnew(t *testing.T) {
	storage := repo.NewMemory()
	b := open(t, storage, keyStore{"k"})
	b.store(t, "org", "box", 1, []byte("one"))
	if err := storage.Delete(t.Context(), "format.json"); err != nil {
		t.Fatal(err)
	}
	if _, err := repo.Open(t.Context(), storage, keyStore{"k"}, b.index, repo.Options{}); !errors.Is(err, repo.ErrDamaged) {
		t.Errorf("Open = %v, want ErrDamaged", err)
	}
}

// TestDamageIsFoundAndNamed does each harm to each object.
func TestDamageIsFoundAndNamed(t *testing.T) {
	harms := map[string]func([]byte) []byte{
		"flip at start":      func(d []byte) []byte { d[1] ^= 1; return d },
		"flip in the middle": func(d []byte) []byte { d[len(d)/2] ^= 1; return d },
		"flip at end":        func(d []byte) []byte { d[len(d)-2] ^= 1; return d },
		"truncate":           func(d []byte) []byte { return d[:len(d)*2/3] },
		"zero":               func(d []byte) []byte { clear(d[len(d)/3 : len(d)*2/3]); return d },
		"empty":              func([]byte) []byte { return nil },
		"delete":             nil,
	}
	build := func() (box, *repo.Memory) {
		storage := repo.NewMemory()
		b := open(t, storage, keyStore{"k"})
		for i := range 3 {
			b.store(t, "org", "box", int64(i+1), []byte(fmt.Sprint("message ", i)), []byte(lines(noise(uint64(i), 100<<10), 76, "\n")), noise(uint64(i+9), 100<<10))
		}
		return b, storage
	}
	_, sample := build()
	kinds := map[string]int{} // which object of a kind, by its order
	for e := range sample.List(t.Context(), "t/") {
		kind := strings.Split(e.Key, "/")[2]
		kinds[kind]++
	}
	for kind, n := range kinds {
		for name, harm := range harms {
			b, storage := build()
			key := nth(t, storage, "t/org/"+kind+"/", n/2)
			r, err := storage.Open(t.Context(), key, 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			data, _ := io.ReadAll(r)
			if harm == nil {
				err = storage.Delete(t.Context(), key)
			} else {
				storage.Set(key, harm(data))
			}
			if err != nil {
				t.Fatal(err)
			}
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

func nth(t testing.TB, s repo.Storage, prefix string, n int) string {
	t.Helper()
	for e := range s.List(t.Context(), prefix) {
		if n == 0 {
			return e.Key
		}
		n--
	}
	t.Fatalf("too few objects under %s", prefix)
	return ""
}

func TestSwappedPacksAreFound(t *testing.T) {
	storage := repo.NewMemory()
	b := open(t, storage, keyStore{"k"})
	c := b.store(t, "org", "box", 1, []byte("mine"))[0]
	b.store(t, "other", "box", 1, []byte("theirs"))
	mine, theirs := nth(t, storage, "t/org/d/", 0), nth(t, storage, "t/other/d/", 0)
	r, err := storage.Open(t.Context(), theirs, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	data, _ := io.ReadAll(r)
	storage.Set(mine, data)
	if err := b.ReadContent(t.Context(), "org", "box", c, io.Discard); !errors.Is(err, repo.ErrDamaged) {
		t.Errorf("ReadContent from another tenant's pack = %v, want ErrDamaged", err)
	}
}

func TestMetaIsStoredOnceAndCheckedByKind(t *testing.T) {
	b := open(t, repo.NewMemory(), keyStore{"k"})
	w, err := b.NewWriter(t.Context(), "org", "box")
	if err != nil {
		t.Fatal(err)
	}
	one, err1 := w.PutMeta(t.Context(), 'p', []byte("page"))
	two, err2 := w.PutMeta(t.Context(), 'p', []byte("page"))
	if err := errors.Join(err1, err2); err != nil || one != two {
		t.Errorf("PutMeta twice = %s and %s, %v; want the same", one, two, err)
	}
	done, err := w.Commit(t.Context(), repo.Commit{Seq: 1, At: time.Now(), Root: one})
	if err != nil {
		t.Fatal(err)
	}
	b.index.Add("org", done.Objects)
	if len(done.Objects) != 1 {
		t.Errorf("the commit holds %d objects, want 1", len(done.Objects))
	}
	got, err := b.ReadMeta(t.Context(), "org", "box", 'p', one)
	if err != nil || string(got) != "page" {
		t.Errorf("ReadMeta = %q, %v", got, err)
	}
	if _, err := b.ReadMeta(t.Context(), "org", "box", 'x', one); !errors.Is(err, repo.ErrDamaged) {
		t.Errorf("ReadMeta of another kind = %v, want ErrDamaged", err)
	}
}
