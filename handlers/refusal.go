package handlers

import (
	"context"
	"errors"
	"fmt"
	"net/http"

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
	why := ""
	switch {
	case errors.Is(err, backup.ErrForbidden):
		why = "not allowed to " + string(actor(r).Role)
	case errors.Is(err, errSuspended):
		why = "the organization is suspended"
	case errors.Is(err, errCrossOrigin):
		why = "sent by another website"
	}
	a := actor(r)
	if why == "" || a.Person.ID == "" {
		return
	}
	if err := s.Store.RecordBy(r.Context(), a, a.Org.ID, "refused", r.Method+" "+r.URL.Path, why); err != nil {
		s.Log.Error("refusal not recorded", "error", err)
	}
}
