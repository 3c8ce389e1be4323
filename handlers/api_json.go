package handlers

import (
	"strings"
	"time"

	"holdfast/backup"
	"holdfast/store"
)

// What the API answers with. Times are RFC 3339 in UTC, null if there is none;
// sizes are bytes. The names are a promise: openapi.yaml has them too.

type apiList[T any] struct {
	Items    []T `json:"items"`
	Page     int `json:"page"`
	PageSize int `json:"page_size"`
	Total    int `json:"total"`
}

type apiSwitch struct {
	Enabled *bool `json:"enabled"`
}

type apiOrganizationJSON struct {
	ID           string         `json:"id"`
	Name         string         `json:"name"`
	Domain       string         `json:"domain"` // of its tenant, "" if nothing is connected
	CreatedAt    *time.Time     `json:"created_at"`
	SuspendedAt  *time.Time     `json:"suspended_at"`
	DeletingAt   *time.Time     `json:"deleting_at"` // when its deletion began
	LastBackupAt *time.Time     `json:"last_backup_at"`
	ManualRole   bool           `json:"manual_custom_role"`
	Mailboxes    map[string]int `json:"mailboxes"` // by status, and total
}

type apiProblemJSON struct {
	Kind      string     `json:"kind"`
	Text      string     `json:"text"`
	Code      string     `json:"code,omitempty"`
	RequestID string     `json:"request_id,omitempty"`
	At        *time.Time `json:"at"`
}

type apiMailboxJSON struct {
	ID           string          `json:"id"`
	Address      string          `json:"address"`
	Name         string          `json:"name"`
	Kind         string          `json:"kind"`
	Licence      string          `json:"licence"`
	Status       string          `json:"status"`
	StatusSince  *time.Time      `json:"status_since"`
	Running      bool            `json:"running"`
	Items        int64           `json:"items"`
	Bytes        int64           `json:"bytes"`
	DamagedItems int64           `json:"damaged_items"`
	LastBackupAt *time.Time      `json:"last_backup_at"`
	NextRunAt    *time.Time      `json:"next_run_at"`
	Problem      *apiProblemJSON `json:"problem"`
}

type apiRunJSON struct {
	ID           string          `json:"id"`
	MailboxID    string          `json:"mailbox_id"`
	Address      string          `json:"address"`
	State        string          `json:"state"`
	Trigger      string          `json:"trigger"`
	StartedAt    *time.Time      `json:"started_at"`
	EndedAt      *time.Time      `json:"ended_at"`
	NewItems     int64           `json:"new_items"`
	MovedItems   int64           `json:"moved_items"`
	ChangedItems int64           `json:"changed_items"`
	RemovedItems int64           `json:"removed_items"`
	FailedItems  int64           `json:"failed_items"`
	ReadBytes    int64           `json:"read_bytes"`
	StoredBytes  int64           `json:"stored_bytes"`
	Problem      *apiProblemJSON `json:"problem"`
}

// jsonTime is nil for the zero time.
func jsonTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func problemJSON(p backup.Problem) *apiProblemJSON {
	if p.IsZero() {
		return nil
	}
	return &apiProblemJSON{Kind: string(p.Kind), Text: p.Text, Code: p.Code, RequestID: p.RequestID, At: jsonTime(p.At)}
}

func organizationJSON(o backup.OrganizationHealth) apiOrganizationJSON {
	counts := map[string]int{"total": o.Counts.Total()}
	for _, s := range backup.Statuses {
		counts[string(s)] = o.Counts[s]
	}
	return apiOrganizationJSON{ID: string(o.ID), Name: o.Name, Domain: o.TenantDomain, CreatedAt: jsonTime(o.CreatedAt), SuspendedAt: jsonTime(o.SuspendedAt), DeletingAt: jsonTime(o.DeletingAt),
		LastBackupAt: jsonTime(o.LastRunAt), ManualRole: o.ManualRole, Mailboxes: counts}
}

func mailboxJSON(m backup.Mailbox) apiMailboxJSON {
	return apiMailboxJSON{ID: string(m.ID), Address: m.Address, Name: m.Name, Kind: string(m.Kind), Licence: string(m.Licence), Status: string(m.Status),
		StatusSince: jsonTime(m.StatusSince), Running: m.Running, Items: m.Items, Bytes: m.SizeBytes, DamagedItems: m.DamagedItems,
		LastBackupAt: jsonTime(m.LastRunAt), NextRunAt: jsonTime(m.NextRunAt), Problem: problemJSON(m.Problem)}
}

func runJSON(r store.MailboxRun) apiRunJSON {
	return apiRunJSON{ID: string(r.ID), MailboxID: string(r.MailboxID), Address: r.Address, State: string(r.State), Trigger: r.Trigger,
		StartedAt: jsonTime(r.StartedAt), EndedAt: jsonTime(r.EndedAt), NewItems: r.NewItems, MovedItems: r.MovedItems, ChangedItems: r.ChangedItems,
		RemovedItems: r.RemovedItems, FailedItems: r.FailedItems, ReadBytes: r.ReadBytes, StoredBytes: r.StoredBytes, Problem: problemJSON(r.Problem)}
}

// joined lists statuses for a sentence.
func joined(list []backup.Status) string {
	words := make([]string, len(list))
	for i, s := range list {
		words[i] = string(s)
	}
	return strings.Join(words, ", ")
}
