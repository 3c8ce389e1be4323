package main

import (
	"database/sql"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	_ "modernc.org/sqlite" // fills the catalog directly
)

// million fills the catalog of one mailbox with a million messages, as a
// backup would have left it.
const million = `
	WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)
	INSERT INTO catalog_entries (source, item, from_seq, to_seq, folder, record, received_at, flags, importance, categories, version, problem)
	SELECT 1, i, 1, 9223372036854775807, i % 40, i, 1700000000000 + i * 1000, i % 4, 'normal', '', 'CQAAABYAAAD' || i, '' FROM n`

const millionRecords = `
	WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)
	INSERT INTO catalog_records (source, number, item, meta, subject, sender, recipients, message_id, received_at, sent_at, size_bytes, provider_bytes, attachments, has_content, search)
	SELECT 1, i, i, randomblob(32), 'Subject of message ' || i, 'Sender ' || (i % 900), 'ada@contoso.example', '<' || i || '@contoso.example>', 1700000000000 + i * 1000, 1700000000000 + i * 1000, 22000, 22000, FALSE, TRUE, 'subject of message ' || i FROM n`

// BenchmarkColdStart is the time from starting "holdfast serve" with a
// database of a million messages to its first page. It must stay under 300 ms.
func BenchmarkColdStart(b *testing.B) {
	const most = 300 * time.Millisecond
	data := b.TempDir()
	program := filepath.Join(b.TempDir(), "holdfast")
	build := exec.CommandContext(b.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, ".")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("build: %v\n%s", err, out)
	}
	c := config{Data: data}
	if err := c.complete(); err != nil {
		b.Fatal(err)
	}
	first := coldStart(b, program, data) // makes the database
	db, err := sql.Open("sqlite", "file:"+filepath.Join(data, "holdfast.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		b.Fatal(err)
	}
	for _, statement := range []string{million, millionRecords} {
		if _, err := db.ExecContext(b.Context(), statement); err != nil {
			b.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		b.Fatal(err)
	}
	var times []time.Duration
	for b.Loop() {
		for range 7 {
			times = append(times, coldStart(b, program, data))
		}
	}
	slices.Sort(times)
	median := times[len(times)/2]
	b.ReportMetric(float64(median.Milliseconds()), "ms-to-first-page")
	b.ReportMetric(float64(first.Milliseconds()), "ms-of-very-first-start")
	if median > most {
		b.Errorf("the first page takes %s, want at most %s", median, most)
	}
}

// coldStart starts the server, waits for its first page and kills it.
func coldStart(b *testing.B, program, data string) time.Duration {
	b.Helper()
	addr := freeAddr(b)
	cmd := exec.CommandContext(b.Context(), program, "serve", "-addr", addr, "-data", data)
	start := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill() // killed on purpose
		_ = cmd.Wait()
	}()
	for deadline := start.Add(20 * time.Second); ; {
		res, err := http.Get("http://" + addr + "/sign-in") //nolint:noctx // a benchmark on loopback
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return time.Since(start)
			}
		}
		if time.Now().After(deadline) {
			b.Fatal("the server did not answer")
		}
		time.Sleep(time.Millisecond)
	}
}
