package engine_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"holdfast/backup/engine"
	"holdfast/backup/repo"
	"holdfast/store/storetest"
)

// golden has a repository of each released format, as a program of that time
// wrote it: goldenHistory backed up after each of its steps, under goldenKeys.
// They are never written anew. HOLDFAST_GOLDEN=format-2 adds one.
const golden = "testdata/golden"

// goldenKeys are the keys of the repositories in testdata. They protect nothing.
type goldenKeys struct{}

func (goldenKeys) Epoch(context.Context, string) (int, error) { return 0, nil }

func (goldenKeys) TenantKey(_ context.Context, tenant string, epoch int) ([]byte, error) {
	key := sha256.Sum256(fmt.Appendf(nil, "golden/%s/%d", tenant, epoch))
	return key[:], nil
}

func (goldenKeys) SourceKey(_ context.Context, tenant, source string, epoch int) ([]byte, error) {
	key := sha256.Sum256(fmt.Appendf(nil, "golden/%s/%s/%d", tenant, source, epoch))
	return key[:], nil
}

func (goldenKeys) Secrets(context.Context, string) ([]byte, error) { return nil, repo.ErrNoKey }

// goldenHistory is what happens in a mailbox. A step may be added at the end for
// a new format; those that are there stay as they are.
func goldenHistory() []func(p *provider) {
	attachment := goldenAttachment(80 << 10)
	var letter, offer, draft string
	return []func(p *provider){
		func(p *provider) {
			letter = p.add("inbox", "A letter", []byte("Subject: A letter\r\n\r\nShort, with a NUL \x00 and bytes \xff\xfe of no charset.\r\n"))
			offer = p.add("inbox", "An offer", goldenMessage("An offer", attachment))
			p.add("sentitems", "Re: An offer", goldenMessage("Re: An offer", attachment))
			p.add("inbox", "No line end", []byte("Subject: No line end"))
			p.add("inbox", "", nil)
			draft = p.add("sentitems", "Ünïcode ✉", []byte("Subject: =?utf-8?B?w5xuw69jb2Rl?=\n\nLines end with LF only.\n"))
		},
		func(p *provider) {
			p.addFolder("projects", "inbox", "Projects / 2026 <&>")
			p.move(offer, "projects")
			p.change(letter, func(m *message) { m.Read, m.Flagged, m.Categories = true, true, []string{"Red", "Übersicht"} })
			p.change(draft, func(m *message) { m.Draft, m.text = true, append(m.text, "One line more.\n"...) })
		},
		func(p *provider) {
			p.remove(letter)
			p.renameFolder("projects", "Projects")
			p.add("projects", "The last", goldenMessage("The last", goldenAttachment(200<<10)))
		},
	}
}

func goldenAttachment(size int) []byte {
	rng := rand.New(rand.NewPCG(2026, uint64(size)))
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	return data
}

func goldenMessage(subject string, attachment []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "Subject: %s\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n", subject)
	for part := range chunks(attachment, 57) {
		b.WriteString(base64.StdEncoding.EncodeToString(part) + "\r\n")
	}
	return b.Bytes()
}

// chunks yields data in parts of n bytes.
func chunks(data []byte, n int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for ; len(data) > 0; data = data[min(n, len(data)):] {
			if !yield(data[:min(n, len(data))]) {
				return
			}
		}
	}
}

// openGolden is an engine on a repository in a folder, with an empty catalog.
func openGolden(t *testing.T, dir string) *bench {
	t.Helper()
	files := must[*repo.Dir](t)(repo.OpenDir(dir))
	t.Cleanup(func() { files.Close() })
	st := storetest.Open(t)
	r := must[*repo.Repository](t)(repo.Open(t.Context(), files, goldenKeys{}, st, repo.Options{}))
	e := &engine.Engine{Repo: r, Catalog: st}
	return &bench{Engine: e, t: t, store: st, engine: e}
}

// eachGolden runs a test with a copy of each repository that an older version wrote.
func eachGolden(t *testing.T, test func(t *testing.T, dir string)) {
	t.Helper()
	list, err := os.ReadDir(golden)
	if err != nil || len(list) == 0 {
		t.Fatal("there is no golden repository", err)
	}
	for _, e := range list {
		t.Run(e.Name(), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "repository")
			if err := os.CopyFS(dir, os.DirFS(filepath.Join(golden, e.Name()))); err != nil {
				t.Fatal(err)
			}
			test(t, dir)
		})
	}
}

// isGolden checks that a repository has the golden history, which the provider then
// has, and that all of it is whole.
func (b *bench) isGolden(t *testing.T, p *provider) {
	t.Helper()
	for i, step := range goldenHistory() {
		step(p)
		b.check(int64(i+1), p.image())
	}
	report := must[engine.Report](t)(b.Verify(t.Context(), org, true))
	if len(report.Damaged) > 0 || report.Items == 0 {
		t.Errorf("Verify = %+v, want all whole", report)
	}
}

func TestGoldenRepositoriesAreReadAndContinued(t *testing.T) {
	if name := os.Getenv("HOLDFAST_GOLDEN"); name != "" {
		writeGolden(t, filepath.Join(golden, name))
	}
	eachGolden(t, func(t *testing.T, dir string) {
		b, p := openGolden(t, dir), newProvider()
		if err := b.Rebuild(t.Context(), org); err != nil {
			t.Fatalf("Rebuild: %v", err)
		}
		b.isGolden(t, p)
		p.add("inbox", "New", goldenMessage("New", goldenAttachment(80<<10)))
		result := b.run(p)
		if result.Run.NewItems != 1 || p.contents != 1 {
			t.Errorf("the next run took %d items and read %d contents, want the new one", result.Run.NewItems, p.contents)
		}
		if result.Run.StoredBytes > 40<<10 {
			t.Errorf("it stored %d bytes, although the attachment was there already", result.Run.StoredBytes)
		}
	})
}

// writeGolden makes a golden repository where none is.
func writeGolden(t *testing.T, dir string) {
	t.Helper()
	if _, err := os.Stat(dir); err == nil {
		t.Fatalf("%s is there: golden repositories stay as they are", dir)
	}
	b, p := openGolden(t, dir), newProvider()
	for _, step := range goldenHistory() {
		step(p)
		b.run(p)
	}
}
