package imap_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/imap"
	"holdfast/backup/imap/imaptest"
)

// restore restores the newest snapshot to an account.
func (b *bench) restore(ctx context.Context, server backup.IMAPServer, user string, change func(*engine.RestoreJob)) (backup.Restore, []backup.RestoreNote, error) {
	b.t.Helper()
	list, err := b.store.Snapshots(b.t.Context(), org, mailbox)
	must(b.t, err)
	target := imap.OpenTarget(server, login(user), imap.Options{})
	defer target.Close() //nolint:errcheck // it has none
	var notes []backup.RestoreNote
	job := engine.RestoreJob{Target: target,
		Restore: backup.Restore{ID: "RESTORE1", OrgID: org, MailboxID: mailbox, Snapshot: list[0].Seq, Scope: backup.RestoreMailbox, Place: backup.PlaceOriginal},
		Note: func(_ context.Context, n backup.RestoreNote) error {
			notes = append(notes, n)
			return nil
		}}
	if change != nil {
		change(&job)
	}
	got, err := b.engine.Restore(ctx, job)
	return got, notes, err
}

// held is everything in an account: folder, flags, date and text, and how often.
func held(t testing.TB, c *imapclient.Client) map[string]int {
	t.Helper()
	list, err := c.List("", "*", nil).Collect()
	must(t, err)
	out := map[string]int{}
	for _, f := range list {
		data, err := c.Select(f.Mailbox, &goimap.SelectOptions{ReadOnly: true}).Wait()
		must(t, err)
		out[f.Mailbox+"/"]++
		if data.NumMessages == 0 {
			continue
		}
		all, err := c.Fetch(goimap.SeqSet{{Start: 1, Stop: 0}}, &goimap.FetchOptions{Flags: true, InternalDate: true, BodySection: []*goimap.FetchItemBodySection{{Peek: true}}}).Collect()
		must(t, err)
		for _, m := range all {
			var flags []string
			for _, flag := range m.Flags {
				if flag != `\Recent` {
					flags = append(flags, string(flag))
				}
			}
			slices.Sort(flags)
			out[fmt.Sprintf("%s %q %s %s", f.Mailbox, flags, m.InternalDate.UTC().Format(time.RFC3339), m.BodySection[0].Bytes)]++
		}
	}
	must(t, c.Unselect().Wait())
	return out
}

// differences are what one account has and the other has not, shortened.
func differences(a, b map[string]int) (out []string) {
	for what, n := range a {
		if b[what] != n {
			out = append(out, fmt.Sprintf("%d instead of %d of %.150q", b[what], n, what))
		}
	}
	return out
}

// filled is an account with the corpus in folders whose names are difficult.
func filled(t *testing.T, d *imaptest.Dovecot) *imapclient.Client {
	t.Helper()
	c := person(t, d, "ada")
	folders := []string{"INBOX", "Sent", "Trash", "Work", "Work/Größe & Maß"}
	for _, name := range folders[2:] {
		must(t, c.Create(name, nil).Wait())
	}
	flags := [][]goimap.Flag{nil, {goimap.FlagSeen}, {goimap.FlagFlagged, "$Label1"}, {goimap.FlagDraft, goimap.FlagAnswered, goimap.FlagSeen}}
	texts := corpus(t)
	for i, name := range slices.Sorted(maps.Keys(texts)) {
		at := time.Date(2001, 2, 3, 4, 5, i, 0, time.FixedZone("", 3*3600))
		add(t, c, folders[i%len(folders)], imap.CRLF(texts[name]), &goimap.AppendOptions{Time: at, Flags: flags[i%len(flags)]})
	}
	twice := []byte("Subject: twice\r\n\r\nWithout an id\r\n")
	for range 2 {
		add(t, c, "Work", twice, &goimap.AppendOptions{Time: time.Date(2011, 1, 1, 0, 0, 0, 0, time.UTC)})
	}
	return c
}

func TestDovecotRestoresByteForByte(t *testing.T) {
	d := imaptest.StartDovecot(t)
	server, b := d.Server(backup.IMAPTLS), newBench(t)
	want := held(t, filled(t, d))
	b.run(server, login("ada"))
	got, notes, err := b.restore(t.Context(), server, "bob", nil)
	if err != nil || got.Restored != 525 || len(notes) != 0 {
		t.Fatalf("restore = %+v, %v, %v; want 525 restored", got, notes, err)
	}
	bob := person(t, d, "bob")
	have := held(t, bob)
	if lost, more := differences(want, have), differences(have, want); len(lost)+len(more) > 0 {
		t.Errorf("%d differ, such as %s; %d are too many, such as %s", len(lost), slices.Concat(lost, []string{""})[0], len(more), slices.Concat(more, []string{""})[0])
	}
	// A second restore appends nothing, and what was deleted comes back alone.
	got, notes, err = b.restore(t.Context(), server, "bob", nil)
	if err != nil || got.Restored != 0 || got.Skipped != 525 || len(notes) != 0 || !maps.Equal(held(t, bob), have) {
		t.Errorf("second restore = %+v, %v, %v; want nothing appended", got, notes, err)
	}
	_, err = bob.Select("Work", nil).Wait()
	must(t, err)
	must(t, bob.Store(goimap.SeqSetNum(1, 106), &goimap.StoreFlags{Op: goimap.StoreFlagsAdd, Flags: []goimap.Flag{goimap.FlagDeleted}}, nil).Close())
	gone, err := bob.Expunge().Collect()
	must(t, err)
	if got, _, err = b.restore(t.Context(), server, "bob", nil); err != nil || len(gone) != 2 || got.Restored != 2 || !maps.Equal(held(t, bob), have) {
		t.Errorf("restore of %d deleted messages = %+v, %v", len(gone), got, err)
	}
	// Copies, where somebody asks for them; and a folder of its own, whose name
	// has the delimiter in it.
	got, _, err = b.restore(t.Context(), server, "bob", func(j *engine.RestoreJob) {
		j.Copies, j.Place, j.FolderName = true, backup.PlaceFolder, "From 3/2001 *"
	})
	if err != nil || got.Restored != 525 {
		t.Errorf("restore into a folder = %+v, %v", got, err)
	}
	found := 0
	for what := range held(t, bob) {
		if strings.HasPrefix(what, "From 3_2001 _/Work/Größe & Maß ") {
			found++
		}
	}
	if found != 104 && found != 105 {
		t.Errorf("%d messages in the folder of its own", found)
	}
}

