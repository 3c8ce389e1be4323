package main

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"holdfast/backup"
	"holdfast/store/storetest"
)

func TestMetricsTellTheWorkThatThereIs(t *testing.T) {
	st := storetest.Open(t)
	w := storetest.Fill(t, st)
	storetest.Connect(t, st, w.Ada, "tenant", storetest.Account("a"), storetest.Account("b")) // two first backups wait
	m := newMetrics(st, slog.New(slog.DiscardHandler))
	m.answered("GET /dashboard", http.StatusOK, time.Millisecond)
	m.worked(3, 4000)
	m.worked(2, 500)
	m.ended(backup.Run{State: backup.RunSucceeded, StartedAt: time.Now().Add(-time.Minute), EndedAt: time.Now(), StoredBytes: 1234})
	rec := httptest.NewRecorder()
	promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}).ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	text := rec.Body.String()
	for _, want := range []string{
		`holdfast_http_requests_total{route="GET /dashboard",status="200"} 1`,
		`holdfast_mailboxes{status="` + string(backup.StatusPending) + `"} 2`,
		"holdfast_mailboxes_due 2",
		`kind="backup_mailbox",queue="backup",state="available"} 2`,
		"holdfast_runs_running 0",
		"holdfast_items_total 5",
		"holdfast_read_bytes_total 4500",
		"holdfast_stored_bytes_total 1234",
		`holdfast_run_seconds_count{state="` + string(backup.RunSucceeded) + `"} 1`,
		"go_goroutines",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if rec.Code != http.StatusOK {
		t.Errorf("status %d: %s", rec.Code, text)
	}
	if !strings.Contains(text, "holdfast_oldest_due_seconds") || strings.Contains(text, "holdfast_oldest_due_seconds 0\n") {
		t.Error("no word of how long the first due mailbox waits")
	}
}
