package imap_test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/imap"
	"holdfast/backup/imap/imaptest"
)

// quick is how long the tests wait for a server that says nothing.
const quick = 2 * time.Second

func (b *bench) from(f *imaptest.Fake) (engine.Result, error) {
	b.t.Helper()
	m := imap.Open(f.Server(), login("ada"), imap.Options{Timeout: quick})
	defer m.Close() //nolint:errcheck // only read from
	return b.try(m)
}

// whole runs a backup that has to succeed with as many items, none damaged.
func (b *bench) whole(f *imaptest.Fake, items int64) engine.Result {
	b.t.Helper()
	r, err := b.from(f)
	if err != nil || r.Items != items || r.DamagedItems != 0 {
		b.t.Fatalf("Backup: %d items, %d damaged, %v; want %d, none", r.Items, r.DamagedItems, err, items)
	}
	return r
}

func TestBareServer(t *testing.T) {
	f, b := imaptest.StartFake(t, 30), newBench(t)
	f.Before = "IMAP4rev1" // LOGIN alone
	b.whole(f, 30)
	for _, command := range f.Commands() {
		if strings.HasPrefix(command, "SELECT") || strings.Contains(command, "BODY[") || strings.Contains(command, "RETURN") || strings.Contains(command, "CONDSTORE") {
			t.Errorf("asked %q of a server that only has to be read", command)
		}
	}
	if r := b.whole(f, 30); r.Snapshot != 0 || r.Run.ReadBytes != 0 {
		t.Errorf("run without a change: %+v", r)
	}
	f.Change(func(folders map[string]*imaptest.FakeFolder) {
		box := folders["INBOX"]
		box.Messages[0].Flags = `\Seen`
		box.Messages = slices.Delete(box.Messages, 5, 7)
	})
	f.Add("INBOX", "Subject: new\r\n\r\nnew\r\n", `\Flagged`)
	if r := b.whole(f, 29); r.Run.NewItems != 1 || r.Run.RemovedItems != 2 || r.Run.ChangedItems != 1 {
		t.Errorf("third run: %+v, want 1 new, 2 removed, 1 changed", r.Run)
	}
	for _, i := range b.items() {
		if i.Subject == "Letter 0" && !i.Read {
			t.Error("the message that was read is not shown as read, or has lost its header")
		}
	}
}

func TestUIDValidityChanges(t *testing.T) {
	f, b := imaptest.StartFake(t, 20), newBench(t)
	first := b.whole(f, 20)
	f.Change(func(folders map[string]*imaptest.FakeFolder) {
		folders["INBOX"].Validity++
		for i := range folders["INBOX"].Messages {
			folders["INBOX"].Messages[i].UID += 100
		}
		folders["INBOX"].Next += 100
	})
	second := b.whole(f, 20)
	if second.Run.NewItems != 20 || second.Run.RemovedItems != 20 || second.Run.StoredBytes > first.Run.StoredBytes*2 {
		t.Errorf("after UIDVALIDITY changed: %+v, want all anew", second.Run)
	}
	if n := len(b.folders()); n != 1 {
		t.Errorf("%d folders, want the one that was there", n)
	}
	// The numbers start again without UIDVALIDITY saying so: other messages.
	f.Change(func(folders map[string]*imaptest.FakeFolder) {
		folders["INBOX"].Next = 1
		folders["INBOX"].Messages = nil
	})
	f.Add("INBOX", "Subject: other\r\n\r\nother\r\n", "")
	b.whole(f, 1)
	if got := b.items()[0]; got.Subject != "other" || string(b.text(got.ID)) != "Subject: other\r\n\r\nother\r\n" {
		t.Errorf("item = %+v", got)
	}
}

// breakUID has a fault for each time that the text of a message is asked for.
func breakUID(f *imaptest.Fake, uid uint32, times int32, fault func(c *imaptest.FakeConn, text string)) {
	var n atomic.Int32
	f.Fault = func(c *imaptest.FakeConn, verb, line string) bool {
		if verb != "FETCH" || !strings.Contains(line, "BODY.PEEK[]") || !imaptest.Contains(strings.Fields(line)[3], uid) || n.Add(1) > times {
			return false
		}
		fault(c, line)
		return true
	}
}

