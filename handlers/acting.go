package handlers

import (
	"errors"
	"net/http"

	"holdfast/backup"
)

// actingRequestsShown is how many requests to act the settings list.
const actingRequestsShown = 20

// askToAct asks an organization's admins for leave to act for it.
func (s *Server) askToAct(w http.ResponseWriter, r *http.Request, org backup.Organization, reason string) error {
	err := s.Store.AskToAct(r.Context(), actor(r), org.ID, reason)
	flash := org.Name + " was asked. Once an admin of it agrees, you can act for it for a day."
	if errors.Is(err, backup.ErrConflict) {
		flash, err = "You have asked "+org.Name+" already, and nobody has answered yet.", nil
	}
	if err != nil {
		return err
	}
	return s.redirect(w, r, "/partner/organizations/"+string(org.ID), flash)
}

// saveActing says whether the partner's people act only with leave.
func (s *Server) saveActing(w http.ResponseWriter, r *http.Request) error {
	a, forbid := actor(r), r.PostFormValue("forbid_acting") == "on"
	if forbid != a.Org.ForbidActing {
		if err := s.Store.SetForbidActing(r.Context(), forbid, a); err != nil {
			return err
		}
	}
	return s.redirect(w, r, "/settings", "Saved.")
}

// grantActing lets a person of the partner act for a day; declineActing does not.
func (s *Server) grantActing(w http.ResponseWriter, r *http.Request) error {
	return s.answerActing(w, r, true, "Granted for a day. Everything that is done stands in your activity.")
}

func (s *Server) declineActing(w http.ResponseWriter, r *http.Request) error {
	return s.answerActing(w, r, false, "Declined.")
}

func (s *Server) answerActing(w http.ResponseWriter, r *http.Request, grant bool, flash string) error {
	if err := s.Store.AnswerActingRequest(r.Context(), actor(r), backup.ActingRequestID(r.PathValue("request")), grant); err != nil {
		return err
	}
	return s.redirect(w, r, "/settings", flash)
}
