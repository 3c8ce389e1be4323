package imap_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/imap"
	"holdfast/backup/imap/imaptest"
)

var errDisk = errors.New("disk")

// restored is a message on its way to a target.
func restored(text string) engine.Restored {
	m := engine.Restored{Bytes: int64(len(text)), Open: func(context.Context) io.ReadCloser { return io.NopCloser(strings.NewReader(text)) }}
	m.Received = time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	return m
}

// broken opens a text whose second reading, or first, fails in the middle.
func broken(text string) func(context.Context) io.ReadCloser {
	return func(context.Context) io.ReadCloser {
		return io.NopCloser(io.MultiReader(strings.NewReader(text), failing{}))
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errDisk }

// taking makes a fake server take messages, or refuse them with an answer.
// lost says that the answers to so many are lost.
func taking(f *imaptest.Fake, answer string, lost int) {
	f.Fault = func(c *imaptest.FakeConn, verb, line string) bool {
		tag := strings.Fields(line)[0]
		switch verb {
		case "SELECT":
			c.Say("* 0 EXISTS\r\n* OK [UIDVALIDITY 7] fine")
			c.Open("INBOX")
			f.Change(func(boxes map[string]*imaptest.FakeFolder) { c.Say("* %d EXISTS", len(boxes["INBOX"].Messages)) })
			c.Say("* OK [UIDNEXT 1] fine\r\n%s OK [READ-WRITE] done", tag)
		case "APPEND":
			if answer != "" {
				c.Say("%s %s", tag, answer)
				return true
			}
			text, ok := c.Literal(line)
			if !ok {
				return true
			}
			f.Add("INBOX", text, "")
			if lost--; lost >= 0 {
				_ = c.Close()
				return true
			}
			c.Say("%s OK done", tag)
		default:
			return false
		}
		return true
	}
}

func TestTargetNamesWhatAServerRefuses(t *testing.T) {
	for answer, want := range map[string]struct {
		kind   backup.ProblemKind
		closed bool
	}{
		"NO [OVERQUOTA] Quota exceeded":          {backup.ProblemMailboxFull, true},
		"NO Quota exceeded (mailbox is full)":    {backup.ProblemMailboxFull, true},
		"NO [TOOBIG] no":                         {backup.ProblemItems, false},
		"NO [LIMIT] too many words":              {backup.ProblemItems, false},
		"NO [NOPERM] no":                         {backup.ProblemPermission, false},
		"NO Mailbox is read-only":                {backup.ProblemPermission, false},
		"NO [UNAVAILABLE] later":                 {backup.ProblemUnavailable, true},
		"NO [TRYCREATE] no such mailbox":         {backup.ProblemUnavailable, true},
		"BAD Message contains NUL characters":    {backup.ProblemItems, false},
		"NO [SERVERBUG] Internal error occurred": {backup.ProblemUnavailable, true},
	} {
		f := imaptest.StartFake(t, 0)
		taking(f, answer, 0)
		target := imap.OpenTarget(f.Server(), login("ada"), imap.Options{})
		m := restored("Message-ID: <1@x>\r\n\r\n" + strings.Repeat("text\r\n", 2000))
		for range 2 { // the refusal leaves a connection that can be used, or none
			_, err := target.Create(t.Context(), "INBOX", m)
			if backup.KindOf(err) != want.kind || errors.Is(err, engine.ErrTargetClosed) != want.closed {
				t.Errorf("%s: %v (kind %q), want kind %q, closed %v", answer, err, backup.KindOf(err), want.kind, want.closed)
			}
		}
		must(t, target.Close())
	}
}

func TestTargetFindsAMessageWhoseAnswerWasLost(t *testing.T) {
	f := imaptest.StartFake(t, 0)
	taking(f, "", 1)
	target := imap.OpenTarget(f.Server(), login("ada"), imap.Options{})
	defer target.Close() //nolint:errcheck // it has none
	if _, err := target.Present(t.Context(), "INBOX"); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"1", "2", "1"} { // the last is meant to be there twice
		if _, err := target.Create(t.Context(), "INBOX", restored("Message-ID: <"+id+"@x>\r\n\r\ntext\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	f.Change(func(boxes map[string]*imaptest.FakeFolder) {
		if n := len(boxes["INBOX"].Messages); n != 3 {
			t.Errorf("%d messages after a lost answer, want 3", n)
		}
	})
}

func TestTargetKeepsToTheLimitOfTheServer(t *testing.T) {
	f := imaptest.StartFake(t, 0)
	f.After += " APPENDLIMIT=20"
	taking(f, "", 0)
	target := imap.OpenTarget(f.Server(), login("ada"), imap.Options{})
	defer target.Close() //nolint:errcheck // it has none
	_, err := target.Create(t.Context(), "INBOX", restored("Message-ID: <1@x>\r\n\r\ntext\r\n"))
	if backup.KindOf(err) != backup.ProblemItems || !strings.Contains(backup.AsProblem(err).Text, "larger than localhost takes") {
		t.Errorf("a message over the limit: %v", err)
	}
	for _, command := range f.Commands() {
		if strings.HasPrefix(command, "APPEND") {
			t.Error("it was sent nevertheless")
		}
	}
}
