package main

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/backup/engine"
	"holdfast/backup/jobs"
	"holdfast/backup/m365"
	"holdfast/backup/repo"
	"holdfast/handlers"
	"holdfast/store"
)

func serve(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	var c config
	var proxies, secret string
	fs := newFlagSet("serve", stderr)
	c.flags(fs)
	c.serveFlags(fs, &proxies)
	c.microsoftFlags(fs, &secret)
	if err := parse(fs, args, getenv); err != nil {
		return err
	}
	if err := errors.Join(c.completeServe(proxies, secret), c.complete()); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: c.LogLevel}))
	p, err := open(ctx, c, http.DefaultTransport, log)
	if err != nil {
		return err
	}
	defer p.Close()
	if c.web() {
		if err := printSetUpLink(ctx, p.store, c.PublicURL, log); err != nil {
			return err
		}
	}
	return p.run(ctx, func(addr string) { log.Info("ready", "address", addr, "url", c.PublicURL) })
}

// parts are the opened parts of the program.
type parts struct {
	config    config
	store     *store.Store
	engine    *engine.Engine
	microsoft *m365.Client
	key       []byte
	metrics   *metrics // nil if nobody asked for them
	log       *slog.Logger
}

// open opens store and repository and makes the Microsoft client; transport
// carries its requests.
func open(ctx context.Context, c config, transport http.RoundTripper, log *slog.Logger) (*parts, error) {
	st, eng, key, err := openData(ctx, c, log)
	if err != nil {
		return nil, err
	}
	client, err := microsoftClient(c, transport, log)
	if err != nil {
		st.Close()
		return nil, err
	}
	return &parts{config: c, store: st, engine: eng, microsoft: client, key: key, log: log}, nil
}

// microsoftClient makes the client of the registration, or nil if none is
// configured: the portal then says what is missing.
func microsoftClient(c config, transport http.RoundTripper, log *slog.Logger) (*m365.Client, error) {
	if c.Microsoft.ClientID == "" {
		log.Warn("Microsoft 365 can't be added yet: set -m365-client-id and -m365-certificate (README, Connect Microsoft 365)")
		return nil, nil //nolint:nilnil // no registration is a valid configuration
	}
	certificate, err := c.Microsoft.certificate()
	if err != nil {
		return nil, err
	}
	client, err := m365.New(m365.Config{
		ClientID: c.Microsoft.ClientID, Secret: c.Microsoft.Secret, Certificate: certificate,
		RedirectURL: c.PublicURL + "/setup/callback",
		LoginURL:    c.Microsoft.LoginURL, GraphURL: c.Microsoft.GraphURL, ExchangeURL: c.Microsoft.ExchangeURL,
		Transport: transport, Log: log,
	})
	if err != nil {
		return nil, fmt.Errorf("set up the Microsoft client: %w", err)
	}
	return client, nil
}

// openData opens what every command needs: store, repository and root key.
func openData(ctx context.Context, c config, log *slog.Logger) (*store.Store, *engine.Engine, []byte, error) {
	if _, err := os.Stat(c.Database); c.sqlite() && err == nil {
		if err := c.existing(); err != nil { // a new key would open nothing
			return nil, nil, nil, err
		}
	}
	key, err := rootKey(c.KeyFile)
	if err != nil {
		return nil, nil, nil, err
	}
	st, err := store.Open(ctx, store.Config{URL: c.Database, RootKey: key})
	if err != nil {
		return nil, nil, nil, err
	}
	storage, err := c.place.open(ctx)
	if err != nil {
		st.Close()
		return nil, nil, nil, fmt.Errorf("open the repository: %w", err)
	}
	repository, err := repo.Open(ctx, storage, st, st, repo.Options{})
	if err != nil {
		st.Close()
		return nil, nil, nil, fmt.Errorf("open the repository in %s: %w", c.place, err)
	}
	return st, &engine.Engine{Repo: repository, Catalog: st, Log: log}, key, nil
}

// Close closes the store.
func (p *parts) Close() error { return p.store.Close() }