func TestDovecotRestoreGoesOnAfterAnEnd(t *testing.T) {
	d := imaptest.StartDovecot(t)
	server, b := d.Server(backup.IMAPStartTLS), newBench(t)
	want := held(t, filled(t, d))
	b.run(server, login("ada"))
	ctx, cancel := context.WithCancel(t.Context())
	var calls atomic.Int64
	got, _, err := b.restore(ctx, server, "bob", func(j *engine.RestoreJob) {
		j.Target = &ending{Target: j.Target, after: 100, calls: &calls, cancel: cancel}
	})
	if !errors.Is(err, context.Canceled) || got.Restored == 0 || got.Restored > 110 {
		t.Fatalf("cancelled restore = %+v, %v", got, err)
	}
	if got, _, err = b.restore(t.Context(), server, "bob", nil); err != nil || got.Failed > 0 {
		t.Errorf("restore that goes on = %+v, %v", got, err)
	}
	if have := held(t, person(t, d, "bob")); !maps.Equal(have, want) {
		t.Errorf("after an end in the middle: lost %q, too many %q", differences(want, have), differences(have, want))
	}
}

// ending is a target whose restore is cancelled after some messages.
type ending struct {
	engine.Target
	after  int64
	calls  *atomic.Int64
	cancel func()
}

func (e *ending) Create(ctx context.Context, folder string, m engine.Restored) ([]string, error) {
	if e.calls.Add(1) == e.after {
		e.cancel()
	}
	return e.Target.Create(ctx, folder, m)
}

func TestDovecotFullMailbox(t *testing.T) {
	d := imaptest.StartDovecot(t, `
mail_plugins = zlib quota
protocol imap {
  mail_plugins = zlib imap_zlib quota imap_quota
}
plugin {
  quota = count:User quota
  quota_vsizes = yes
  quota_rule = *:storage=1M
  quota_grace = 0
}`)
	server, b, c := d.Server(backup.IMAPTLS), newBench(t), person(t, d, "ada")
	for n := range 8 {
		add(t, c, "INBOX", fmt.Appendf(letter(n), "%s\r\n", strings.Repeat("x", 100<<10)), nil)
	}
	b.run(server, login("ada"))
	add(t, person(t, d, "bob"), "INBOX", fmt.Appendf(letter(99), "%s\r\n", strings.Repeat("y", 500<<10)), nil)
	got, _, err := b.restore(t.Context(), server, "bob", nil)
	if !errors.Is(err, engine.ErrTargetClosed) || backup.KindOf(err) != backup.ProblemMailboxFull || backup.AsProblem(err).Temporary || got.Restored == 0 || got.Restored >= 8 {
		t.Errorf("restore to a full mailbox = %+v, %v", got, err)
	}
}

func TestDovecotTakesLargeMessages(t *testing.T) {
	d := imaptest.StartDovecot(t)
	c := person(t, d, "bob")
	line := strings.Repeat("z", 70) + "\n"
	text := "Subject: large\nMessage-ID: <large@example.org>\n\n" + strings.Repeat(line, 50_000)
	m := restored(text)
	target := imap.OpenTarget(d.Server(backup.IMAPTLS), login("bob"), imap.Options{})
	defer target.Close() //nolint:errcheck // it has none
	if _, err := target.Present(t.Context(), "INBOX"); err != nil {
		t.Fatal(err)
	}
	m.Categories, m.Draft, m.Read = []string{"Red category", "Work", `\Deleted`}, true, true
	notes, err := target.Create(t.Context(), "INBOX", m)
	if err != nil || len(notes) != 2 || !strings.Contains(strings.Join(notes, " "), "Red category") {
		t.Fatalf("Create = %q, %v", notes, err)
	}
	want := map[string]int{"INBOX/": 1, "Sent/": 1, fmt.Sprintf("INBOX %q 2020-01-02T03:04:05Z %s", []string{"Work", `\Draft`, `\Seen`}, imap.CRLF([]byte(text))): 1}
	if have := held(t, c); !maps.Equal(have, want) {
		t.Errorf("lost %q, too many %q", differences(want, have), differences(have, want))
	}
	// A message whose text can't be read to its end leaves nothing behind.
	m = restored(text)
	m.Open = broken(text[:2<<20])
	if _, err := target.Create(t.Context(), "INBOX", m); !errors.Is(err, errDisk) {
		t.Errorf("Create of a damaged message = %v", err)
	}
	present, err := target.Present(t.Context(), "INBOX")
	if err != nil || present(restored(text)) != engine.There || len(held(t, c)) != len(want) {
		t.Errorf("after that: %v, %d messages and folders", err, len(held(t, c)))
	}
}
