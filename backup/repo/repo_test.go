package repo_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/backup/repo"
)

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
