package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/backup/repo"
)

func TestSamePieceFromManyGoroutinesIsStoredOnce(t *testing.T) {
	b := open(t, repo.NewMemory(), keyStore{"k"})
	w, err := b.NewWriter(t.Context(), "org", "box")
	if err != nil {
		t.Fatal(err)
	}
	text := []byte("To: all\r\n\r\n" + lines(noise(1, 300<<10), 76, "\r\n"))
	contents := make([]repo.Content, 16)
	var wg sync.WaitGroup
	for i := range contents {
		wg.Go(func() {
			c, err := w.PutContent(t.Context(), bytes.NewReader(text))
			if err != nil {
				t.Error(err)
			}
			contents[i] = c
		})
	}
	wg.Wait()
	done, err := w.Commit(t.Context(), repo.Commit{Seq: 1, At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if len(done.Objects) != 2 { // the skeleton and the attachment
		t.Errorf("the commit holds %d pieces, want 2", len(done.Objects))
	}
	b.index.Add("org", done.Objects)
	for _, c := range contents {
		if !bytes.Equal(b.read(t, "org", "box", c), text) {
			t.Error("the content came back changed")
		}
	}
}

func TestOrdinaryMailIsOneSmallPiece(t *testing.T) {
	b := open(t, repo.NewMemory(), keyStore{"k"})
	mail := "Subject: x\r\n\r\ntext\r\n--b\r\n" + lines(bytes.Repeat([]byte("слово за словом\r\n"), 700), 76, "\r\n") + "--b\r\nmore\r\n" + lines(noise(2, 4000), 76, "\r\n") + "--b--\r\n"
	c := b.store(t, "org", "box", 1, []byte(mail))[0]
	if len(c.Skeleton) != 1 || len(c.Parts) != 5 {
		t.Errorf("%d pieces in %d parts, want 1 in 5", len(c.Skeleton), len(c.Parts))
	}
	for _, p := range c.Parts {
		if len(p.Shared) > 0 {
			t.Error("a text, or a picture of a few bytes, became a shared piece")
		}
	}
	if n := size(t, b.storage, "t/org/d/"); n > 26<<10 {
		t.Errorf("%d bytes of mail take %d, want the attachments decoded", len(mail), n)
	}
}

// TestALogoIsStoredOnce stores messages of a sender to two people: the picture
// below their text is one shared piece.
func TestALogoIsStoredOnce(t *testing.T) {
	b := open(t, repo.NewMemory(), keyStore{"k"})
	logo := "\r\nContent-Type: image/png\r\n\r\n" + lines(append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"), noise(1, 12<<10)...), 76, "\r\n")
	var first repo.Content
	for i, box := range []string{"ada", "ben"} {
		for seq := range int64(3) {
			mail := fmt.Sprintf("Subject: %d to %s\r\n\r\n%s", seq, box, logo)
			c := b.store(t, "org", box, seq+1, []byte(mail))[0]
			if i == 0 && seq == 0 {
				first = c
			}
			if len(c.Parts) != 2 || len(c.Parts[1].Shared) != 1 || c.Parts[1].Shared[0].ID != first.Parts[1].Shared[0].ID {
				t.Errorf("parts are %+v, want the picture as one shared piece", c.Parts)
			}
			if got := b.read(t, "org", box, c); string(got) != mail {
				t.Error("came back changed")
			}
		}
	}
	if n := size(t, b.storage, "t/org/d/"); n > 18<<10 {
		t.Errorf("a picture of 12 KiB in six messages takes %d bytes", n)
	}
}

// TestAttachmentIsOneWhateverItsLines stores an attachment with other line
// ends and widths around it: the shared piece is the file itself.
func TestAttachmentIsOneWhateverItsLines(t *testing.T) {
	b := open(t, repo.NewMemory(), keyStore{"k"})
	for tail := range 4 {
		file := noise(uint64(tail), 100_000+tail)
		var first repo.Content
		for i, form := range []string{lines(file, 76, "\r\n"), lines(file, 76, "\n"), lines(file, 72, "\r\n"), lines(file, 60, "\n")} {
			text := "head\r\n\r\n" + form + "--end--\r\n"
			c := b.store(t, "org", "box", int64(tail*10+i+1), []byte(text))[0]
			if got := b.read(t, "org", "box", c); string(got) != text {
				t.Errorf("tail %d, form %d: came back changed", tail, i)
			}
			if i == 0 {
				first = c
			}
			if len(c.Parts) != 3 || c.Parts[1].Length != int64(len(file)) || c.Parts[1].Shared[0].ID != first.Parts[1].Shared[0].ID {
				t.Errorf("tail %d, form %d: parts are %+v, want the file as one shared piece", tail, i, c.Parts)
			}
		}
	}
}

func TestWriterThatEndedIsRefused(t *testing.T) {
	b := open(t, repo.NewMemory(), keyStore{"k"})
	for name, end := range map[string]func(*repo.Writer){
		"aborted":   func(w *repo.Writer) { w.Abort() },
		"committed": func(w *repo.Writer) { _, _ = w.Commit(t.Context(), repo.Commit{Seq: 1, At: time.Now()}) },
		"refused":   func(w *repo.Writer) { _, _ = w.Commit(t.Context(), repo.Commit{Seq: 0, At: time.Now()}) },
	} {
		w, err := b.NewWriter(t.Context(), "org", "box")
		if err != nil {
			t.Fatal(err)
		}
		end(w)
		_, err1 := w.PutContent(t.Context(), strings.NewReader("x"))
		_, err2 := w.PutMeta(t.Context(), 'm', []byte("x"))
		_, err3 := w.Commit(t.Context(), repo.Commit{Seq: 7, At: time.Now()})
		if err1 == nil || err2 == nil || err3 == nil {
			t.Errorf("%s: %v, %v, %v; want errors", name, err1, err2, err3)
		}
		w.Abort()
	}
}

func TestCommitComesBack(t *testing.T) {
	b := open(t, repo.NewMemory(), keyStore{"k"})
	w, err := b.NewWriter(t.Context(), "org", "box")
	if err != nil {
		t.Fatal(err)
	}
	root, err := w.PutMeta(t.Context(), 'r', []byte("root"))
	if err != nil {
		t.Fatal(err)
	}
	want := repo.Commit{Seq: 1, At: time.Date(2026, 1, 2, 3, 4, 5, 6_000_000, time.UTC), Root: root, Partial: true, Info: []byte("delta token")}
	done, err := w.Commit(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := b.Commit(t.Context(), "org", "box", 1)
	if err != nil {
		t.Fatal(err)
	}
	if got.Seq != want.Seq || !got.At.Equal(want.At) || got.Root != root || !got.Partial || string(got.Info) != "delta token" ||
		len(got.Packs) != 1 || got.Packs[0].ID != done.Packs[0].ID || got.Packs[0].Length != done.Bytes {
		t.Errorf("commit = %+v, want %+v with one pack", got, want)
	}
	if _, err := b.Commit(t.Context(), "org", "box", 2); !errors.Is(err, repo.ErrNotExist) {
		t.Errorf("the next commit: %v, want ErrNotExist", err)
	}
}

func TestCommitsComeInOrderAfterOne(t *testing.T) {
	b := open(t, repo.NewMemory(), keyStore{"k"})
	for seq := range int64(12) {
		b.store(t, "org", "box", seq+1)
	}
	b.store(t, "org", "box2", 1)
	var seqs []int64
	for c, err := range b.Commits(t.Context(), "org", "box", 8) {
		if err != nil {
			t.Fatal(err)
		}
		seqs = append(seqs, c.Seq)
	}
	if !slices.Equal(seqs, []int64{9, 10, 11, 12}) {
		t.Errorf("commits after 8 = %d", seqs)
	}
	sources, err := b.Sources(t.Context(), "org")
	if err != nil || !slices.Equal(sources, []string{"box", "box2"}) {
		t.Errorf("Sources = %q, %v", sources, err)
	}
}

func TestNamesThatAreNoKeysAreRefused(t *testing.T) {
	b := open(t, repo.NewMemory(), keyStore{"k"})
	for _, name := range []string{"", "a/b", "..", ".x", "a b", strings.Repeat("x", 200)} {
		if _, err := b.NewWriter(t.Context(), name, "box"); err == nil {
			t.Errorf("tenant %q was accepted", name)
		}
		if _, err := b.NewWriter(t.Context(), "org", name); err == nil {
			t.Errorf("source %q was accepted", name)
		}
	}
}

// TestManyTinyPiecesReadBack checks that no footer gets longer than is read.
func TestManyTinyPiecesReadBack(t *testing.T) {
	storage := repo.NewMemory()
	index := repo.NewMemoryIndex()
	r, err := repo.Open(t.Context(), storage, keyStore{"k"}, index, repo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := r.NewWriter(t.Context(), "org", "box")
	if err != nil {
		t.Fatal(err)
	}
	const n = 120_000
	for i := range n {
		if _, err := w.PutMeta(t.Context(), 'i', fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	done, err := w.Commit(t.Context(), repo.Commit{Seq: 1, At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	objects, err := r.Objects(t.Context(), "org", done.Packs)
	if err != nil || len(objects) != n {
		t.Errorf("the footers name %d pieces, %v; want %d", len(objects), err, n)
	}
}

// TestMemoryOfLargeContentIsBounded streams the largest content, much of it
// attachment, and watches the heap.
func TestMemoryOfLargeContentIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	storage := nowhere{repo.NewMemory()}
	r, err := repo.Open(t.Context(), storage, keyStore{"k"}, repo.NewMemoryIndex(), repo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := r.NewWriter(t.Context(), "org", "box")
	if err != nil {
		t.Fatal(err)
	}
	block := []byte(strings.Repeat("text without end\r\n", 200_000) + "\r\n" + lines(noise(1, 8<<20), 76, "\r\n") + "\r\n")
	runtime.GC()
	runtime.GC() // what pools of earlier tests hold goes with the second
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	in := &watched{block: block, left: repo.MaxContent}
	c, err := w.PutContent(t.Context(), in)
	if err != nil || c.Size != repo.MaxContent {
		t.Fatalf("PutContent = %d bytes, %v", c.Size, err)
	}
	if grown := int64(in.peak) - int64(before.HeapAlloc); grown > 64<<20 {
		t.Errorf("the heap grew by %d MiB, want at most 64", grown>>20)
	}
}

// watched gives block again and again, each time with another number in it, and
// keeps the largest heap it saw.
type watched struct {
	block []byte
	left  int64
	at, n int
	peak  uint64
}

func (w *watched) Read(p []byte) (int, error) {
	if w.left == 0 {
		return 0, io.EOF
	}
	if w.at == len(w.block) {
		w.at = 0
		w.n++
		for i := 5 << 20; i < len(w.block); i += 1 << 20 {
			line := i - (i-len("text without end\r\n")*200_000-2)%78
			number(w.block, line, w.n)
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		w.peak = max(w.peak, m.HeapAlloc)
	}
	n := copy(p[:min(int64(len(p)), w.left)], w.block[w.at:])
	w.at += n
	w.left -= int64(n)
	return n, nil
}

// asked is an index that counts what it is asked for.
type asked struct {
	repo.Index
	ids atomic.Int64
}

func (a *asked) Locate(ctx context.Context, tenant string, ids []repo.PieceID) (map[repo.PieceID]repo.Location, error) {
	a.ids.Add(int64(len(ids)))
	return a.Index.Locate(ctx, tenant, ids)
}

func TestALongFirstRunLooksUpOnlyWhatItMayHave(t *testing.T) {
	b := open(t, repo.NewMemory(), keyStore{"k"})
	index := &asked{Index: b.index}
	r, err := repo.Open(t.Context(), b.storage, keyStore{"k"}, index, repo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := r.NewWriter(t.Context(), "org", "box")
	if err != nil {
		t.Fatal(err)
	}
	for seq := int64(1); seq <= 3; seq++ {
		if seq > 1 {
			if w, err = w.Next(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 50 {
			if _, err := w.PutContent(t.Context(), bytes.NewReader(noise(uint64(seq)*1000+uint64(i), 1<<10))); err != nil { //nolint:gosec // small
				t.Fatal(err)
			}
		}
		before := index.ids.Load()
		if _, err := w.PutContent(t.Context(), bytes.NewReader(noise(1000, 1<<10))); err != nil { // the first of all
			t.Fatal(err)
		}
		if n := index.ids.Load() - before; seq > 1 && n != 1 || seq == 1 && n != 0 {
			t.Errorf("commit %d: the index was asked for a piece of before %d times", seq, n)
		}
		done, err := w.Commit(t.Context(), repo.Commit{Seq: seq, At: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		b.index.Add("org", done.Objects)
		if len(done.Objects) != 50 {
			t.Errorf("commit %d stored %d pieces, want the 50 that are new", seq, len(done.Objects))
		}
	}
	if n := index.ids.Load(); n > 4 {
		t.Errorf("the index was asked for %d pieces of 150, want the two that were there", n)
	}
	// Another run knows nothing of it, and asks.
	if w, err = r.NewWriter(t.Context(), "org", "box"); err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	before := index.ids.Load()
	if _, err := w.PutContent(t.Context(), bytes.NewReader(noise(9999, 1<<10))); err != nil || index.ids.Load() != before+1 {
		t.Errorf("the next run asked %d times, %v", index.ids.Load()-before, err)
	}
}