func TestBrokenContent(t *testing.T) {
	cut := func(c *imaptest.FakeConn, _ string) {
		c.Say("* 3 FETCH (UID 3 BODY[] {5000}\r\nSubject: half a mess")
		_ = c.Close()
	}
	for name, fault := range map[string]func(*imaptest.FakeConn, string){
		"dropped mid-literal": cut,
		"literal longer than said": func(c *imaptest.FakeConn, line string) {
			c.Say("* 3 FETCH (UID 3 BODY[] {10}\r\nSubject: more than ten bytes\r\n)\r\n%s OK done", strings.Fields(line)[0])
		},
		"literal shorter than said": func(c *imaptest.FakeConn, line string) {
			c.Say("* 3 FETCH (UID 3 BODY[] {400}\r\nSubject: few\r\n)\r\n%s OK done", strings.Fields(line)[0])
		},
		"refused": func(c *imaptest.FakeConn, line string) {
			c.Say("%s NO [SERVERBUG] Internal error occurred", strings.Fields(line)[0])
		},
		"left out": func(c *imaptest.FakeConn, line string) { c.Say("%s OK done", strings.Fields(line)[0]) },
		"garbage":  func(c *imaptest.FakeConn, _ string) { c.Say("* 3 FETCH ((((") },
	} {
		t.Run(name, func(t *testing.T) {
			f, b := imaptest.StartFake(t, 12), newBench(t)
			breakUID(f, 3, 1000, fault)
			r, err := b.from(f)
			if err != nil || r.Items != 12 || r.DamagedItems != 1 {
				t.Fatalf("Backup: %d items, %d damaged, %v; want 12, one damaged", r.Items, r.DamagedItems, err)
			}
			for _, i := range b.items() {
				if i.Damaged != (i.Subject == "Letter 2") {
					t.Errorf("%s: damaged = %t", i.Subject, i.Damaged)
				}
			}
			f.Fault = nil
			b.whole(f, 12)
		})
	}
	t.Run("dropped once", func(t *testing.T) {
		f, b := imaptest.StartFake(t, 12), newBench(t)
		breakUID(f, 3, 1, cut)
		b.whole(f, 12)
	})
}

func TestBrokenHeader(t *testing.T) {
	f, b := imaptest.StartFake(t, 1), newBench(t)
	b.whole(f, 1)
	for n := range 39 {
		f.Add("INBOX", fmt.Sprintf("Subject: late %d\r\n\r\n%d\r\n", n, n), "")
	}
	f.Fault = func(c *imaptest.FakeConn, verb, line string) bool {
		if verb != "FETCH" || !strings.Contains(line, "HEADER.FIELDS") || !imaptest.Contains(strings.Fields(line)[3], 17) {
			return false
		}
		c.Say("* 17 FETCH (UID 17 FLAGS (\\Seen) BODY[HEADER.FIELDS (%s", "\x00\x01")
		_ = c.Close()
		return true
	}
	b.whole(f, 40)
}

func TestOneConnectionOnly(t *testing.T) {
	f, b := imaptest.StartFake(t, 600), newBench(t)
	f.MaxConnections = 1
	b.whole(f, 600)
}

