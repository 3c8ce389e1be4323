package handlers

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"holdfast/backup"
	"holdfast/views"
)

// damagesShown is how many damaged messages and objects a page lists.
const damagesShown = 100

// proven reads what an organization's restore tests say; path is where damage
// is listed.
func (s *Server) proven(ctx context.Context, org backup.OrgID, path string) (views.Proven, error) {
	kinds, err := s.Store.Upkeeps(ctx, org)
	if err != nil {
		return views.Proven{}, err
	}
	p := views.Proven{Item: kinds[backup.UpkeepProveItem], Mailbox: kinds[backup.UpkeepProveMailbox], StatusPath: path}
	if p.Damaged, p.Since, err = s.Store.CountDamages(ctx, org); err != nil {
		return p, err
	}
	if p.ItemOf, err = s.addressOf(ctx, org, p.Item.MailboxID); err != nil {
		return p, err
	}
	p.MailboxOf, err = s.addressOf(ctx, org, p.Mailbox.MailboxID)
	return p, err
}

// addressOf is the address of a mailbox, "" if there is none any more.
func (s *Server) addressOf(ctx context.Context, org backup.OrgID, id backup.MailboxID) (string, error) {
	if id == "" {
		return "", nil
	}
	m, err := s.Store.Mailbox(ctx, org, id)
	if errors.Is(err, backup.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read mailbox %s: %w", id, err)
	}
	return m.Address, nil
}

// checks reads how much all organizations of the partner have backed up and how
// their checks stand, and finds what the address asks for.
func (s *Server) checks(r *http.Request) (views.Checks, error) {
	ctx, partner, now := r.Context(), actor(r).Partner.ID, time.Now()
	v := views.Checks{Now: now, Search: strings.TrimSpace(r.URL.Query().Get("q")), Only: r.URL.Query().Get("only"), Of: map[string]int{}}
	sizes, err := s.Store.OrganizationSizes(ctx, partner)
	if err != nil {
		return v, fmt.Errorf("read sizes: %w", err)
	}
	v.Any = len(sizes) > 0
	shares, err := s.Store.CheckedShares(ctx, partner, now.Add(-backup.HashedWithin), now.Add(-backup.OpenedWithin))
	if err != nil {
		return v, err
	}
	upkeeps, err := s.Store.AllUpkeeps(ctx, partner)
	if err != nil {
		return v, err
	}
	damaged, err := s.Store.AllDamages(ctx, partner)
	if err != nil {
		return v, err
	}
	for _, o := range sizes {
		if strings.Contains(strings.ToLower(o.Name), strings.ToLower(v.Search)) {
			v.Organizations = append(v.Organizations, views.OrganizationChecks{ID: o.ID, Name: o.Name, Mailboxes: o.Mailboxes, Items: o.Items, SizeBytes: o.SizeBytes, Stored: o.Stored,
				Share: shares[o.ID], Upkeep: upkeeps[o.ID], Damaged: damaged[o.ID]})
		}
	}
	v.Choose(pageOf(r), organizationsPerPage)
	return v, nil
}

// showChecks is the part of the storage page that changes while checks run.
func (s *Server) showChecks(w http.ResponseWriter, r *http.Request) error {
	v, err := s.checks(r)
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, views.ChecksLive(v))
}

// organizationChecks reads how the checks of one organization stand.
func (s *Server) organizationChecks(r *http.Request) (views.OrganizationChecks, error) {
	ctx, now := r.Context(), time.Now()
	org, err := s.organization(r)
	if err != nil {
		return views.OrganizationChecks{}, err
	}
	o := views.OrganizationChecks{ID: org.ID, Name: org.Name, Now: now}
	shares, err := s.Store.CheckedShares(ctx, org.PartnerID, now.Add(-backup.HashedWithin), now.Add(-backup.OpenedWithin))
	if err != nil {
		return o, err
	}
	o.Share = shares[org.ID]
	if o.Upkeep, err = s.Store.Upkeeps(ctx, org.ID); err != nil {
		return o, err
	}
	if o.Damaged, _, err = s.Store.CountDamages(ctx, org.ID); err != nil {
		return o, err
	}
	o.Damages, err = s.Store.Damages(ctx, org.ID, damagesShown)
	return o, err
}

// showOrganizationStorage shows how the checks of one organization stand.
func (s *Server) showOrganizationStorage(w http.ResponseWriter, r *http.Request) error {
	v, err := s.organizationChecks(r)
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, views.OrganizationStoragePage(s.frame(w, r, "Storage of "+v.Name), v))
}

// showOrganizationChecks is the part of that page that changes while checks run.
func (s *Server) showOrganizationChecks(w http.ResponseWriter, r *http.Request) error {
	v, err := s.organizationChecks(r)
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, views.OrganizationChecksLive(v))
}

