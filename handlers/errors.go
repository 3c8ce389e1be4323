package handlers

import (
	"context"
	"errors"
	"net/http"

	"holdfast/backup"
	"holdfast/views"
)

// Refusals that have a page of their own.
var (
	errCrossOrigin = errors.New("request from another site")
	errSuspended   = errors.New("organization is suspended")
	errDeleting    = errors.New("organization is being deleted")
	errBusy        = errors.New("too many sign-ins at the same time")
)

// failure is an error as a page.
type failure struct {
	status      int
	title, text string
	log         bool // nobody expected it
}

func failureOf(err error) failure {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.Is(err, backup.ErrNotFound):
		return failure{http.StatusNotFound, "Page not found", "There is nothing at this address, or it belongs to somebody else.", false}
	case errors.Is(err, backup.ErrForbidden):
		return failure{http.StatusForbidden, "Not allowed", "Your role does not allow this. Ask an admin of your organization.", false}
	case errors.Is(err, errSuspended):
		return failure{http.StatusForbidden, "Organization suspended", "Your provider has suspended this organization. Its backups are kept. Ask your provider to resume it.", false}
	case errors.Is(err, errDeleting):
		return failure{http.StatusConflict, "Being deleted", "This organization is being deleted, so nothing of it can be seen or changed any more. How far that is stands under Organizations.", false}
	case errors.Is(err, errCrossOrigin):
		return failure{http.StatusForbidden, "Not allowed", "This request came from another website, so it was not done. Open Holdfast itself and try again there.", false}
	case errors.Is(err, backup.ErrStale), errors.Is(err, backup.ErrConflict):
		return failure{http.StatusConflict, "Changed in the meantime", "Somebody else changed this at the same time, so your change was not saved. Go back, look at it again, and repeat your change.", false}
	case errors.Is(err, errBusy):
		return failure{http.StatusServiceUnavailable, "Too busy", "Too many people sign in at the moment. Wait a few seconds and try again.", true}
	case errors.As(err, &tooLarge):
		return failure{http.StatusRequestEntityTooLarge, "Too large", "What was sent is larger than any form of Holdfast.", false}
	case errors.Is(err, errForm):
		return failure{http.StatusBadRequest, "Not understood", "The form could not be read. Go back and send it again.", false}
	}
	if p, ok := errors.AsType[*backup.Problem](err); ok && p.Text != "" {
		return failure{http.StatusBadGateway, "That did not work", p.Text, true}
	}
	return failure{http.StatusInternalServerError, "Something went wrong", "Holdfast could not do that. It is in the log. Try again; if it stays, ask whoever runs this Holdfast.", true}
}

// fail answers with the page of an error. A part of a page that htmx asked for
// stays as it is, so that a bad moment does not tear a hole into the page.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		return // the browser has gone
	}
	s.noteRefusal(r, err)
	f := failureOf(err)
	id := ""
	if f.log {
		id = requestID(r)
		s.Log.Error("request failed", "request", id, "method", r.Method, "route", r.Pattern, "person", actor(r).Person.ID,
			"organization", actor(r).Org.ID, "error", err)
	}
	h := w.Header()
	h.Del("Content-Disposition")
	h.Del("Content-Length")
	frame := views.Frame{Title: f.title}
	if fragment(r) {
		h.Set("HX-Reswap", "none")
	} else {
		frame = s.frame(w, r, f.title)
	}
	page := views.ErrorPage(frame, f.text, id)
	if err := s.render(w, r, f.status, page); err != nil {
		s.Log.Error("error page not rendered", "request", requestID(r), "error", err)
		http.Error(w, f.title+". "+f.text, f.status)
	}
}
