package handlers

import (
	"encoding/csv"
	"fmt"
	"net/http"
	"time"

	"holdfast/backup"
)

// downloadRestoreReport gives the report of a restore as CSV: every message that
// was not restored, or not as it was, and why.
func (s *Server) downloadRestoreReport(w http.ResponseWriter, r *http.Request) error {
	got, err := s.restoreAt(r)
	if err != nil {
		return err
	}
	notes, err := s.Store.RestoreNotes(r.Context(), got.OrgID, got.ID, 0)
	if err != nil {
		return fmt.Errorf("read the report: %w", err)
	}
	download(w, "holdfast-restore-"+got.CreatedAt.UTC().Format("2006-01-02-1504")+".csv", "text/csv; charset=utf-8")
	out := csv.NewWriter(w)
	rows := [][]string{{"result", "subject", "from", "folder", "received (UTC)", "reason"}}
	for _, n := range notes {
		rows = append(rows, reportRow(n))
	}
	return out.WriteAll(rows) // flushes
}

func reportRow(n backup.RestoreNote) []string {
	result, received := "not restored", ""
	if n.Altered {
		result = "restored with a difference"
	}
	if !n.ReceivedAt.IsZero() {
		received = n.ReceivedAt.UTC().Format(time.RFC3339)
	}
	row := []string{result, n.Subject, n.From, n.Folder, received, n.Reason}
	for i := range row {
		row[i] = csvCell(row[i])
	}
	return row
}
