package handlers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"holdfast/backup"
	"holdfast/store"
	"holdfast/views"
)

// setUpView reads what a link is for. A link that was used, replaced or is too
// old is ErrNotFound.
func (s *Server) setUpView(r *http.Request) (views.SetUpLink, error) {
	return s.setUpViewOf(r.Context(), r.PathValue("token"))
}

func (s *Server) setUpViewOf(ctx context.Context, token string) (views.SetUpLink, error) {
	link, err := s.Store.SetUpLink(ctx, token)
	if err != nil {
		return views.SetUpLink{}, err
	}
	v := views.SetUpLink{First: link.Purpose == store.SetUpFirst}
	if v.First {
		return v, nil
	}
	person, err := s.Store.Person(ctx, link.PersonID)
	if err != nil {
		return v, err
	}
	v.Name, v.Email, v.Token = person.Name, person.Email, token
	v.Providers, err = s.providersOf(ctx, person.ID)
	return v, err
}

// showSetUpLink shows the form of a one-time link.
func (s *Server) showSetUpLink(w http.ResponseWriter, r *http.Request) error {
	v, err := s.setUpView(r)
	if errors.Is(err, backup.ErrNotFound) {
		return s.deadLink(w, r)
	}
	if err != nil {
		return fmt.Errorf("read the set-up link: %w", err)
	}
	return s.render(w, r, http.StatusOK, views.SetUpLinkPage(v))
}

func (s *Server) deadLink(w http.ResponseWriter, r *http.Request) error {
	return s.render(w, r, http.StatusNotFound, views.DeadLinkPage())
}

// useSetUpLink does what the link is for, once, and signs the person in.
func (s *Server) useSetUpLink(w http.ResponseWriter, r *http.Request) error {
	v, err := s.setUpView(r)
	if errors.Is(err, backup.ErrNotFound) {
		return s.deadLink(w, r)
	}
	if err != nil {
		return fmt.Errorf("read the set-up link: %w", err)
	}
	owner := backup.Person{ID: backup.NewID[backup.PersonID]()}
	if v.First {
		v.Partner, v.Name, v.Email = r.PostFormValue("partner"), r.PostFormValue("name"), strings.TrimSpace(r.PostFormValue("email"))
		owner.Name, owner.Email = v.Name, v.Email
	}
	if v.Fields = checkSetUp(v, r.PostFormValue("password"), r.PostFormValue("again")); len(v.Fields) > 0 {
		return s.render(w, r, http.StatusUnprocessableEntity, views.SetUpLinkPage(v))
	}
	hash, err := HashPassword(r.Context(), r.PostFormValue("password"))
	if err != nil {
		return fmt.Errorf("hash the password: %w", err)
	}
	token := r.PathValue("token")
	var person backup.Person
	if v.First {
		owner.PasswordHash = hash
		var a backup.Actor
		a, err = s.Store.UseSetUpFirst(r.Context(), token, v.Partner, owner)
		person = a.Person
	} else {
		person, err = s.Store.UseSetUpPassword(r.Context(), token, hash, visitOf(r).address)
	}
	switch fields, ok := errors.AsType[backup.FieldErrors](err); {
	case ok:
		v.Fields = fields
		return s.render(w, r, http.StatusUnprocessableEntity, views.SetUpLinkPage(v))
	case errors.Is(err, backup.ErrNotFound), errors.Is(err, backup.ErrConflict):
		return s.deadLink(w, r)
	case err != nil:
		return fmt.Errorf("use the set-up link: %w", err)
	}
	flash := "Your password is set. You are signed in."
	if v.First {
		flash = "Holdfast is set up. Create your first organization."
	}
	// The link stands for the password alone: whoever reads somebody's mail does
	// not get past their second factor.
	return s.passwordProved(w, r, person, "/", flash)
}

// checkSetUp says what has to be corrected before anything is hashed.
func checkSetUp(v views.SetUpLink, password, again string) backup.FieldErrors {
	fields := backup.FieldErrors{}
	if v.First {
		if strings.TrimSpace(v.Partner) == "" {
			fields["partner"] = "Enter the name of your company."
		}
		merge(fields, backup.Person{Name: v.Name, Email: v.Email}.Validate())
	}
	merge(fields, backup.ValidatePassword(password, v.Email))
	if fields["password"] == "" && password != again {
		fields["again"] = "The two passwords differ. Enter the same one twice."
	}
	return fields
}

// merge adds the fields of err to fields.
func merge(fields backup.FieldErrors, err error) {
	more, _ := errors.AsType[backup.FieldErrors](err)
	for k, text := range more {
		fields[k] = text
	}
}
