package s3_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/minio/minio-go/v7"

	"holdfast/backup/repo"
	"holdfast/backup/repo/s3"
	"holdfast/backup/repo/s3/s3test"
	"holdfast/backup/repo/storagetest"
)

func TestServerThatCreatesTwiceIsRefused(t *testing.T) {
	server := s3test.Fake(t)
	c := server.Bucket(t)
	c.Endpoint = server.Before(t, func(_ http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		r.Header.Del("If-None-Match")
		return false
	}).Endpoint
	for range 2 { // the probe that the first try left is no proof
		if _, err := s3.Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "ignores If-None-Match") {
			t.Errorf("Open = %v, want it refused", err)
		}
	}
}

// TestLostAnswers loses the answer to a PUT that was done: the repeated request
// finds its own object, and another upload still finds it taken.
func TestLostAnswers(t *testing.T) {
	server := s3test.Fake(t)
	c := server.Bucket(t)
	var lose atomic.Bool
	c.Endpoint = server.Before(t, func(_ http.ResponseWriter, r *http.Request, pass http.Handler) bool {
		if r.Method != http.MethodPut || !lose.CompareAndSwap(true, false) {
			return false
		}
		pass.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}).Endpoint
	s := open(t, c)
	lose.Store(true)
	if err := storagetest.Create(t.Context(), s, "t/a/c/b/1", "first"); err != nil {
		t.Errorf("create with a lost answer = %v, want nil: the object is its own", err)
	}
	lose.Store(true)
	if err := storagetest.Create(t.Context(), s, "t/a/c/b/1", "first"); !errors.Is(err, repo.ErrExist) {
		t.Errorf("another create = %v, want ErrExist", err)
	}
	if lose.Load() {
		t.Error("no answer was lost")
	}
}

