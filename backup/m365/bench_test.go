package m365

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/backup"
)

// BenchmarkContent reads messages of 40 KB with four connections, once with a
// bare client and once as the engine does: what the pipeline costs.
func BenchmarkContent(b *testing.B) {
	message := bytes.Repeat([]byte("Received: from here\r\n"), 2000)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(message)))
		w.Write(message)
	}))
	defer server.Close()
	bare := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: MailboxCalls}}
	c, err := New(Config{ClientID: "x", Secret: []byte("y"), GraphURL: server.URL})
	if err != nil {
		b.Fatal(err)
	}
	der, key, notAfter, err := newCertificate("bench", time.Now(), day)
	if err != nil {
		b.Fatal(err)
	}
	app := c.App("t", backup.SubApplication{AppID: "a", Certificate: der, PrivateKey: key, NotAfter: notAfter})
	app.source.held[graphResource] = heldToken{backup.Secret("token"), time.Now().Add(time.Hour)}
	box := app.Mailbox("u")

	run := func(open func() (io.ReadCloser, error)) func(*testing.B) {
		return func(b *testing.B) {
			b.SetBytes(int64(len(message)))
			b.ReportAllocs()
			var g errgroup.Group
			g.SetLimit(MailboxCalls)
			for b.Loop() {
				g.Go(func() error {
					body, err := open()
					if err != nil {
						return err
					}
					defer body.Close()
					_, err = io.Copy(io.Discard, body)
					return err
				})
			}
			if err := g.Wait(); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("bare", run(func() (io.ReadCloser, error) {
		res, err := bare.Get(server.URL + "/v1.0/users/u/messages/m/$value")
		if err != nil {
			return nil, err
		}
		return res.Body, nil
	}))
	b.Run("mailbox", run(func() (io.ReadCloser, error) { return box.Content(b.Context(), "m") }))
}
