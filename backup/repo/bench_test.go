package repo_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/backup/repo"
)

// nowhere is a Storage whose packs are lost, to measure all but the disk.
type nowhere struct{ *repo.Memory }

func (n nowhere) Create(ctx context.Context, key string) (repo.Upload, error) {
	if key == "format.json" {
		return n.Memory.Create(ctx, key)
	}
	return lost{}, nil
}

type lost struct{}

func (lost) Write(p []byte) (int, error)  { return len(p), nil }
func (lost) Commit(context.Context) error { return nil }
func (lost) Abort()                       {}

// BenchmarkPutContent reports, beside the throughput, that per second of CPU
// time, which other work on the machine changes less.
func BenchmarkPutContent(b *testing.B) {
	letter := []byte("Message-ID: 01234567\r\nSubject: a message\r\n\r\n" + strings.Repeat("Some words of a letter, and some more of them.\r\n", 400))
	inline := slices.Concat(letter, []byte("--b\r\n"+lines(noise(1, 40<<10), 76, "\r\n")+"--b--\r\n"))
	attachment := slices.Concat(letter, []byte("--b\r\n"+lines(noise(1, 1<<20), 76, "\r\n")+"--b--\r\n"))
	big := bytes.Index(attachment, []byte("--b\r\n")) + 5
	corpus := slices.Collect(func(yield func([]byte) bool) {
		for _, m := range mail(b) {
			if !yield(m) {
				return
			}
		}
	})
	cases := []struct {
		name string
		next func(i int) []byte
	}{
		{"letter", func(i int) []byte { number(letter, 12, i); return letter }},
		{"inline", func(i int) []byte { number(inline, 12, i); return inline }},
		{"attachment", func(i int) []byte { number(attachment, 12, i); number(attachment, big, i); return attachment }},
		{"same attachment", func(i int) []byte { number(attachment, 12, i); return attachment }},
		{"corpus", func(i int) []byte { return corpus[i%len(corpus)] }},
	}
	for _, c := range cases {
		b.Run(c.name, func(b *testing.B) {
			r, err := repo.Open(b.Context(), nowhere{repo.NewMemory()}, keyStore{"k"}, repo.NewMemoryIndex(), repo.Options{})
			if err != nil {
				b.Fatal(err)
			}
			bench(b, r, c.next)
		})
	}
	b.Run("attachment on disk", func(b *testing.B) {
		dir, err := repo.OpenDir(b.TempDir())
		if err != nil {
			b.Fatal(err)
		}
		r, err := repo.Open(b.Context(), dir, keyStore{"k"}, repo.NewMemoryIndex(), repo.Options{})
		if err != nil {
			b.Fatal(err)
		}
		bench(b, r, cases[2].next)
	})
}

// number writes eight characters of base64 that are different for each i.
func number(text []byte, at, i int) {
	var raw [6]byte
	binary.BigEndian.PutUint32(raw[2:], uint32(i))
	base64.StdEncoding.Encode(text[at:at+8], raw[:])
}

func bench(b *testing.B, r *repo.Repository, next func(int) []byte) {
	w, err := r.NewWriter(b.Context(), "org", "box")
	if err != nil {
		b.Fatal(err)
	}
	defer w.Abort()
	before, total := cpu(b), 0
	for i := 0; b.Loop(); i++ {
		text := next(i)
		total += len(text)
		if _, err := w.PutContent(b.Context(), bytes.NewReader(text)); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(total / b.N))
	b.ReportMetric(float64(total)/1e6/(cpu(b)-before).Seconds(), "MB/cpu-s")
}

// cpu is the CPU time that the process used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
