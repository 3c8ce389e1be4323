package s3

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"holdfast/backup/repo"
)

// Storage is a repo.Storage in a bucket.
type Storage struct {
	core   minio.Core
	config Config
}

// probe is the object on which Open tries whether the server heeds
// If-None-Match. It stays, so that the next Open needs one request.
const (
	probe     = ".probe"
	probeText = "Holdfast tries on this object whether the server refuses to create an object twice.\n"
)

// Open opens a bucket, which has to exist. It returns a sentence that says what
// to do if it can't be used.
func Open(ctx context.Context, c Config) (*Storage, error) {
	server, err := c.server()
	if err != nil {
		return nil, err
	}
	keys, err := c.credentials()
	if err != nil {
		return nil, err
	}
	lookup := minio.BucketLookupAuto
	if c.PathStyle {
		lookup = minio.BucketLookupPath
	}
	client, err := minio.New(server.Host, &minio.Options{
		Creds: keys, Secure: server.Scheme == "https", Region: c.Region, BucketLookup: lookup, Transport: transport(),
	})
	if err != nil {
		return nil, fmt.Errorf("the bucket %s: %w", c.Bucket, err)
	}
	client.SetAppInfo("holdfast", "1")
	s := &Storage{core: minio.Core{Client: client}, config: c}
	if err := s.checkConditions(ctx); err != nil {
		return nil, err
	}
	if c.Lock.on() {
		return s, s.checkLock(ctx)
	}
	return s, nil
}

// Place says in a few words where the bucket is.
func (s *Storage) Place() string { return s.config.Place() }

// credentials are the given ones, or the first that one of the usual places has.
func (c Config) credentials() (*credentials.Credentials, error) {
	if (c.AccessKey == "") != (c.SecretKey == "") {
		return nil, errors.New("HOLDFAST_S3_ACCESS_KEY and HOLDFAST_S3_SECRET_KEY go together")
	}
	if c.AccessKey != "" {
		return credentials.NewStaticV4(c.AccessKey, c.SecretKey, ""), nil
	}
	client := &http.Client{Timeout: 10 * time.Second}
	keys := credentials.NewChainCredentials([]credentials.Provider{
		&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{Client: client},
	})
	if v, err := keys.GetWithContext(&credentials.CredContext{Client: client}); err != nil || v.AccessKeyID == "" {
		return nil, errors.New("nobody says with which account the bucket is used: " +
			"set HOLDFAST_S3_ACCESS_KEY and HOLDFAST_S3_SECRET_KEY, or give this machine a role")
	}
	return keys, nil
}

// checkConditions refuses a server that would create an object twice.
func (s *Storage) checkConditions(ctx context.Context) error {
	for range 2 {
		err := s.put(ctx, probe, newBody([]byte(probeText)))
		if errors.Is(err, repo.ErrExist) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("%s creates objects that exist already (it ignores If-None-Match), so two writers could destroy each other's backups: "+
		"use a newer version of that server, or another one", s.server())
}

func (s *Storage) server() string { return s.core.EndpointURL().String() }

// Times after which a server that says nothing is given up.
const (
	connectTimeout = 10 * time.Second
	answerTimeout  = time.Minute
	stallTimeout   = 2 * time.Minute // of bytes on their way
)

// transport is one whose connections fail when they stall.
func transport() *http.Transport {
	dialer := &net.Dialer{Timeout: connectTimeout, KeepAlive: 15 * time.Second}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, MaxIdleConns: 256, MaxIdleConnsPerHost: 32, IdleConnTimeout: time.Minute,
		TLSHandshakeTimeout: connectTimeout, ResponseHeaderTimeout: answerTimeout, DisableCompression: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return stalling{conn}, nil
		},
	}
}

// stalling is a connection on which every read and write has its time.
type stalling struct{ net.Conn }

// Read implements io.Reader.
func (c stalling) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(stallTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// Write implements io.Writer.
func (c stalling) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(stallTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// name is the object's name in the bucket.
func (s *Storage) name(key string) string { return s.config.Prefix + key }

func badKey(key string) error { return fmt.Errorf("%q is not an object's key", key) }
