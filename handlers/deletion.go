package handlers

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"holdfast/backup"
	"holdfast/backup/m365"
	"holdfast/views"
)

func deletionPath(org backup.OrgID) string {
	return "/partner/organizations/" + url.PathEscape(string(org)) + "/deletion"
}

// askDelete says what deleting an organization deletes, and asks for its name.
func (s *Server) askDelete(w http.ResponseWriter, r *http.Request) error {
	org, err := s.organization(r)
	if err != nil {
		return err
	}
	return s.deletePage(w, r, http.StatusOK, views.Delete{Organization: org})
}

// deletePage completes v with what goes, and what stays in the tenant.
func (s *Server) deletePage(w http.ResponseWriter, r *http.Request, status int, v views.Delete) error {
	ctx, org := r.Context(), v.Organization
	if org.SuspendedAt.IsZero() {
		return s.refuse(w, r, "/partner/organizations/"+url.PathEscape(string(org.ID)), "Only a suspended organization can be deleted. Suspend "+org.Name+" first.")
	}
	var err error
	if v.Goes, err = s.Store.WhatGoes(ctx, org.PartnerID, org.ID); err != nil {
		return err
	}
	if _, v.Hold, err = s.Store.Retention(ctx, org.ID); err != nil {
		return err
	}
	if v.Tenant, err = s.inTenants(r, org.ID); err != nil {
		return err
	}
	v.Replica = s.ReplicaPlace != ""
	return s.render(w, r, status, views.DeletePage(s.frame(w, r, "Delete"), v))
}

// inTenants is what Holdfast has in the tenants of an organization.
func (s *Server) inTenants(r *http.Request, org backup.OrgID) ([]backup.Remnant, error) {
	connections, err := s.connectionViews(r.Context(), org)
	if err != nil {
		return nil, err
	}
	var list []backup.Remnant
	for _, c := range connections {
		if c.Provider != backup.ProviderMicrosoft365 {
			continue
		}
		for _, app := range c.Applications {
			if app.State != backup.ApplicationRemoved {
				list = append(list, m365.ApplicationLeft(c.TenantDomain, app))
			}
		}
		if !c.Administrator.IsZero() {
			list = append(list, m365.AdministratorLeft(c.Connection))
		}
		if c.Role.ID != "" {
			list = append(list, m365.RoleRemnant(c.TenantDomain))
		}
		if s.Microsoft != nil {
			list = append(list, s.Microsoft.MainLeft(c.TenantDomain))
		}
	}
	return list, nil
}

// deleteOrganization begins the deletion.
func (s *Server) deleteOrganization(w http.ResponseWriter, r *http.Request) error {
	org, err := s.organization(r)
	if err != nil {
		return err
	}
	v := views.Delete{Organization: org, Name: r.PostFormValue("name"), Reason: r.PostFormValue("reason"), Anyway: r.PostFormValue("anyway") == "yes"}
	tenant, err := s.inTenants(r, org.ID)
	if err != nil {
		return err
	}
	wish := backup.DeletionWish{Name: v.Name, Reason: v.Reason, Leaves: len(tenant) > 0, Anyway: v.Anyway}
	err = s.Store.StartDeletion(r.Context(), org.PartnerID, org.ID, wish, actor(r))
	if fields, ok := errors.AsType[backup.FieldErrors](err); ok {
		v.Fields = fields
		return s.deletePage(w, r, http.StatusUnprocessableEntity, v)
	}
	if err != nil {
		return err
	}
	return s.redirect(w, r, deletionPath(org.ID), org.Name+" is being deleted.")
}

// deletion reads the deletion that the address names; another partner's is
// ErrNotFound.
func (s *Server) deletion(r *http.Request) (views.Deletion, error) {
	d, err := s.Store.Deletion(r.Context(), actor(r).Partner.ID, backup.OrgID(r.PathValue("id")))
	return views.Deletion{Deletion: d, MayManage: actor(r).Role == backup.RoleOwner, Now: time.Now()}, err
}

// showDeletion shows how far the deletion of an organization is, and what it left
// behind.
func (s *Server) showDeletion(w http.ResponseWriter, r *http.Request) error {
	v, err := s.deletion(r)
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, views.DeletionPage(s.frame(w, r, v.Name), v))
}

// showDeletionLive is the part of the page that changes meanwhile.
func (s *Server) showDeletionLive(w http.ResponseWriter, r *http.Request) error {
	v, err := s.deletion(r)
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, views.DeletionLive(v))
}

// settleDeletion notes that a person has removed what was left.
func (s *Server) settleDeletion(w http.ResponseWriter, r *http.Request) error {
	v, err := s.deletion(r)
	if err != nil {
		return err
	}
	if err := s.Store.SettleDeletion(r.Context(), v.PartnerID, v.OrgID, actor(r)); err != nil && !errors.Is(err, backup.ErrNotFound) {
		return fmt.Errorf("settle the deletion: %w", err)
	}
	return s.redirect(w, r, "/partner/organizations", "Noted. Nothing of "+v.Name+" is left.")
}
