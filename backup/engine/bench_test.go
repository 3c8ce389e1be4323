package engine_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"sync/atomic"
	"testing"

	"holdfast/backup/engine"
	"holdfast/backup/repo"
	"holdfast/store/storetest"
)

// large serves messages of 192 MiB, each an attachment without repetition.
type large struct {
	*provider
	peak *atomic.Uint64
}

func (l large) Content(_ context.Context, id string) (io.ReadCloser, error) {
	return io.NopCloser(&largeMessage{id: id, left: 192 << 20, peak: l.peak}), nil
}

// largeMessage is the same megabyte of base64 lines over and over, but for a
// line that tells the repetitions apart.
type largeMessage struct {
	id    string
	left  int
	round int
	rest  []byte
	peak  *atomic.Uint64
}

var megabyte = func() []byte {
	r := rand.New(rand.NewPCG(5, 6))
	var b []byte
	raw := make([]byte, 57)
	for len(b) < 1<<20 {
		for i := range raw {
			raw[i] = byte(r.Uint32())
		}
		b = append(base64.StdEncoding.AppendEncode(b, raw), '\r', '\n')
	}
	return b
}()

func (m *largeMessage) Read(p []byte) (int, error) {
	if m.left <= 0 {
		return 0, io.EOF
	}
	if len(m.rest) == 0 {
		line := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%057s", fmt.Sprintf("%s %d", m.id, m.round)))
		m.rest = append([]byte(line+"\r\n"), megabyte...)
		if m.round++; m.round%8 == 0 {
			for now, old := heap(), m.peak.Load(); now > old && !m.peak.CompareAndSwap(old, now); old = m.peak.Load() {
			}
		}
	}
	n := copy(p, m.rest[:min(len(m.rest), m.left)])
	m.rest, m.left = m.rest[n:], m.left-n
	return n, nil
}

// fill puts n messages of about 20 KiB, half of it an attachment, into folders.
func fill(p *provider, n int) (bytesInAll int64) {
	r := rand.New(rand.NewPCG(3, 4))
	for i := range n {
		raw := make([]byte, 57*150)
		for j := range raw {
			raw[j] = byte(r.Uint32())
		}
		var b bytes.Buffer
		fmt.Fprintf(&b, "Subject: message %d\r\n\r\n", i)
		for range 80 {
			fmt.Fprintf(&b, "The quick brown fox number %d jumps over the lazy dog %d times, and then some more.\r\n", r.IntN(100), r.IntN(1000))
		}
		for line := raw; len(line) > 0; line = line[57:] {
			b.WriteString(base64.StdEncoding.EncodeToString(line[:57]) + "\r\n")
		}
		p.add([]string{"inbox", "sentitems", "deleteditems"}[i%3], fmt.Sprintf("message %d", i), b.Bytes())
		bytesInAll += int64(b.Len())
	}
	return bytesInAll
}

// BenchmarkFirstRun backs up 2,000 messages into a directory and SQLite.
func BenchmarkFirstRun(b *testing.B) {
	p := newProvider()
	p.pageSize = 500
	b.SetBytes(fill(p, 2000))
	for b.Loop() {
		dir := must[*repo.Dir](b)(repo.OpenDir(filepath.Join(b.TempDir(), "repository")))
		e := openBench(b, storetest.Open(b), dir)
		if _, err := e.Backup(b.Context(), engine.Job{Org: org, Mailbox: mailbox, Source: p}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*2000/b.Elapsed().Seconds(), "items/s")
}

// BenchmarkUnchangedRun looks at 2,000 messages that did not change.
func BenchmarkUnchangedRun(b *testing.B) {
	p := newProvider()
	p.pageSize = 500
	fill(p, 2000)
	e := openBench(b, storetest.Open(b), repo.NewMemory())
	job := engine.Job{Org: org, Mailbox: mailbox, Source: p}
	if _, err := e.Backup(b.Context(), job); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if result, err := e.Backup(b.Context(), job); err != nil || result.Snapshot != 0 {
			b.Fatal(result, err)
		}
	}
}

// BenchmarkRebuild makes the catalog of 20,000 small messages anew.
func BenchmarkRebuild(b *testing.B) {
	p := newProvider()
	p.pageSize = 500
	for i := range 20_000 {
		p.add("inbox", fmt.Sprintf("message %d", i), fmt.Appendf(nil, "text %d", i))
	}
	e := openBench(b, storetest.Open(b), repo.NewMemory())
	if _, err := e.Backup(b.Context(), engine.Job{Org: org, Mailbox: mailbox, Source: p}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := e.Rebuild(b.Context(), org); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*20_000/b.Elapsed().Seconds(), "items/s")
}
