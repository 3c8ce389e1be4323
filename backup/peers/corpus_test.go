package peers_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/backup/engine"
	"holdfast/backup/m365/simulator"
)

// The corpus: letters of offices in five mailboxes, the same in each run. With
// these medians four fifths of the bytes are base64: of attachments, which 15 of
// 100 messages have, and of these 40 of 100 one of 50 that many messages have, of
// logos and of texts in other alphabets. simulator.WriteLetter says more.
const (
	boxes       = 5
	perBox      = 2000
	letterText  = 11 << 10
	letterFile  = 218 << 10
	corpusStart = 1_700_000_000 // Unix seconds of the first letter
)

// messages is the size of the corpus, or HOLDFAST_PEERS_MESSAGES for a quick look.
func messages(b *testing.B) int {
	b.Helper()
	text := os.Getenv("HOLDFAST_PEERS_MESSAGES")
	if text == "" {
		return boxes * perBox
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < boxes {
		b.Fatalf("HOLDFAST_PEERS_MESSAGES = %q, want a number from %d", text, boxes)
	}
	return n
}

// corpus is mail in Maildirs below a folder: box1 to box5.
type corpus struct {
	dir      string
	messages int
	bytes    int64
}

// box is the folder of the messages of a mailbox, as Maildir has them.
func (c corpus) box(n int) string { return filepath.Join(c.dir, fmt.Sprintf("box%d", n)) }

// newCorpus writes the corpus.
func newCorpus(b *testing.B) corpus {
	b.Helper()
	c := corpus{dir: b.TempDir(), messages: messages(b)}
	for box := range boxes {
		for _, sub := range []string{"cur", "new", "tmp"} {
			if err := os.MkdirAll(filepath.Join(c.box(box+1), sub), 0o755); err != nil {
				b.Fatal(err)
			}
		}
	}
	for i := range c.messages {
		at := time.Unix(corpusStart+int64(i)*600, 0).UTC()
		name := filepath.Join(c.box(i%boxes+1), "cur", fmt.Sprintf("%d.M%dP1.corpus:2,S", at.Unix(), i))
		n, err := writeLetter(name, int64(i+1), at)
		if err != nil {
			b.Fatal(err)
		}
		c.bytes += n
	}
	return c
}

func writeLetter(name string, number int64, at time.Time) (int64, error) {
	f, err := os.Create(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if err := simulator.WriteLetter(f, "box@corpus.example", number, at, simulator.Generated{Text: letterText, Attachment: letterFile}); err != nil {
		return 0, err
	}
	if err := os.Chtimes(name, at, at); err != nil {
		return 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), f.Close()
}

// maildir is an engine.Source of the files of a mailbox: a provider that costs nothing.
type maildir string

// Folders implements engine.Source.
func (m maildir) Folders(context.Context, string) (engine.FolderChanges, error) {
	return engine.FolderChanges{Full: true, Folders: []engine.Folder{{ID: "inbox", Name: "Inbox", WellKnown: "inbox"}}}, nil
}

// Changes implements engine.Source.
func (m maildir) Changes(context.Context, string, string) iter.Seq2[engine.Page, error] {
	return func(yield func(engine.Page, error) bool) {
		entries, err := os.ReadDir(filepath.Join(string(m), "cur"))
		if err != nil {
			yield(engine.Page{}, err)
			return
		}
		for part := range slices.Chunk(entries, 500) {
			page := engine.Page{}
			for _, e := range part {
				state, err := m.state(e)
				if err != nil {
					yield(engine.Page{}, err)
					return
				}
				page.Items = append(page.Items, state)
			}
			if !yield(page, nil) {
				return
			}
		}
		yield(engine.Page{Full: true}, nil)
	}
}

// state reads what a provider lists of a message.
func (m maildir) state(e fs.DirEntry) (engine.ItemState, error) {
	f, err := os.Open(filepath.Join(string(m), "cur", e.Name()))
	if err != nil {
		return engine.ItemState{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return engine.ItemState{}, err
	}
	head, err := mail.ReadMessage(bufio.NewReader(f))
	if err != nil {
		return engine.ItemState{}, err
	}
	return engine.ItemState{ID: e.Name(), Version: "1", FolderID: "inbox", Subject: head.Header.Get("Subject"), From: head.Header.Get("From"), To: head.Header.Get("To"),
		Received: info.ModTime(), Sent: info.ModTime(), Size: info.Size(), Read: true, InternetMessageID: head.Header.Get("Message-ID")}, nil
}

// Content implements engine.Source.
func (m maildir) Content(_ context.Context, id string) (io.ReadCloser, error) {
	return os.Open(filepath.Join(string(m), "cur", id))
}

// command runs a peer and returns how long it took.
func command(b *testing.B, env []string, dir, name string, args ...string) time.Duration {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return time.Since(start)
}

// needs skips the benchmark where a peer is not installed.
func needs(b *testing.B, programs ...string) {
	b.Helper()
	if os.Getenv("HOLDFAST_BENCH_PEERS") == "" {
		b.Skip("HOLDFAST_BENCH_PEERS is not set: make bench-peers")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			b.Fatalf("%s is not installed: apt-get install restic borgbackup isync dovecot-imapd", p)
		}
	}
}

// treeSize is the number of bytes of the files below a folder.
func treeSize(b *testing.B, dir string) (n int64) {
	b.Helper()
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// median is the middle of the durations.
func median(list []time.Duration) time.Duration {
	slices.Sort(list)
	return list[len(list)/2]
}
