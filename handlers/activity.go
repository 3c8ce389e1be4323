package handlers

import (
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"holdfast/backup"
	"holdfast/backup/export"
	"holdfast/store"
	"holdfast/views"
)

// entriesPerPage is how many entries of an activity log a page shows.
const entriesPerPage = 50

// log is an activity log that a page shows: an organization's, or, with org
// "", the partner's own.
type activityLog struct {
	partner            backup.PartnerID
	org                backup.OrgID
	path, title, about string
}

func (s *Server) ownLog(r *http.Request) (activityLog, error) {
	a := actor(r)
	return activityLog{a.Partner.ID, a.Org.ID, "/activity", "Activity", "What was done in this organization, by whom, and for whom."}, nil
}

// organizationLog is the log of an organization as the partner reads it.
func (s *Server) organizationLog(r *http.Request) (activityLog, error) {
	org, err := s.organization(r)
	return activityLog{org.PartnerID, org.ID, "/partner/organizations/" + url.PathEscape(string(org.ID)) + "/activity", org.Name, ""}, err
}

// partnerLog has what the partner's people did outside of organizations.
func (s *Server) partnerLog(r *http.Request) (activityLog, error) {
	return activityLog{actor(r).Partner.ID, "", "/partner/activity", "Activity",
		"What your own people did in the Partner Portal. What they did for an organization is in its own activity."}, nil
}

// showLog shows a page of a log.
func (s *Server) showLog(of func(*http.Request) (activityLog, error)) handlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		l, err := of(r)
		if err != nil {
			return err
		}
		q, v := activityQuery(r)
		status := http.StatusOK
		if len(v.Fields) > 0 {
			status = http.StatusUnprocessableEntity
		}
		list, total, err := s.Store.Activity(r.Context(), l.partner, l.org, q)
		if err != nil {
			return err
		}
		v.Entries, v.About, v.Path = list, l.about, l.path
		v.Page = views.Pager{Page: q.Page, Size: q.Size, Total: total, Path: l.path, Query: v.Query()}
		if l.about == "" {
			v.Organization = l.org
		}
		return s.render(w, r, status, views.ActivityPage(s.frame(w, r, l.title), v))
	}
}

// activityQuery reads the filter of a log.
func activityQuery(r *http.Request) (store.ActivityQuery, views.Activity) {
	form := r.URL.Query()
	v := views.Activity{Person: strings.TrimSpace(form.Get("person")), Kind: form.Get("kind"), From: form.Get("from"), To: form.Get("to"), Fields: backup.FieldErrors{}}
	q := store.ActivityQuery{Person: v.Person, Kind: v.Kind, Page: pageOf(r), Size: entriesPerPage}
	q.From, q.Before = daysOf(form, v.Fields)
	return q, v
}

// daysOf reads the days from and to of a form; what is wrong with them goes to
// fields. They are the reader's words for UTC days; the last one counts.
func daysOf(form url.Values, fields backup.FieldErrors) (from, before time.Time) {
	date := func(field string, shift time.Duration) time.Time {
		text := form.Get(field)
		if text == "" {
			return time.Time{}
		}
		d, err := time.Parse(time.DateOnly, text)
		if err != nil {
			fields[field] = "Enter a day like 2026-11-23."
			return time.Time{}
		}
		return d.Add(shift)
	}
	from, before = date("from", 0), date("to", day)
	if len(fields) == 0 && !from.IsZero() && !before.IsZero() && !from.Before(before) {
		fields["to"] = "The last day is before the first one."
	}
	return from, before
}

// exportLog answers with the entries that a filter leaves, as a file.
func (s *Server) exportLog(of func(*http.Request) (activityLog, error)) handlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		l, err := of(r)
		if err != nil {
			return err
		}
		q, v := activityQuery(r)
		format := r.URL.Query().Get("format")
		if len(v.Fields) > 0 || format != "csv" && format != "jsonl" {
			return backup.ErrNotFound
		}
		a := actor(r)
		if err := s.Store.RecordBy(r.Context(), a, l.org, "activity.export", l.title, format); err != nil {
			return fmt.Errorf("record the export: %w", err)
		}
		name := export.FileName("activity "+time.Now().UTC().Format(time.DateOnly), "activity") + "." + format
		body := &lateWriter{start: func() io.Writer {
			download(w, name, map[string]string{"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl; charset=utf-8"}[format])
			return w
		}}
		write, flush := jsonLines(body), func() error { return nil }
		if format == "csv" {
			write, flush = csvLines(body)
		}
		err = s.Store.ExportActivity(r.Context(), l.partner, l.org, q, write)
		if err == nil {
			err = flush()
		}
		return s.endDownload(r, body.started, err)
	}
}

// exportedEntry is an entry as a line of JSON. The hash chains it to the one
// before (backup.Entry), so that an auditor can follow the chain.
type exportedEntry struct {
	Seq     int64     `json:"seq"`
	At      time.Time `json:"at"`
	Person  string    `json:"person"`
	Acting  string    `json:"acting,omitempty"`
	Address string    `json:"address"`
	Kind    string    `json:"kind"`
	Subject string    `json:"subject"`
	Detail  string    `json:"detail"`
	ID      string    `json:"id"`
	Hash    string    `json:"sha256"`
}

func jsonLines(w io.Writer) func(backup.Entry, []byte) error {
	enc := json.NewEncoder(w)
	return func(e backup.Entry, hash []byte) error {
		return enc.Encode(exportedEntry{e.Seq, e.At.UTC(), e.Person, e.ForPerson, e.Address, e.Kind, e.Subject, e.Detail, string(e.ID), hex.EncodeToString(hash)})
	}
}

func csvLines(w io.Writer) (write func(backup.Entry, []byte) error, flush func() error) {
	c := csv.NewWriter(w)
	head := c.Write([]string{"number", "time (UTC)", "person", "acting", "address", "kind", "what", "subject", "detail", "sha256"})
	return func(e backup.Entry, hash []byte) error {
			if head != nil {
				return head
			}
			row := []string{fmt.Sprint(e.Seq), e.At.UTC().Format(time.RFC3339), e.Person, e.ForPerson, e.Address, e.Kind, views.ActivityName(e.Kind), e.Subject, e.Detail, hex.EncodeToString(hash)}
			for i := range row {
				row[i] = csvCell(row[i])
			}
			return c.Write(row)
		}, func() error {
			c.Flush()
			return c.Error()
		}
}

// csvCell keeps spreadsheets from taking text for a formula (OWASP, CSV
// injection).
func csvCell(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r\n", rune(s[0])) {
		return "'" + s
	}
	return s
}