func TestFaultySearch(t *testing.T) {
	for name, answer := range map[string]string{"finds nothing": "* SEARCH", "finds half": "* SEARCH 1 2 3", "is refused": ""} {
		t.Run(name, func(t *testing.T) {
			f, b := imaptest.StartFake(t, 10), newBench(t)
			f.After = "IMAP4 IMAP4rev1 IMAP4rev2 ENABLE UIDPLUS MOVE ID UNSELECT CHILDREN IDLE NAMESPACE LITERAL+"
			f.Fault = func(c *imaptest.FakeConn, verb, line string) bool {
				tag := strings.Fields(line)[0]
				switch {
				case verb == "NAMESPACE" || verb == "SEARCH" && answer == "":
					c.Say("%s BAD Command Argument Error. 11", tag)
				case verb == "SEARCH":
					c.Say("%s\r\n%s OK done", answer, tag)
				default:
					return false
				}
				return true
			}
			b.whole(f, 10)
			for _, command := range f.Commands() {
				if strings.Contains(command, "RETURN") {
					t.Errorf("believed the faulty IMAP4rev2: %s", command)
				}
			}
			b.whole(f, 10)
		})
	}
}

func TestServerRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		answer string
		want   backup.ProblemKind
		wait   time.Duration
	}{
		"throttled":    {"NO Request is throttled. Suggested Backoff Time: 299961 milliseconds", backup.ProblemThrottled, 299961 * time.Millisecond},
		"password":     {"NO [AUTHENTICATIONFAILED] Authentication failed.", backup.ProblemPassword, 0},
		"old password": {"NO LOGIN failed.", backup.ProblemPassword, 0},
		"down":         {"NO [UNAVAILABLE] Temporary authentication failure.", backup.ProblemUnavailable, 0},
		"too many":     {"NO [LIMIT] Maximum number of connections", backup.ProblemThrottled, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f, b := imaptest.StartFake(t, 3), newBench(t)
			f.Fault = func(conn *imaptest.FakeConn, verb, line string) bool {
				if verb != "AUTHENTICATE" {
					return false
				}
				conn.Say("%s %s", strings.Fields(line)[0], c.answer)
				return true
			}
			_, err := b.from(f)
			p := backup.AsProblem(err)
			if p == nil || p.Kind != c.want || p.RetryAfter != c.wait || p.Text == "" {
				t.Errorf("Backup: %v (%v), want %s", err, p, c.want)
			}
			if strings.Contains(fmt.Sprint(err), imaptest.Password) {
				t.Error("the error has the password")
			}
		})
	}
}

// brokenOff is a run during which the server goes away, after so many commands for
// texts.
func (b *bench) brokenOff(f *imaptest.Fake, after int32) {
	b.t.Helper()
	var texts atomic.Int32
	f.Fault = func(c *imaptest.FakeConn, verb, line string) bool {
		if strings.Contains(line, "BODY.PEEK[]") {
			texts.Add(1)
		}
		if texts.Load() <= after {
			return false
		}
		c.Say("* BYE shutting down")
		_ = c.Close()
		return true
	}
	if _, err := b.from(f); backup.KindOf(err) != backup.ProblemUnavailable {
		b.t.Fatalf("Backup: %v, want unavailable", err)
	}
}

func TestServerGoesAway(t *testing.T) {
	f, b := imaptest.StartFake(t, 50), newBench(t)
	b.whole(f, 50)
	for n := range 400 { // in some commands
		f.Add("INBOX", fmt.Sprintf("Subject: late %d\r\n\r\n%d\r\n", n, n), "")
	}
	b.brokenOff(f, 2)
	if n := len(b.items()); n < 50 {
		t.Errorf("%d items after the server went, want at least the 50 of before", n)
	}
	f.Fault = nil
	b.whole(f, 450)
}

func TestFoldersComeAndGo(t *testing.T) {
	f, b := imaptest.StartFake(t, 3), newBench(t)
	f.Change(func(folders map[string]*imaptest.FakeFolder) {
		folders["Old"] = &imaptest.FakeFolder{Validity: 9, Next: 1}
	})
	f.Add("Old", "Subject: x\r\n\r\nx\r\n", "")
	b.whole(f, 4)
	f.Change(func(folders map[string]*imaptest.FakeFolder) {
		folders["New"] = folders["Old"]
		delete(folders, "Old")
	})
	if r := b.whole(f, 4); r.Run.NewItems != 0 {
		t.Errorf("a renamed folder: %+v, want no new item", r.Run)
	}
	f.Change(func(folders map[string]*imaptest.FakeFolder) { delete(folders, "New") })
	b.whole(f, 3)
}

