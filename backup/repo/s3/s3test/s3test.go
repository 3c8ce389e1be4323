// Package s3test starts servers that speak S3 on loopback, for tests.
package s3test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"holdfast/backup/porttest"
	"holdfast/backup/repo/s3"
)

// Keys of the servers.
const (
	AccessKey = "holdfast-test"
	SecretKey = "a few unrelated words" //nolint:gosec // of servers on loopback
)

// Server is a server with S3's protocol.
type Server struct {
	Endpoint string
	buckets  atomic.Int64
}

// Fake starts a server in this process, without object lock, that keeps its
// data in memory and does not check signatures.
func Fake(t testing.TB) *Server {
	t.Helper()
	server := httptest.NewServer(gofakes3.New(s3mem.New(), gofakes3.WithLogger(gofakes3.DiscardLog())).Server())
	t.Cleanup(server.Close)
	return &Server{Endpoint: server.URL}
}

// Real returns versitygw, which this process starts once on loopback. It is
// skipped unless HOLDFAST_TEST_S3 is set, and fails if it is set and versitygw
// is not installed (go install github.com/versity/versitygw/cmd/versitygw).
func Real(t testing.TB) *Server {
	t.Helper()
	if os.Getenv("HOLDFAST_TEST_S3") == "" {
		t.Skip("HOLDFAST_TEST_S3 is not set")
	}
	s, err := real()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var real = sync.OnceValues(startReal)

// held is the keeper's standard input; collected as garbage it would close.
var held io.WriteCloser //nolint:unused // only kept

// keeper runs a server until its own standard input ends, which happens when
// the process that holds the other end does, however it dies. Its arguments
// are the folder to remove and the server's command.
const keeper = `dir=$1; shift; "$@" & pid=$!; cat; kill -INT $pid; wait $pid; rm -rf "$dir"`

func startReal() (*Server, error) {
	program, err := exec.LookPath("versitygw")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "holdfast-s3")
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"data", "versions"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			return nil, err
		}
	}
	port, err := porttest.Kept()
	if err != nil {
		return nil, err
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	keep := exec.Command("sh", "-c", keeper, "keeper", dir, program, "--port", addr, "--quiet",
		"posix", "--versioning-dir", filepath.Join(dir, "versions"), filepath.Join(dir, "data"))
	keep.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+AccessKey, "ROOT_SECRET_KEY="+SecretKey)
	if held, err = keep.StdinPipe(); err != nil {
		return nil, err
	}
	if err := keep.Start(); err != nil {
		return nil, err
	}
	return &Server{Endpoint: "http://" + addr}, wait(addr)
}

// wait waits until a server answers.
func wait(addr string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Bucket makes a bucket and says how to open it.
func (s *Server) Bucket(t testing.TB) s3.Config { return s.bucket(t, false) }

// LockedBucket makes a bucket with versions and object lock.
func (s *Server) LockedBucket(t testing.TB) s3.Config { return s.bucket(t, true) }

func (s *Server) bucket(t testing.TB, lock bool) s3.Config {
	t.Helper()
	name := "bucket-" + strconv.FormatInt(s.buckets.Add(1), 10)
	if err := s.Client(t).MakeBucket(t.Context(), name, minio.MakeBucketOptions{ObjectLocking: lock}); err != nil {
		t.Fatal(err)
	}
	return s3.Config{Bucket: name, Endpoint: s.Endpoint, Region: "us-east-1", PathStyle: true, AccessKey: AccessKey, SecretKey: SecretKey}
}

// Address is a bucket's address for -repository.
func Address(c s3.Config) string {
	q := url.Values{"endpoint": {c.Endpoint}, "region": {c.Region}, "path-style": {"1"}}
	return "s3://" + c.Bucket + "/" + c.Prefix + "?" + q.Encode()
}

// Env are the variables with the keys.
func Env() []string {
	return []string{"HOLDFAST_S3_ACCESS_KEY=" + AccessKey, "HOLDFAST_S3_SECRET_KEY=" + SecretKey}
}

// Client speaks to the server without Holdfast between.
func (s *Server) Client(t testing.TB) *minio.Client {
	t.Helper()
	client, err := minio.New(strings.TrimPrefix(s.Endpoint, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4(AccessKey, SecretKey, ""), Region: "us-east-1", BucketLookup: minio.BucketLookupPath,
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// EndLocks ends the locks of objects before their time, as who may bypass them does,
// and waits until they are over.
func EndLocks(client *minio.Client, bucket string, keys []string) error {
	mode, until := minio.Governance, time.Now().Add(2*time.Second).UTC()
	for _, key := range keys {
		if err := client.PutObjectRetention(context.Background(), bucket, key, minio.PutObjectRetentionOptions{Mode: &mode, RetainUntilDate: &until, GovernanceBypass: true}); err != nil {
			return err
		}
	}
	time.Sleep(time.Until(until))
	return nil
}

// Before starts a proxy in front of the server in which meddle sees every
// request first and answers it if it returns true.
func (s *Server) Before(t testing.TB, meddle func(http.ResponseWriter, *http.Request, http.Handler) bool) *Server {
	t.Helper()
	target, err := url.Parse(s.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	pass := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { forward(w, r, target) })
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !meddle(w, r, pass) {
			pass(w, r)
		}
	}))
	t.Cleanup(proxy.Close)
	return &Server{Endpoint: proxy.URL}
}

// forward passes a request on with the host name that its signature has.
func forward(w http.ResponseWriter, r *http.Request, target *url.URL) {
	out := r.Clone(r.Context())
	out.RequestURI, out.URL.Scheme, out.URL.Host = "", target.Scheme, target.Host
	res, err := http.DefaultTransport.RoundTrip(out)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer res.Body.Close()
	for name, values := range res.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(res.StatusCode)
	if _, err := io.Copy(w, res.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
}
