package imap

import (
	"context"
	"crypto/x509"
	"errors"
	"sync"
	"time"

	goimap "github.com/emersion/go-imap/v2"

	"holdfast/backup"
)

// maxConnections is how many connections a mailbox gets; servers allow ten and
// more, and other programs of the same person want theirs.
const maxConnections = 4

// When another connection is made: those who want one have waited for so long in
// all. What a server nearby takes for an answer is not counted, since a connection
// costs it more than it would bring.
const (
	patience = time.Second
	nearby   = 50 * time.Millisecond // of each who waits
)

// Options are how connections are made. The zero value is right for production.
type Options struct {
	Roots   *x509.CertPool // whom to believe, beside what the server's settings name; nil for the system's
	Timeout time.Duration  // for an answer, or its next part; 0 is three minutes
}

func (o Options) timeout() time.Duration {
	if o.Timeout > 0 {
		return o.Timeout
	}
	return answerTimeout
}

// pool is the connections to one mailbox: one, and more where the server is slow or
// far away; four at most, fewer if the server refuses more.
type pool struct {
	server backup.IMAPServer
	login  Login
	option Options

	turns      chan struct{} // one for each connection that there may be as yet
	connecting sync.Mutex    // one at a time, so that a refusal finds those that work
	mu         sync.Mutex
	allowed    int           // how many turns there are
	patience   time.Duration // left before there is one more
	free       []*session
	open       int
	closed     bool
}

func newPool(server backup.IMAPServer, login Login, o Options) *pool {
	p := &pool{server: server, login: login, option: o, turns: make(chan struct{}, maxConnections), allowed: 1, patience: patience}
	p.turns <- struct{}{}
	return p
}

// take returns a connection, if possible one that has the folder open. The
// caller gives it back by put or drop.
func (p *pool) take(ctx context.Context, path string) (*session, error) {
	for {
		if err := p.turn(ctx); err != nil {
			return nil, err
		}
		if s := p.idle(path); s != nil {
			return s, nil
		}
		s, err := p.connect(ctx)
		if err == nil {
			return s, nil
		}
		if ctx.Err() == nil && p.inUse() > 0 && refusesMore(err) {
			continue // without giving the turn back: the server allows no more than there are
		}
		p.turns <- struct{}{}
		return nil, err
	}
}

// turn waits for the right to a connection.
func (p *pool) turn(ctx context.Context) error {
	select {
	case <-p.turns:
		return nil
	default:
	}
	for {
		began := time.Now()
		select {
		case <-p.turns:
			if p.lose(time.Since(began) - nearby) {
				p.turns <- struct{}{}
			}
			return nil
		case <-time.After(patience):
			if p.lose(patience) {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// lose takes what somebody waited from the patience. When it has come to an end
// there may be one more connection, unless there are as many as may be.
func (p *pool) lose(waited time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.patience -= max(waited, 0)
	if p.patience > 0 || p.allowed == maxConnections {
		return false
	}
	p.patience, p.allowed = patience, p.allowed+1
	return true
}

// refusesMore says that an error of a further connection can mean that there
// are enough.
func refusesMore(err error) bool {
	switch backup.KindOf(err) {
	case backup.ProblemThrottled, backup.ProblemUnavailable, backup.ProblemPassword:
		return true
	}
	return false
}

func (p *pool) idle(path string) *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.free) - 1; i >= 0; i-- {
		if s := p.free[i]; s.path == path || i == 0 {
			p.free = append(p.free[:i], p.free[i+1:]...)
			return s
		}
	}
	return nil
}

func (p *pool) inUse() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open
}

func (p *pool) connect(ctx context.Context) (*session, error) {
	p.connecting.Lock()
	defer p.connecting.Unlock()
	s, err := connect(ctx, p.server, p.login, p.option)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open++
	return s, nil
}

// put gives a connection back for the next.
func (p *pool) put(s *session) {
	p.mu.Lock()
	if p.closed {
		p.open--
		_ = s.Close()
	} else {
		p.free = append(p.free, s)
	}
	p.mu.Unlock()
	p.turns <- struct{}{}
}

// drop ends a connection that is not to be used any more.
func (p *pool) drop(s *session) {
	_ = s.conn.Close() // what it would say is known
	p.mu.Lock()
	p.open--
	p.mu.Unlock()
	p.turns <- struct{}{}
}

// close ends the connections that nobody uses, and the others when they are
// given back.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, s := range p.free {
		p.open--
		_ = s.conn.Close() // nothing is lost: it was only read from
	}
	p.free = nil
}

// do lends work a connection. One whose error is not the server's word is not
// used again.
func (p *pool) do(ctx context.Context, path string, work func(*session) error) error {
	s, err := p.take(ctx, path)
	if err != nil {
		return err
	}
	done := s.work(ctx)
	err = work(s)
	done()
	if err == nil || spoken(err) {
		p.put(s)
	} else {
		p.drop(s)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// spoken says that an error is an answer of the server, after which the
// connection is as good as before.
func spoken(err error) bool {
	_, ok := errors.AsType[*goimap.Error](err)
	return ok || errors.Is(err, errNotThere)
}
