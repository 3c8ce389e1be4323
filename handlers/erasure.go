package handlers

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"holdfast/backup"
	"holdfast/store"
	"holdfast/views"
)

// askErasure asks for what makes sure that everything of a mailbox is to be
// erased.
func (s *Server) askErasure(w http.ResponseWriter, r *http.Request) error {
	return s.askErasurePage(w, r, http.StatusOK, views.AskErasure{})
}

func (s *Server) askErasurePage(w http.ResponseWriter, r *http.Request, status int, v views.AskErasure) error {
	m, err := s.mailbox(r)
	if err != nil {
		return err
	}
	if e, err := s.Store.Erasing(r.Context(), m.OrgID, m.ID); err == nil {
		return s.redirect(w, r, "/erasures/"+string(e.ID), "")
	} else if !errors.Is(err, backup.ErrNotFound) {
		return err
	}
	keep, err := s.Store.Keepings(r.Context(), m.OrgID)
	if err != nil {
		return err
	}
	snapshots, err := s.Store.Snapshots(r.Context(), m.OrgID, m.ID)
	if err != nil {
		return fmt.Errorf("read snapshots: %w", err)
	}
	v.Mailbox, v.Snapshots, v.Hold, v.Now = m, len(snapshots), keep.Own[m.ID].Hold, time.Now()
	if v.Hold.IsZero() {
		v.Hold = keep.Hold
	}
	return s.render(w, r, status, views.AskErasurePage(s.frame(w, r, "Erase a mailbox"), v))
}

// startErasure has everything of a mailbox erased, in the background.
func (s *Server) startErasure(w http.ResponseWriter, r *http.Request) error {
	m, err := s.mailbox(r)
	if err != nil {
		return err
	}
	v := views.AskErasure{Typed: r.PostFormValue("address"), Reason: r.PostFormValue("reason"), RequestedBy: r.PostFormValue("requested_by")}
	e, err := s.Store.AskErasure(r.Context(), backup.Erasure{OrgID: m.OrgID, MailboxID: m.ID, Reason: v.Reason, RequestedBy: v.RequestedBy}, v.Typed, actor(r))
	if fields, ok := errors.AsType[backup.FieldErrors](err); ok {
		v.Fields = fields
		return s.askErasurePage(w, r, http.StatusUnprocessableEntity, v)
	}
	if errors.Is(err, backup.ErrConflict) {
		return s.askErasurePage(w, r, http.StatusConflict, v) // which leads to the one under way
	}
	if err != nil {
		return err
	}
	return s.redirect(w, r, "/erasures/"+string(e.ID), "The erasure of "+m.Address+" is under way.")
}

// listErasures shows the erasures of the organization.
func (s *Server) listErasures(w http.ResponseWriter, r *http.Request) error {
	list, err := s.Store.Erasures(r.Context(), actor(r).Org.ID)
	if err != nil {
		return fmt.Errorf("list erasures: %w", err)
	}
	return s.render(w, r, http.StatusOK, views.ErasuresPage(s.frame(w, r, "Erasures"), list))
}

// erasureView reads the erasure that the address names.
func (s *Server) erasureView(r *http.Request) (views.ErasureView, error) {
	e, err := s.Store.Erasure(r.Context(), actor(r).Org.ID, backup.ErasureID(r.PathValue("erasure")))
	v := views.ErasureView{Erasure: e, Now: time.Now()}
	if err != nil || e.Certificate == nil {
		return v, err
	}
	if err := json.Unmarshal(e.Certificate, &v.Certificate); err != nil {
		return v, fmt.Errorf("read certificate %s: %w", e.ID, err)
	}
	sum := sha256.Sum256(e.Certificate)
	v.Hash = hex.EncodeToString(sum[:])
	_, err = s.Store.CertificateSeal(r.Context(), e)
	if v.Broken = errors.Is(err, store.ErrBroken); v.Broken {
		return v, nil
	}
	return v, err
}

// showErasure shows how an erasure stands, and its certificate.
func (s *Server) showErasure(w http.ResponseWriter, r *http.Request) error {
	v, err := s.erasureView(r)
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, views.ErasurePage(s.frame(w, r, "Erasure of "+v.Address), v))
}

// showErasureLive is the part of the page that changes.
func (s *Server) showErasureLive(w http.ResponseWriter, r *http.Request) error {
	v, err := s.erasureView(r)
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, views.ErasureLive(v))
}

// downloadCertificate is the certificate as a file.
func (s *Server) downloadCertificate(w http.ResponseWriter, r *http.Request) error {
	e, err := s.Store.Erasure(r.Context(), actor(r).Org.ID, backup.ErasureID(r.PathValue("erasure")))
	if err != nil {
		return err
	}
	if e.Certificate == nil {
		return backup.ErrNotFound
	}
	seal, err := s.Store.CertificateSeal(r.Context(), e)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(e.Certificate)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Disposition", `attachment; filename="erasure-`+string(e.ID)+`.json"`)
	// The statement stands in it as a text: its hash is of exactly these bytes.
	return json.NewEncoder(w).Encode(map[string]any{"certificate": json.RawMessage(e.Certificate), "text": string(e.Certificate), "sha256": hex.EncodeToString(sum[:]), "seal": seal})
}
