package m365

import (
	"context"
	"encoding/json"
	"strings"

	abs "github.com/microsoft/kiota-abstractions-go"

	"holdfast/backup"
)

// assignedPlan is a service plan of an account or a tenant.
type assignedPlan struct {
	Service string `json:"service"`
	Status  string `json:"capabilityStatus"`
	ID      string `json:"servicePlanId"`
}

// Plans of service "exchange" that give no mailbox: a foundation that comes with
// many products, and the archive add-on (Microsoft's list of licensing plans).
const (
	planFoundation   = "113feb6c-3fe4-4440-bddc-54d774bf0318" // EXCHANGE_S_FOUNDATION
	planArchiveAddOn = "176a09a6-7ec5-4039-ac02-b2791c6ba793" // EXCHANGE_S_ARCHIVE_ADDON
)

// mailbox says what the plan does for a mailbox. Plans of Exchange that are not
// known are taken to give one.
func (p assignedPlan) mailbox() backup.LicenceState {
	id := strings.ToLower(p.ID)
	if !strings.EqualFold(p.Service, "exchange") || id == planFoundation || id == planArchiveAddOn {
		return backup.LicenceNone
	}
	switch strings.ToLower(p.Status) {
	case "enabled":
		return backup.LicenceValid
	case "warning":
		return backup.LicenceGrace
	}
	return backup.LicenceNone
}

// account is a user as Graph lists it.
type account struct {
	ID       string         `json:"id"`
	Name     string         `json:"displayName"`
	UPN      string         `json:"userPrincipalName"`
	Mail     string         `json:"mail"`
	Enabled  *bool          `json:"accountEnabled"`
	UserType string         `json:"userType"`
	Plans    []assignedPlan `json:"assignedPlans"`
}

// licence is the best that any of the account's plans gives.
func (a account) licence() backup.LicenceState {
	best := backup.LicenceNone
	for _, p := range a.Plans {
		switch state := p.mailbox(); state {
		case backup.LicenceValid:
			return state
		case backup.LicenceGrace:
			best = state
		}
	}
	return best
}

// Accounts lists the accounts of the tenant with licence and kind, guests left
// out, and the ids of those deleted within the last 30 days. Fields of
// backup.Mailbox that the provider does not know are zero.
//
// A kind that Microsoft does not tell at the moment is KindUnknown; it must not
// replace a known one.
func (a *App) Accounts(ctx context.Context) (accounts []backup.Mailbox, deleted []string, err error) {
	var people []account
	err = a.pages(ctx, "/users?$select=id,displayName,userPrincipalName,mail,accountEnabled,userType,assignedPlans&$top=999", func(raw json.RawMessage) error {
		var p account
		if err := json.Unmarshal(raw, &p); err != nil {
			return garbage("account", err)
		}
		if p.ID != "" && !strings.EqualFold(p.UserType, "Guest") { // accounts of before 2014 have no type
			people = append(people, p)
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	err = a.pages(ctx, "/directory/deletedItems/microsoft.graph.user?$select=id&$top=999", func(raw json.RawMessage) error {
		var p account
		if err := json.Unmarshal(raw, &p); err != nil {
			return garbage("deleted account", err)
		}
		deleted = append(deleted, p.ID)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	purposes, err := a.purposes(ctx, people)
	if err != nil {
		return nil, nil, err
	}
	accounts = make([]backup.Mailbox, 0, len(people))
	for _, p := range people {
		accounts = append(accounts, p.mailbox(purposes[p.ID]))
	}
	return accounts, deleted, nil
}

// mailbox turns an account and the purpose of its mailbox into a Mailbox.
func (a account) mailbox(purpose string) backup.Mailbox {
	m := backup.Mailbox{ProviderID: a.ID, Address: a.Mail, Name: a.Name, Kind: backup.KindUnknown, Licence: a.licence(), Enabled: a.Enabled == nil || *a.Enabled}
	if m.Address == "" {
		m.Address = a.UPN
	}
	if m.Name == "" {
		m.Name = m.Address
	}
	switch strings.ToLower(purpose) {
	case "shared":
		m.Kind = backup.KindShared
	case "room":
		m.Kind = backup.KindRoom
	case "equipment":
		m.Kind = backup.KindEquipment
	case "user", "linked", noMailbox:
		m.Kind = backup.KindUser
	}
	if m.Licence == backup.LicenceNone && (m.Kind == backup.KindShared || m.Kind == backup.KindRoom || m.Kind == backup.KindEquipment) {
		m.Licence = backup.LicenceNotNeeded
	}
	return m
}

// noMailbox stands for the answer that an account has none; it is lower case
// like the purposes, and none of them.
const noMailbox = "-"

// pages reads a list to its end. A page may be empty and still have a next one.
func (a *App) pages(ctx context.Context, path string, each func(json.RawMessage) error) error {
	var pages pager
	for path != "" {
		var page struct {
			Value []json.RawMessage `json:"value"`
			Next  string            `json:"@odata.nextLink"`
		}
		if r, err := a.json(ctx, request{method: abs.GET, path: path}, &page); r != nil {
			return directoryListProblem(*r, err)
		} else if err != nil {
			return err
		}
		for _, raw := range page.Value {
			if err := each(raw); err != nil {
				return err
			}
		}
		path = page.Next
		if err := pages.next(path); err != nil {
			return err
		}
	}
	return nil
}

// directoryListProblem reads a refusal of a list of accounts, where "not found"
// is not about a mailbox.
func directoryListProblem(r refusal, cause error) *backup.Problem {
	p := mailboxProblem(r, cause)
	if p.Kind == backup.ProblemMailboxDeleted || p.Kind == backup.ProblemMailboxInactive {
		return r.problem(meaning{}, cause)
	}
	return p
}
