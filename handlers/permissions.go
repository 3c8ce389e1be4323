package handlers

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"holdfast/backup"
	"holdfast/backup/m365"
	"holdfast/views"
)

// showPermissions compares what was asked with what the tenant grants, as a job
// read it last.
func (s *Server) showPermissions(w http.ResponseWriter, r *http.Request) error {
	v, err := s.permissionsView(r)
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, views.PermissionsPage(s.frame(w, r, "Account Settings"), v))
}

// showPermissionsLive is the part that a page asks for while a check is under way.
func (s *Server) showPermissionsLive(w http.ResponseWriter, r *http.Request) error {
	v, err := s.permissionsView(r)
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, views.PermissionsLive(v))
}

func (s *Server) permissionsView(r *http.Request) (views.PermissionsView, error) {
	ctx, a := r.Context(), actor(r)
	v := views.PermissionsView{MayChange: a.OrgRole() == backup.RoleAdmin, Now: time.Now()}
	connections, err := s.Store.Connections(ctx, a.Org.ID)
	if err != nil {
		return v, fmt.Errorf("read connections: %w", err)
	}
	checks, err := s.Store.PermissionChecks(ctx, a.Org.ID)
	if err != nil {
		return v, fmt.Errorf("read permission checks: %w", err)
	}
	byConnection := map[backup.ConnectionID]backup.PermissionCheck{}
	for _, c := range checks {
		byConnection[c.ConnectionID] = c
	}
	for _, c := range connections {
		if c.Provider != backup.ProviderMicrosoft365 {
			v.Servers = append(v.Servers, c)
			continue
		}
		grant, err := s.Store.RestoreGrant(ctx, a.Org.ID, c.ID)
		if err != nil && !errors.Is(err, backup.ErrNotFound) {
			return v, fmt.Errorf("read the restore permission: %w", err)
		}
		v.Connections = append(v.Connections, views.PermissionsOf{Connection: c, Check: byConnection[c.ID], ClientID: s.mainClientID(), Restore: grant})
	}
	return v, nil
}

// mainClientID is the client id of Holdfast's main application, "" if it has none.
func (s *Server) mainClientID() string {
	if s.Microsoft == nil {
		return ""
	}
	return s.Microsoft.ClientID()
}

// checkPermissions has the permissions read now. The page does not wait for it.
func (s *Server) checkPermissions(w http.ResponseWriter, r *http.Request) error {
	a := actor(r)
	if err := s.Store.AskPermissionCheck(r.Context(), a.Org.ID, backup.ConnectionID(r.PathValue("connection")), a); err != nil {
		return err
	}
	return s.redirect(w, r, "/settings/permissions", "")
}

// proofView makes the proof of the last check.
func (s *Server) proofView(r *http.Request) (views.Proof, []byte, error) {
	ctx, a := r.Context(), actor(r)
	conn, err := s.Store.Connection(ctx, a.Org.ID, backup.ConnectionID(r.PathValue("connection")))
	if err != nil {
		return views.Proof{}, nil, err
	}
	check, err := s.Store.PermissionCheck(ctx, a.Org.ID, conn.ID)
	if err != nil {
		return views.Proof{}, nil, err
	}
	if check.CheckedAt.IsZero() {
		return views.Proof{}, nil, backup.ErrNotFound
	}
	proof := backup.NewPermissionProof(a.Org, conn, s.mainClientID(), check)
	text, hash, err := proof.JSON()
	return views.Proof{ConnectionID: conn.ID, PermissionProof: proof, Lines: check.MainLines(conn.Method), JSON: string(text), Hash: hash, Now: time.Now()}, text, err
}

// showProof is the printable statement for an auditor.
func (s *Server) showProof(w http.ResponseWriter, r *http.Request) error {
	v, _, err := s.proofView(r)
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, views.ProofPage(s.frame(w, r, "Permissions of Holdfast"), v))
}

// downloadProof is the same as a file.
func (s *Server) downloadProof(w http.ResponseWriter, r *http.Request) error {
	v, text, err := s.proofView(r)
	if err != nil {
		return err
	}
	if err := s.Store.RecordBy(r.Context(), actor(r), actor(r).Org.ID, "permissions.proof", v.TenantDomain, "sha256 "+v.Hash); err != nil {
		return fmt.Errorf("record the download: %w", err)
	}
	download(w, "holdfast-permissions-"+v.TenantDomain+"-"+v.ReadAt.Format("2006-01-02")+".json", "application/json")
	_, err = w.Write(text) //nolint:gosec // a file of JSON, never shown as a page
	return err
}

// noteGranted keeps what the main application was granted for the person who
// just signed in: afterwards nothing can read it.
func (s *Server) noteGranted(r *http.Request, auth backup.Authorization, purpose backup.SignInPurpose, grant m365.Grant) error {
	scopes := slices.Clone(grant.Scopes)
	if len(grant.RefreshToken) > 0 {
		scopes = append(scopes, "offline_access") // Microsoft does not list it
	}
	slices.Sort(scopes)
	if purpose == backup.SignInRestore {
		purpose = backup.SignInConsent // it takes the same, and offline_access
	}
	err := s.Store.SaveDelegatedCheck(r.Context(), auth.OrgID, auth.ConnectionID, backup.DelegatedCheck{
		Purpose: purpose, UPN: grant.UPN, Scopes: slices.Compact(scopes), At: time.Now().UTC().Truncate(time.Second)})
	if err != nil && !errors.Is(err, backup.ErrNotFound) {
		return fmt.Errorf("save what was granted: %w", err)
	}
	return nil
}
