package repo_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
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

func (k keyStore) Secrets(context.Context, string) ([]byte, error) { return nil, repo.ErrNoKey }

// box is a repository with its parts.
type box struct {
	*repo.Repository
	storage repo.Storage
	index   *repo.MemoryIndex
	needs   map[repo.MetaID][]repo.Content // by the roots of commits
}

func open(t testing.TB, storage repo.Storage, keys repo.KeyStore) box {
	t.Helper()
	index := repo.NewMemoryIndex()
	r, err := repo.Open(t.Context(), storage, keys, index, repo.Options{TargetPack: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	return box{r, storage, index, map[repo.MetaID][]repo.Content{}}
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
				b.add(t, tenant, c.Packs)
			}
			packs, err := b.OtherPacks(t.Context(), tenant, source)
			if err != nil {
				t.Fatal(err)
			}
			b.add(t, tenant, packs)
		}
	}
}

func (b box) add(t testing.TB, tenant string, packs []repo.Pack) {
	t.Helper()
	objects, err := b.Objects(t.Context(), tenant, packs)
	if err != nil {
		t.Fatal(err)
	}
	b.index.Add(tenant, objects)
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
	b.needs[root] = list
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

// object returns the bytes of an object.
func object(t testing.TB, s repo.Storage, key string) []byte {
	t.Helper()
	r, err := s.Open(t.Context(), key, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// keys lists the keys below prefix.
func keys(t testing.TB, s repo.Storage, prefix string) []string {
	t.Helper()
	var list []string
	for e, err := range s.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, e.Key)
	}
	return list
}