// run serves pages and works jobs, as the role says, until ctx ends. ready is
// told the address that is listened on.
func (p *parts) run(ctx context.Context, ready func(addr string)) error {
	g, ctx := errgroup.WithContext(ctx)
	if p.config.MetricsAddr != "" {
		p.metrics = newMetrics(p.store, p.log)
		g.Go(func() error { return p.metrics.serve(ctx, p.config.MetricsAddr, p.log) })
	}
	if p.config.web() {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", p.config.Addr)
		if err != nil {
			return fmt.Errorf("listen on %s: %w", p.config.Addr, err)
		}
		handler, err := p.handler()
		if err != nil {
			listener.Close()
			return err
		}
		g.Go(func() error { return p.serveHTTP(ctx, listener, handler) })
		ready(listener.Addr().String())
	}
	if p.config.worker() {
		runner := &jobs.Runner{Store: p.store, Engine: p.engine, Microsoft: p.microsoft,
			Every: p.config.Every, Workers: p.config.Workers, Spool: p.config.spool(), CheckRate: int64(p.config.CheckRate) << 20, Log: p.log, PublicURL: p.config.PublicURL}
		if p.config.Replica.To != "" {
			runner.Replica = &jobs.Replica{Place: p.config.replica.String(), Every: p.config.Replica.Every, Open: p.config.openBoth}
		}
		if p.metrics != nil {
			runner.Worked, runner.Ended = p.metrics.worked, p.metrics.ended
		}
		g.Go(func() error { return runner.Run(ctx) })
		if !p.config.web() {
			ready("")
		}
	}
	return g.Wait()
}

// handler makes the portal.
func (p *parts) handler() (http.Handler, error) {
	sessionKey, err := hkdf.Key(sha256.New, p.key, nil, "holdfast session cookie", 32)
	if err != nil {
		return nil, fmt.Errorf("derive the session key: %w", err)
	}
	u, err := url.Parse(p.config.PublicURL)
	if err != nil {
		return nil, fmt.Errorf("public URL: %w", err)
	}
	s := &handlers.Server{
		Store: p.store, Microsoft: p.microsoft, Content: p.engine, Files: p.engine.Repo.Files(), SessionKey: sessionKey,
		Secure: u.Scheme == "https", TrustedProxies: p.config.Proxies, PublicURL: p.config.PublicURL, Log: p.log,
		FactorOptional: p.config.SecondFactor == factorOptional, Ready: p.engine.Repo.Ready,
		Storage: func() (place string, free, total int64) {
			if folder := p.config.place.folder; folder != "" {
				free, total = diskOf(folder)
			}
			return p.config.place.shown(), free, total
		},
		ReplicaPlace: p.config.replica.String(), Every: p.config.Every,
	}
	if p.metrics != nil {
		s.Answered = p.metrics.answered
	}
	return s.Handler(), nil
}

// serveHTTP serves until ctx ends, then lets requests under way finish.
func (p *parts) serveHTTP(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelWarn),
	}
	done := make(chan error, 1)
	go func() {
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		done <- server.Shutdown(stop)
	}()
	var err error
	if p.config.TLSCert != "" {
		err = server.ServeTLS(listener, p.config.TLSCert, p.config.TLSKey)
	} else {
		err = server.Serve(listener)
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	if err := <-done; err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("stop serving: %w", err)
	}
	return nil
}

// setUpLinkLife is how long the link of the first start works; a restart
// prints a new one.
const setUpLinkLife = 24 * time.Hour

// printSetUpLink writes the one-time set-up link to the log if nobody has an
// account yet.
func printSetUpLink(ctx context.Context, st *store.Store, publicURL string, log *slog.Logger) error {
	n, err := st.CountPeople(ctx)
	if err != nil || n > 0 {
		return err
	}
	token, err := st.NewSetUpLink(ctx, store.SetUpLink{Purpose: store.SetUpFirst, ExpiresAt: time.Now().Add(setUpLinkLife)})
	if err != nil {
		return fmt.Errorf("make the set-up link: %w", err)
	}
	log.Info("nobody has an account yet: open this link once to set Holdfast up", "link", publicURL+"/set-up/"+token.Reveal())
	return nil
}
