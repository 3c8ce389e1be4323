// Package simulator is a Microsoft 365 made of an http.Handler and seeded
// data: Entra's sign-in, Graph and the Exchange admin REST interface. It is
// written from Microsoft's documentation (testdata/microsoft and the pages
// named at each fact), not from what Holdfast's client sends, and is as strict
// as the original: it validates tokens, answers 403 where Microsoft's
// permission table says so, pages, delays directory changes and throttles.
// What the documents do not say is marked "assumed" in the code and listed in
// docs/assumed.md with a way to confirm it.
//
// All state is behind one mutex. Handlers run with it held and write into a
// buffered answer; only message content is streamed after it is released.
package simulator

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Hosts of Microsoft that are simulated. Over TLS (and through Transport) a
// request is routed by its Host header, on plain loopback by the first
// segment of its path, which is one of these names.
const (
	HostLogin      = "login.microsoftonline.com"
	HostGraph      = "graph.microsoft.com"
	HostExchange   = "outlook.office365.com"
	HostDevice     = "microsoft.com"                               // /devicelogin
	HostReports    = "reportsncu.office.com"                       // pre-authenticated downloads of usage reports
	hostControl    = "_simulator"                                  // this package's own control paths, on every host
	controlPath    = "/_simulator"                                 // where they start
	maxBody        = 4 << 20                                       // Graph's general limit for writes
	maxControlBody = 256 << 20                                     // of our own control paths
	graphMeta      = "https://graph.microsoft.com/v1.0/$metadata#" // prefix of @odata.context
)

// Options say what is simulated. The zero value is the default world in memory.
type Options struct {
	// World is the tenants, people and applications to start with; without
	// tenants it is DefaultWorld.
	World World
	// Mail holds the messages that mailboxes are seeded from: the folder with
	// manifest.tsv. nil seeds no message.
	Mail fs.FS
	// Auto signs a known login_hint in without a page, and consents.
	Auto bool
	// RedirectURIs are added to those of Holdfast's main application.
	RedirectURIs []string
	// Dir keeps the state over a restart (state.json) and the PEM files of
	// clients with a certificate. "" keeps nothing.
	Dir string
	// Now is the clock that Advance moves; time.Now if nil.
	Now func() time.Time
	// Log receives what goes wrong inside the simulator; nil discards it.
	Log *slog.Logger
}

// Simulator is the simulated Microsoft, an http.Handler. Its methods may be
// called from any goroutine.
type Simulator struct {
	mu       sync.Mutex // guards everything below
	state    *state
	requests []Request
	faults   []*Fault
	dirty    bool // the state differs from Dir's state.json

	options    Options
	log        *slog.Logger
	routes     map[string]*router // by host
	permits    map[string]permit  // by method and template
	resources  []*resource
	cmdlets    map[string]*cmdletSyntax // of Exchange, by lower-case name
	faultNames []string                 // named faults that can be planned
	tempDir    string                   // see writePEM
	inflight   inflight
	budgets    map[string]*mailBudget    // by application and mailbox
	uploads    map[string]*uploadSession // by id
}

// New makes a simulator from the options. With Dir it continues from what was
// saved there.
func New(o Options) (*Simulator, error) {
	if len(o.World.Tenants) == 0 {
		o.World = DefaultWorld()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Simulator{options: o, log: o.Log, routes: map[string]*router{}}
	var err error
	if s.permits, err = loadPermits(); err != nil {
		return nil, err
	}
	if s.resources, err = loadResources(); err != nil {
		return nil, err
	}
	if s.cmdlets, err = loadCmdlets(); err != nil {
		return nil, err
	}
	if err := s.register(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(); err != nil {
		return nil, err
	}
	return s, s.save()
}

// register fills the route table. A Graph route without a known permission is
// a mistake in this package and reported as an error.
func (s *Simulator) register() error {
	var errs []error
	s.routes[hostControl] = &router{}
	for _, host := range []string{HostLogin, HostGraph, HostExchange, HostDevice, HostReports} {
		s.routes[host] = &router{}
	}
	s.routes[HostGraph].onError = func(err error) { errs = append(errs, err) }
	s.playsFaults(namedFaults...)
	s.entraRoutes()
	s.directoryRoutes()
	s.controlRoutes()
	s.mailRoutes()
	s.exchangeRoutes()
	return errors.Join(errs...)
}

// now is the simulated time. It is read with the mutex held.
func (s *Simulator) now() time.Time { return s.options.Now().Add(s.state.Offset).UTC() }

// Advance moves the clock forward.
func (s *Simulator) Advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Offset += d
	s.changed()
}

// changed notes that the state has to be saved before the answer goes out.
func (s *Simulator) changed() { s.dirty = true }

// Start listens on addr, with TLS if cert and key name PEM files, and serves
// until ctx ends. It returns the bound address and a function that waits for
// the end and returns why serving stopped, nil after ctx.
func (s *Simulator) Start(ctx context.Context, addr, cert, key string) (bound string, wait func() error, err error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return "", nil, fmt.Errorf("simulated Microsoft: %w", err)
	}
	server := &http.Server{Handler: s, ReadHeaderTimeout: 30 * time.Second}
	done := make(chan error, 1)
	go func() {
		if cert != "" {
			done <- server.ServeTLS(listener, cert, key)
		} else {
			done <- server.Serve(listener)
		}
	}()
	ended := make(chan error, 1)
	go func() {
		select {
		case err := <-done:
			ended <- fmt.Errorf("simulated Microsoft: %w", err)
		case <-ctx.Done():
			grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			if server.Shutdown(grace) != nil {
				server.Close()
			}
			s.removeTemp()
			ended <- nil
		}
	}()
	wait = sync.OnceValue(func() error { return <-ended })
	return listener.Addr().String(), wait, nil
}

// Transport is an http.RoundTripper that serves requests for Microsoft's hosts
// by the simulator, without a network.
func (s *Simulator) Transport() http.RoundTripper { return transport{s} }

// newGUID returns a random identifier as Microsoft writes them.
func newGUID() string {
	var b [16]byte
	rand.Read(b[:]) //nolint:errcheck // never fails, see crypto/rand
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// file names a file in Dir.
func (s *Simulator) file(name string) string { return filepath.Join(s.options.Dir, name) }

// writeFile replaces a file of a folder in one step.
func writeFile(dir, name string, data []byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("folder of the simulator: %w", err)
	}
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file+".new", data, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
