package repo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"testing"
	"time"
)

type testKeys struct{ epoch int }

func (k testKeys) Epoch(context.Context, string) (int, error) { return k.epoch, nil }

func (testKeys) TenantKey(_ context.Context, tenant string, epoch int) ([]byte, error) {
	h := sha256.Sum256(fmt.Appendf(nil, "%s/%d", tenant, epoch))
	return h[:], nil
}

func (testKeys) SourceKey(_ context.Context, tenant, source string, epoch int) ([]byte, error) {
	h := sha256.Sum256(fmt.Appendf(nil, "%s/%s/%d", tenant, source, epoch))
	return h[:], nil
}

func (testKeys) Secrets(context.Context, string) ([]byte, error) { return nil, ErrNoKey }

func testRepository(t testing.TB, storage Storage, index Index, keys KeyStore) *Repository {
	t.Helper()
	r, err := Open(t.Context(), storage, keys, index, Options{TargetPack: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestNoKeySealsTwiceWithOneNonce writes many blobs of all types, to several
// sources, and looks at the key and nonce of each.
func TestNoKeySealsTwiceWithOneNonce(t *testing.T) {
	storage := NewMemory()
	seen := map[string]string{} // key and nonce, to the blob's name
	note := func(name string, key, nonce []byte) {
		both := string(key) + string(nonce)
		if other, ok := seen[both]; ok {
			t.Errorf("%s and %s are sealed under the same key and nonce", name, other)
		}
		seen[both] = name
	}
	for i := range 60 {
		// The same contents again, as if the index had lost them.
		r := testRepository(t, storage, NewMemoryIndex(), testKeys{i / 30})
		source := fmt.Sprint("box", i%3)
		w, err := r.NewWriter(t.Context(), "org", source)
		if err != nil {
			t.Fatal(err)
		}
		for j := range 10 {
			data := bytes.Repeat([]byte(fmt.Sprint("text ", j)), 10_000)
			if _, err := w.putSource(t.Context(), data, sha256.Sum256(data)); err != nil {
				t.Fatal(err)
			}
			if _, err := w.putShared(t.Context(), data); err != nil {
				t.Fatal(err)
			}
			if _, err := w.PutMeta(t.Context(), 'm', data); err != nil {
				t.Fatal(err)
			}
		}
		done, err := w.Commit(t.Context(), Commit{Seq: int64(i + 1), At: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range done.Packs {
			f, _, err := r.readFooter(t.Context(), "org", p.Kind, p.ID)
			if err != nil {
				t.Fatal(err)
			}
			note("footer "+p.ID.String(), blobKey(w.tenantKey, p.ID, blobFooter, uint32(len(f.Blobs))), blobNonce(uint32(len(f.Blobs))))
			for n, b := range f.Blobs {
				number := uint32(n)
				name := fmt.Sprint(p.ID, "/", n)
				if !holdsShared(b.Type) {
					note(name, blobKey(w.sourceKey, p.ID, b.Type, number), blobNonce(number))
					continue
				}
				if b.Type == blobInner {
					note(name+" around it", blobKey(w.tenantKey, p.ID, b.Type, number), blobNonce(number))
				}
				sealed, err := r.readInner(t.Context(), "org", b.locations(p.ID, p.Kind, w.epoch, number)[0])
				if err != nil {
					t.Fatal(err)
				}
				note(name, b.Pieces[0].ID[:], sealed[:nonceSize]) // one key per identifier
			}
		}
	}
	if len(seen) < 1500 {
		t.Errorf("saw %d blobs only", len(seen))
	}
}

func TestEpochsStayReadable(t *testing.T) {
	storage, index := NewMemory(), NewMemoryIndex()
	data := bytes.Repeat([]byte("AAAA"), 19*2000)
	var contents []Content
	for epoch := range 3 {
		r := testRepository(t, storage, index, testKeys{epoch})
		w, err := r.NewWriter(t.Context(), "org", "box")
		if err != nil {
			t.Fatal(err)
		}
		c, err := w.PutContent(t.Context(), bytes.NewReader(append(data, byte(epoch))))
		if err != nil {
			t.Fatal(err)
		}
		contents = append(contents, c)
		done, err := w.Commit(t.Context(), Commit{Seq: int64(epoch + 1), At: time.Now(), Info: []byte("info")})
		if err != nil {
			t.Fatal(err)
		}
		index.Add("org", done.Objects)
	}
	r := testRepository(t, storage, index, testKeys{2})
	for epoch, c := range contents {
		if err := r.ReadContent(t.Context(), "org", "box", c, io.Discard); err != nil {
			t.Errorf("content of epoch %d: %v", epoch, err)
		}
	}
	if report, err := r.Verify(t.Context(), "org", "box", VerifyBlobs); err != nil || len(report.Damaged) > 0 || report.Commits != 3 {
		t.Errorf("Verify = %+v, %v", report, err)
	}
}

// shredded has no key for one source any more.
type shredded struct {
	testKeys
	source string
}

func (s shredded) SourceKey(ctx context.Context, tenant, source string, epoch int) ([]byte, error) {
	if source == s.source {
		return make([]byte, keySize), nil // a new one
	}
	return s.testKeys.SourceKey(ctx, tenant, source, epoch)
}

// TestSharedPieceOutlivesTheSourceThatBroughtIt destroys the key of the source
// whose pack has an attachment: its own content is gone, others read theirs.
func TestSharedPieceOutlivesTheSourceThatBroughtIt(t *testing.T) {
	storage, index := NewMemory(), NewMemoryIndex()
	r := testRepository(t, storage, index, testKeys{})
	file := bytes.Repeat([]byte("an attachment of many bytes "), 5000)
	contents := map[string]Content{}
	for _, source := range []string{"first", "second"} {
		w, err := r.NewWriter(t.Context(), "org", source)
		if err != nil {
			t.Fatal(err)
		}
		c, err := w.PutContent(t.Context(), bytes.NewReader(append([]byte("To: "+source+"\n\n"), encodeLines(nil, file, 76, false)...)))
		if err != nil {
			t.Fatal(err)
		}
		contents[source] = c
		done, err := w.Commit(t.Context(), Commit{Seq: 1, At: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		index.Add("org", done.Objects)
	}
	r = testRepository(t, storage, index, shredded{source: "first"})
	if err := r.ReadContent(t.Context(), "org", "first", contents["first"], io.Discard); err == nil {
		t.Error("the content of the source without a key was read")
	}
	if err := r.ReadContent(t.Context(), "org", "second", contents["second"], io.Discard); err != nil {
		t.Errorf("the content of the other source: %v", err)
	}
	data, err := get(t.Context(), storage, commitKey("org", "first", 1), 0, -1, maxCommit)
	if err != nil {
		t.Fatal(err)
	}
	key, _ := testKeys{}.TenantKey(t.Context(), "org", 0)
	forRecord := recordKey(key, data[12:commitHeader])
	if _, err := forRecord.Open(nil, blobNonce(0), data[commitHeader:], commitData("org", "first", 1, data)); err != nil {
		t.Errorf("the packs of its commit can't be found: %v", err)
	}
}

// TestPackWithoutRoomRefusesABlob checks the limit that Verify relies on.
func TestPackWithoutRoomRefusesABlob(t *testing.T) {
	r := testRepository(t, NewMemory(), NewMemoryIndex(), testKeys{})
	w, err := r.NewWriter(t.Context(), "org", "box")
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPackWriter(t.Context(), r.storage, "org", "box", PackData, 0, w.tenantKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.add(blobGroup, w.sourceKey, make([]byte, maxSealed+1), nil); err == nil {
		t.Error("a blob beyond the limit was taken")
	}
	p.offset = maxPack - maxFooter - 10
	if _, err := p.add(blobGroup, w.sourceKey, make([]byte, 100), nil); err == nil {
		t.Error("a blob beyond the pack's limit was taken")
	}
}