// TestStormsAreWaitedOut answers with 503 for a while.
func TestStormsAreWaitedOut(t *testing.T) {
	server := s3test.Fake(t)
	c := server.Bucket(t)
	var storm atomic.Int64
	c.Endpoint = server.Before(t, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
		if storm.Add(-1) < 0 {
			return false
		}
		refuse(w, http.StatusServiceUnavailable, "SlowDown")
		return true
	}).Endpoint
	s := open(t, c)
	storm.Store(3)
	storagetest.MustCreate(t, s, "t/a", strings.Repeat("data", 100<<10))
	storm.Store(3)
	if got := storagetest.Object(t, s, "t/a"); len(got) != 400<<10 {
		t.Errorf("%d bytes came back, want %d", len(got), 400<<10)
	}
	storm.Store(3)
	if got := storagetest.Keys(t, s, ""); len(got) != 1 {
		t.Errorf("List = %q, want one object", got)
	}
	storm.Store(3)
	if err := s.Delete(t.Context(), "t/a"); err != nil {
		t.Errorf("Delete = %v", err)
	}
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>`+code+`</Code><Message>no</Message><Region>eu-west-7</Region></Error>`)
}

// TestBrokenReadsGoOn breaks answers off in the middle of an object, and in the
// end each of them: what arrives is right or an error, never too little.
func TestBrokenReadsGoOn(t *testing.T) {
	server := s3test.Fake(t)
	c := server.Bucket(t)
	data := strings.Repeat("0123456789", 50<<10)
	storagetest.MustCreate(t, open(t, c), "t/a", data)
	var breaks atomic.Int64
	c.Endpoint = server.Before(t, func(w http.ResponseWriter, r *http.Request, pass http.Handler) bool {
		if r.Method != http.MethodGet || breaks.Add(-1) < 0 {
			return false
		}
		rec := httptest.NewRecorder()
		pass.ServeHTTP(rec, r)
		for name, values := range rec.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes()[:rec.Body.Len()/2])
		panic(http.ErrAbortHandler)
	}).Endpoint
	s := open(t, c)
	breaks.Store(3)
	if got := string(storagetest.Object(t, s, "t/a")); got != data {
		t.Errorf("%d bytes came back changed, want %d", len(got), len(data))
	}
	breaks.Store(100)
	r, err := s.Open(t.Context(), "t/a", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%d bytes, %v; want an error that does not say that the object is short", len(got), err)
	}
}

// TestErrorsSayWhatToDo answers like a server that is not content.
func TestErrorsSayWhatToDo(t *testing.T) {
	for code, c := range map[string]struct {
		status int
		want   string
	}{
		"NoSuchBucket":                 {http.StatusNotFound, "there is no bucket"},
		"AccessDenied":                 {http.StatusForbidden, "needs s3:ListBucket"},
		"InvalidAccessKeyId":           {http.StatusForbidden, "check HOLDFAST_S3_ACCESS_KEY"},
		"SignatureDoesNotMatch":        {http.StatusForbidden, "check HOLDFAST_S3_SECRET_KEY"},
		"RequestTimeTooSkewed":         {http.StatusForbidden, "clock of this machine"},
		"AuthorizationHeaderMalformed": {http.StatusBadRequest, "put region=eu-west-7 into -repository"},
		"NotImplemented":               {http.StatusNotImplemented, "can't do what Holdfast needs"},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { refuse(w, c.status, code) }))
		_, err := s3.Open(t.Context(), s3.Config{Bucket: "bucket", Endpoint: server.URL, Region: "us-east-1", AccessKey: "a", SecretKey: "hidden"})
		server.Close()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Open = %v, want %q in it", code, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: the error has the secret in it", code)
		}
	}
}

func TestRealServerSaysWhatToDo(t *testing.T) {
	c := s3test.Real(t).Bucket(t)
	for want, change := range map[string]func(*s3.Config){
		"there is no bucket":           func(c *s3.Config) { c.Bucket = "no-such-bucket" },
		"check HOLDFAST_S3_ACCESS_KEY": func(c *s3.Config) { c.AccessKey = "somebody" },
		"check HOLDFAST_S3_SECRET_KEY": func(c *s3.Config) { c.SecretKey = "something" },
		"has no object lock":           func(c *s3.Config) { c.Lock = s3.Lock{Mode: s3.Compliance, Period: 1} },
		"put region=us-east-1 into":    func(c *s3.Config) { c.Region = "eu-central-1" },
	} {
		other := c
		change(&other)
		if _, err := s3.Open(t.Context(), other); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open = %v, want %q in it", err, want)
		}
	}
}

// TestUploadThatEndsLeavesNothing ends the connection in the middle of a PUT.
func TestUploadThatEndsLeavesNothing(t *testing.T) {
	server := s3test.Real(t)
	c := server.Bucket(t)
	s := open(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	c.Endpoint = server.Before(t, func(_ http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/t/a/d/00/x") {
			r.Body = io.NopCloser(io.MultiReader(io.LimitReader(r.Body, 100<<10), dying{cancel}))
		}
		return false
	}).Endpoint
	if err := storagetest.Create(ctx, open(t, c), "t/a/d/00/x", strings.Repeat("0123456789", 100<<10)); err == nil {
		t.Error("the upload worked")
	}
	if list := storagetest.Keys(t, s, ""); len(list) != 0 {
		t.Errorf("the bucket shows %q, want nothing", list)
	}
	for u := range server.Client(t).ListIncompleteUploads(t.Context(), c.Bucket, "", true) {
		t.Errorf("an upload in parts was left: %v", u)
	}
	storagetest.MustCreate(t, s, "t/a/d/00/x", "whole")
}

// dying is a body whose sender dies.
type dying struct{ cancel func() }

func (d dying) Read([]byte) (int, error) {
	d.cancel()
	return 0, io.ErrUnexpectedEOF
}

func TestSpoolHoldsNothingAfterwards(t *testing.T) {
	c := s3test.Fake(t).Bucket(t)
	c.Spool = t.TempDir()
	s := open(t, c)
	storagetest.MustCreate(t, s, "t/a", strings.Repeat("0123456789", 100<<10))
	u, err := s.Create(t.Context(), "t/b")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(u, strings.Repeat("0123456789", 100<<10)); err != nil {
		t.Fatal(err)
	}
	u.Abort()
	if list, err := os.ReadDir(c.Spool); err != nil || len(list) != 0 {
		t.Errorf("the spool has %d files, %v; want none", len(list), err)
	}
}

func TestFoldersOfOtherProgramsAreNotObjects(t *testing.T) {
	server := s3test.Fake(t)
	c := server.Bucket(t)
	s := open(t, c)
	if _, err := server.Client(t).PutObject(t.Context(), c.Bucket, "t/", strings.NewReader(""), 0, minio.PutObjectOptions{DisableContentSha256: true}); err != nil {
		t.Fatal(err)
	}
	if list := storagetest.Keys(t, s, ""); len(list) != 0 {
		t.Errorf("List = %q, want nothing", list)
	}
}
