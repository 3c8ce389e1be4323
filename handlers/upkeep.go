package handlers

import (
	"context"
	"errors"
	"fmt"

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
