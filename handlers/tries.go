package handlers

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"holdfast/backup"
)

// counter counts the tries of one account, one address, one browser, or of
// several of them together.
type counter struct {
	name  string
	most  int
	since time.Duration
	// resets says that a try that worked forgets those before it; otherwise it
	// forgets itself alone.
	resets bool
}

// signInCounters are the counters of a password. Together with the address an
// account allows few tries; from everywhere it allows more, and an address
// allows some for all accounts. Both can be used up by somebody else, so a
// browser in which the person has signed in before has tries of its own, and
// nobody locks the person out of it (OWASP, device cookies).
func signInCounters(email, address, browser string) []counter {
	if browser != "" {
		return []counter{{"browser:" + browser, 5, 15 * time.Minute, true}}
	}
	account, from := "account:"+backup.FoldEmail(email), "address:"+addressBlock(address)
	return []counter{{account + " " + from, 5, 15 * time.Minute, true}, {account, 50, time.Hour, false}, {from, 60, 15 * time.Minute, false}}
}

// factorCounters are the counters of a second factor, or of the password that
// a change of the own account asks for again.
func factorCounters(person backup.PersonID, address, browser string) []counter {
	if browser != "" {
		return []counter{{"factor browser:" + browser, 5, 15 * time.Minute, true}}
	}
	account, from := "factor:"+string(person), addressBlock(address)
	return []counter{{account + " " + from, 5, 15 * time.Minute, true}, {account, 20, time.Hour, true}, {"factor from:" + from, 30, 15 * time.Minute, false}}
}

// passkeyCounters are the counters of sign-ins by passkey: there is nothing to
// guess, but each refusal is written down.
func passkeyCounters(address string) []counter {
	return []counter{{"passkey from:" + addressBlock(address), 60, 15 * time.Minute, true}}
}

// addressBlock is what one household or machine has: an IPv4 address, or 64
// bits of an IPv6 address.
func addressBlock(address string) string {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	if a = a.Unmap(); a.Is6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

// try is one that was counted.
type try struct {
	at       time.Time
	counters []counter
	wait     time.Duration // with too many before it: how long to wait, and it must not be made
	left     int           // how many more may be made after it
}

// count counts a try before it is made, so that many at once do not slip
// through.
func (s *Server) count(ctx context.Context, counters []counter) (try, error) {
	t := try{at: time.Now(), counters: counters}
	if err := s.look(ctx, &t, 1); t.wait > 0 || err != nil {
		return t, err
	}
	for _, c := range counters {
		if err := s.Store.CountSignIn(ctx, c.name, t.at); err != nil {
			return t, fmt.Errorf("count the try: %w", err)
		}
	}
	return t, s.look(ctx, &t, 0)
}

// look reads how many tries are left if extra ones are made.
func (s *Server) look(ctx context.Context, t *try, extra int) error {
	for i, c := range t.counters {
		n, err := s.Store.FailedSignIns(ctx, c.name, t.at.Add(-c.since))
		if err != nil {
			return fmt.Errorf("count the tries before: %w", err)
		}
		if left := c.most - n - extra; i == 0 || left < t.left {
			t.left = left
		}
		if t.left < 0 && t.wait == 0 {
			t.wait = c.since
		}
	}
	return nil
}

// worked takes a try back that succeeded: people who sign in are not held back
// for it.
func (s *Server) worked(ctx context.Context, t try) error {
	for _, c := range t.counters {
		forget := s.Store.ForgetSignIns
		if !c.resets {
			forget = func(ctx context.Context, name string) error { return s.Store.ForgetSignIn(ctx, name, t.at) }
		}
		if err := forget(ctx, c.name); err != nil {
			return fmt.Errorf("forget failed tries: %w", err)
		}
	}
	return nil
}

// holdBack tells the browser when to try again, and returns the minutes.
func (t try) holdBack(w http.ResponseWriter) int {
	minutes := int((t.wait + time.Minute - 1) / time.Minute)
	w.Header().Set("Retry-After", strconv.Itoa(minutes*60))
	return minutes
}

// lastOne says in a refusal's entry that what follows is held back; those tries
// are not entries of their own, so that nobody fills the log.
func (t try) lastOne() string {
	if t.left > 0 {
		return ""
	}
	return "; more tries are held back"
}