func TestMessagesAreReadManyAtATime(t *testing.T) {
	f, b := imaptest.StartFake(t, 250), newBench(t)
	b.whole(f, 250)
	if texts, headers := asked(f); texts != 3 || headers != 0 {
		t.Errorf("%d commands for the text of 250 messages and %d for their headers, want 3 and none", texts, headers)
	}
	for _, i := range b.items() {
		n := strings.TrimPrefix(i.Subject, "Letter ")
		if want := fmt.Sprintf("From: ada@example.org\r\nSubject: Letter %s\r\nMessage-ID: <%s@x>\r\n\r\nHello %s\r\n", n, n, n); string(b.text(i.ID)) != want {
			t.Errorf("%s has the text %q, want %q", i.Subject, b.text(i.ID), want)
		}
	}
}

// asked counts the commands for texts and for headers since the last count.
func asked(f *imaptest.Fake) (texts, headers int) {
	for _, command := range f.Commands() {
		switch {
		case strings.Contains(command, "BODY.PEEK[]"):
			texts++
		case strings.Contains(command, "HEADER.FIELDS"):
			headers++
		}
	}
	return texts, headers
}

// TestInterruptedFirstRun lets a server go away during the first run: what was kept
// is not asked for again, only listed.
func TestInterruptedFirstRun(t *testing.T) {
	f, b := imaptest.StartFake(t, 900), newBench(t)
	b.brokenOff(f, 5)
	kept := len(b.items())
	if kept < 300 || kept == 900 {
		t.Fatalf("%d messages are kept of 900, of which 500 came", kept)
	}
	f.Fault = nil
	f.Commands()
	second := b.whole(f, 900)
	if want := int64(900 - kept); second.Run.NewItems != want {
		t.Errorf("second run: %d new, want %d", second.Run.NewItems, want)
	}
	if texts, headers := asked(f); headers != 4 || texts > (900-kept)/100+4 {
		t.Errorf("second run: %d commands for headers, want 4; %d for the texts of %d messages", headers, texts, 900-kept)
	}
}

// TestSetsAreAnsweredWrong lets a server err in answers about many messages: with
// messages mixed up, left out, said twice or never asked for. Each is asked for
// alone then, and after some errors none is asked for with others any more.
func TestSetsAreAnsweredWrong(t *testing.T) {
	text := func(uid int) string { return fmt.Sprintf("* %d FETCH (UID %d BODY[] {3}\r\nbad)", uid, uid) }
	for name, answers := range map[string][]string{
		"one is left out": {text(1), text(2)}, "one comes twice": {text(1), text(1)}, "one was not asked for": {text(9000)},
		"no UID": {"* 1 FETCH (BODY[] {3}\r\nbad)"}, "too long": {"* 1 FETCH (UID 1 BODY[] {999999999}\r\nbad"}, "refused": nil,
	} {
		t.Run(name, func(t *testing.T) {
			f, b := imaptest.StartFake(t, 600), newBench(t)
			var sets atomic.Int32
			f.Fault = func(c *imaptest.FakeConn, verb, line string) bool {
				fields := strings.Fields(line)
				if verb != "FETCH" || !strings.Contains(line, "BODY.PEEK[]") || !strings.ContainsAny(fields[3], ":,") {
					return false
				}
				sets.Add(1)
				for _, a := range answers {
					c.Say("%s", a)
				}
				if answers == nil {
					c.Say("%s NO not so many", fields[0])
				} else {
					c.Say("%s OK done", fields[0])
				}
				return true
			}
			b.whole(f, 600)
			for _, i := range b.items() {
				if string(b.text(i.ID)) == "bad" {
					t.Errorf("%s has the text of a wrong answer", i.Subject)
				}
			}
			if n := sets.Load(); n < 3 || n > 5 {
				t.Errorf("asked %d times for many messages at once, want 3, and 2 that may be on their way", n)
			}
		})
	}
}
