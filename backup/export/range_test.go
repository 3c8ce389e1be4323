package export_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"holdfast/backup"
	"holdfast/backup/export"
	"holdfast/backup/repo"
)

// FuzzRange asks for any ranges of an encrypted file as it is downloaded: what
// comes is what stands there, and nothing else.
func FuzzRange(f *testing.F) {
	for _, c := range [][2]string{{"bytes=-0", ""}, {"bytes=0-99", ""}, {"bytes=-50", ""}, {"bytes=100-", `"tag"`}, {"bytes=0-0,65535-65537,-1", ""}, {"bytes=99999999999-", ""}, {"bytes=5-4", ""}, {"bytes=0-", "another"}, {"lines=1-2", ""}, {"bytes=--1,", ""}} {
		f.Add(c[0], c[1])
	}
	plain, file := encrypted(f)
	f.Fuzz(func(t *testing.T, span, ifRange string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Header.Set("Range", span)
		if ifRange != "" {
			r.Header.Set("If-Range", ifRange)
		}
		w := httptest.NewRecorder()
		w.Header().Set("Content-Type", "application/zip")
		w.Header().Set("ETag", `"tag"`)
		http.ServeContent(w, r, "", time.Unix(1_700_000_000, 0), io.NewSectionReader(file, 0, file.Size()))
		switch w.Code {
		case http.StatusOK:
			same(t, plain, w.Body.Bytes(), "bytes 0-"+strconv.Itoa(len(plain)-1)+"/"+strconv.Itoa(len(plain)))
		case http.StatusPartialContent:
			parts(t, plain, w)
		case http.StatusRequestedRangeNotSatisfiable:
		default:
			t.Errorf("Range %q = %d", span, w.Code)
		}
	})
}

// encrypted is the file of an export, of some encrypted chunks, and what it holds.
func encrypted(f *testing.F) ([]byte, *io.SectionReader) {
	f.Helper()
	plain := bytes.Repeat([]byte("0123456789abcdef, and something longer than a power of two. "), 4000)
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		f.Fatal(err)
	}
	files := repo.Files{Storage: repo.NewMemory()}
	e := backup.Export{ID: "EXPORT", Attempt: 1, Key: backup.Secret(identity.String())}
	stored := files.Create(f.Context(), export.File(e))
	w, err := export.Encrypt(stored, identity.Recipient().String(), nil)
	if err != nil {
		f.Fatal(err)
	}
	for _, step := range []func() error{func() error { _, err := w.Write(plain); return err }, w.Close, stored.Close} {
		if err := step(); err != nil {
			f.Fatal(err)
		}
	}
	in, err := files.Open(context.Background(), export.File(e))
	if err != nil {
		f.Fatal(err)
	}
	file, err := export.Open(e, in, in.Size())
	if err != nil || file.Size() != int64(len(plain)) {
		f.Fatal(file, err)
	}
	return plain, file
}

// parts checks one range, or several in one answer.
func parts(t *testing.T, plain []byte, w *httptest.ResponseRecorder) {
	t.Helper()
	kind, params, err := mime.ParseMediaType(w.Header().Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	if kind != "multipart/byteranges" {
		same(t, plain, w.Body.Bytes(), w.Header().Get("Content-Range"))
		return
	}
	list := multipart.NewReader(w.Body, params["boundary"])
	for {
		part, err := list.NextPart()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(part)
		if err != nil {
			t.Fatal(err)
		}
		same(t, plain, data, part.Header.Get("Content-Range"))
	}
}

// same compares what came with what stands at its Content-Range.
func same(t *testing.T, plain, got []byte, at string) {
	t.Helper()
	span, size, _ := strings.Cut(strings.TrimPrefix(at, "bytes "), "/")
	first, last, _ := strings.Cut(span, "-")
	from, err1 := strconv.Atoi(first)
	to, err2 := strconv.Atoi(last)
	if from == len(plain) && to == from-1 && len(got) == 0 {
		return // the last no bytes were asked for
	}
	if err1 != nil || err2 != nil || size != strconv.Itoa(len(plain)) || from < 0 || to < from || to >= len(plain) {
		t.Fatalf("Content-Range = %q", at)
	}
	if !bytes.Equal(got, plain[from:to+1]) {
		t.Errorf("%s: %d bytes that do not stand there", at, len(got))
	}
}
