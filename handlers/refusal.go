package handlers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"holdfast/backup"
)

// refused records a sign-in that failed, for a known person in the log of their
// organization or partner. For an unknown one it is recorded in the partner's,
// so that the time it takes tells nothing. What was typed as an address is not:
// it may be a password.
func (s *Server) refused(r *http.Request, person backup.PersonID, what string) error {
	ctx := r.Context()
	a, err := s.Store.Actor(ctx, backup.Session{PersonID: person})
	subject := a.Person.Email
	if errors.Is(err, backup.ErrNotFound) {
		a, err = s.anybody(ctx)
		subject = "an address that nobody here has"
	}
	if err != nil {
		return fmt.Errorf("read person %s: %w", person, err)
	}
	a.Address = visitOf(r).address
	if err := s.Store.RecordBy(ctx, a, a.HomeOrg(), "sign_in.refused", subject, what); err != nil {
		return fmt.Errorf("record the refusal: %w", err)
	}
	return nil
}

// anybody is a visitor of the partner whose portal this is.
func (s *Server) anybody(ctx context.Context) (backup.Actor, error) {
	partners, err := s.Store.Partners(ctx)
	if err != nil || len(partners) == 0 {
		return backup.Actor{}, err
	}
	return backup.Actor{Partner: partners[0]}, nil
}

// refusedBy records that somebody who came from an issuer was not let in, in
// the log of the organization or partner whose issuer it is.
func (s *Server) refusedBy(r *http.Request, p backup.SignInProvider, who, why string) {
	err := s.Store.Record(r.Context(), backup.Entry{PartnerID: p.PartnerID, OrgID: p.OrgID, Address: visitOf(r).address, Kind: "sign_in.refused", Subject: who,
		Detail: p.Name + " (" + p.Issuer + "): " + why})
	if err != nil {
		s.Log.Error("refusal not recorded", "error", err)
	}
}

// noteRefusal records that a person was not allowed what they asked for.
func (s *Server) noteRefusal(r *http.Request, err error) {
	a := actor(r)
	if a.Person.ID == "" {
		return
	}
	why := ""
	switch {
	case errors.Is(err, backup.ErrForbidden):
		why = "not allowed to " + string(a.Role)
	case errors.Is(err, errSuspended):
		why = "the organization is suspended"
	case errors.Is(err, errCrossOrigin):
		why = "sent by another website"
	case errors.Is(err, backup.ErrNotFound) && strings.Contains(r.Pattern, "{"):
		// The same whether it is somebody else's or nobody's: the log does not
		// tell either. It is in the person's own one.
		why = s.tallied("nothing is there, or it is somebody else's", "person "+string(a.Person.ID))
	}
	if why == "" {
		return
	}
	if err := s.Store.RecordBy(r.Context(), a, a.Org.ID, "refused", r.Method+" "+loggedPath(r), why); err != nil {
		s.Log.Error("refusal not recorded", "error", err)
	}
}

// noteToken records that a program came with a token that does not work, in the
// log of the partner whose it was, or whose portal this is. The token itself is
// in no log.
func (s *Server) noteToken(r *http.Request, secret backup.Secret, address string) {
	ctx := r.Context()
	what := s.tallied(r.Method+" "+r.URL.Path, "token from "+addressBlock(address))
	if what == "" {
		return
	}
	subject := "a token that nobody here has"
	by, err := s.anybody(ctx)
	if old, partner, known := s.Store.ExpiredAPIToken(ctx, secret); known == nil {
		subject, by = old.Name+", expired "+old.ExpiresAt.UTC().Format(time.DateOnly), backup.Actor{Partner: partner}
	}
	by.Address = address
	if err == nil {
		err = s.Store.RecordBy(ctx, by, "", "token.refused", subject, what)
	}
	if err != nil {
		s.Log.Error("refusal not recorded", "error", err)
	}
}

// tallyHour is how long tries of the same name are counted together.
const tallyHour = time.Hour

// tallyNames is how many names are counted apart; all others together.
const tallyNames = 1000

// tally counts tries that somebody can repeat at will, so that the log says how
// many there were and is not filled by them: the first within the hour is
// written down, the tenth, the hundredth, and so on.
type tally struct {
	mu   sync.Mutex
	each map[string]*tallied
}

type tallied struct {
	since time.Time
	n     int
}

// count counts a try and says whether it is written down.
func (t *tally) count(name string, now time.Time) (n int, write bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.each, func(_ string, c *tallied) bool { return now.Sub(c.since) >= tallyHour })
	if t.each == nil {
		t.each = map[string]*tallied{}
	}
	if t.each[name] == nil && len(t.each) >= tallyNames {
		name = ""
	}
	c := t.each[name]
	if c == nil {
		c = &tallied{since: now}
		t.each[name] = c
	}
	c.n++
	power := 1
	for power < c.n {
		power *= 10
	}
	return c.n, power == c.n
}

// tallied is what an entry says of a try, "" if it is not written down.
func (s *Server) tallied(what, name string) string {
	switch n, write := s.refusals.count(name, time.Now()); {
	case !write:
		return ""
	case n > 1:
		return fmt.Sprintf("%s; %d such tries within the hour", what, n)
	}
	return what
}