// checkNow has everything of an organization checked.
func (s *Server) checkNow(w http.ResponseWriter, r *http.Request) error {
	return s.askUpkeep(w, r, backup.UpkeepAll, "The check of %s starts now. It opens everything and restores every message to nowhere, and may take hours.")
}

// repairNow has damaged objects of an organization put back from the copy.
func (s *Server) repairNow(w http.ResponseWriter, r *http.Request) error {
	return s.askUpkeep(w, r, backup.UpkeepRepair, "The repair of %s starts now. It takes what is damaged from the copy of the storage, if there is one, and saves what is whole of the rest.")
}

// rebuildNow has the catalog of an organization made anew.
func (s *Server) rebuildNow(w http.ResponseWriter, r *http.Request) error {
	return s.askUpkeep(w, r, backup.UpkeepRebuild, "The catalog of %s is made anew now. Until it is, its mailboxes show only in part.")
}

// collectNow lets snapshots of an organization expire and frees what none needs.
func (s *Server) collectNow(w http.ResponseWriter, r *http.Request) error {
	return s.askUpkeep(w, r, backup.UpkeepCollect, "The collection of %s starts now. It deletes what was found two days ago or earlier, and looks for what no snapshot needs since.")
}

// rekeyNow begins new keys for an organization and has everything moved to them, or
// has that go on now.
func (s *Server) rekeyNow(w http.ResponseWriter, r *http.Request) error {
	org, err := s.organization(r)
	if err != nil {
		return err
	}
	kinds, err := s.Store.Upkeeps(r.Context(), org.ID)
	if err != nil {
		return err
	}
	if kinds[backup.UpkeepRekey].Open() {
		return s.askUpkeep(w, r, backup.UpkeepRekey, "The move of %s to new keys goes on now.")
	}
	path := "/partner/settings/storage/" + url.PathEscape(string(org.ID))
	_, err = s.Store.BeginRekey(r.Context(), actor(r).Partner.ID, org.ID, actor(r))
	if errors.Is(err, backup.ErrConflict) {
		return s.redirect(w, r, path, "That is under way for "+org.Name+" already.")
	}
	if err != nil {
		return err
	}
	return s.redirect(w, r, path, org.Name+" has new keys, and everything is moved to them now. Write a new recovery kit: the one you have opens nothing that is written from now on.")
}

// askUpkeep has work of a kind done for the organization that the address names.
func (s *Server) askUpkeep(w http.ResponseWriter, r *http.Request, kind backup.UpkeepKind, flash string) error {
	org, err := s.organization(r)
	if err != nil {
		return err
	}
	path := "/partner/settings/storage/" + url.PathEscape(string(org.ID))
	err = s.Store.AskUpkeep(r.Context(), actor(r).Partner.ID, org.ID, kind, actor(r))
	if errors.Is(err, backup.ErrConflict) {
		return s.redirect(w, r, path, "That is under way for "+org.Name+" already.")
	}
	if err != nil {
		return err
	}
	return s.redirect(w, r, path, fmt.Sprintf(flash, org.Name))
}

// exportDamages answers with what is damaged at the person's organization.
func (s *Server) exportDamages(w http.ResponseWriter, r *http.Request) error {
	return s.writeDamages(w, r, actor(r).Org)
}

// exportOrganizationDamages answers with what is damaged at an organization of
// the partner.
func (s *Server) exportOrganizationDamages(w http.ResponseWriter, r *http.Request) error {
	org, err := s.organization(r)
	if err != nil {
		return err
	}
	return s.writeDamages(w, r, org)
}

// damagesExported is how many damages a file has at most.
const damagesExported = 1_000_000

func (s *Server) writeDamages(w http.ResponseWriter, r *http.Request, org backup.Organization) error {
	list, err := s.Store.Damages(r.Context(), org.ID, damagesExported)
	if err != nil {
		return err
	}
	download(w, "damaged "+time.Now().UTC().Format(time.DateOnly)+".csv", "text/csv; charset=utf-8")
	c := csv.NewWriter(w)
	rows := [][]string{{"mailbox", "folder", "subject", "received (UTC)", "damaged since (UTC)", "state", "object", "how"}}
	for _, d := range list {
		row := []string{d.MailboxName, d.Folder, d.Subject, csvTime(d.ReceivedAt), csvTime(d.FoundAt), views.DamageStates[d.Fate], d.Object, views.DamageHow(d)}
		for i := range row {
			row[i] = csvCell(row[i])
		}
		rows = append(rows, row)
	}
	return s.endDownload(r, true, c.WriteAll(rows))
}

// csvTime is a time for a table, "" for none.
func csvTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
