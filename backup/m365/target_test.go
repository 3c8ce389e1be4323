package m365_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/mail"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/m365"
	"holdfast/backup/m365/simulator"
)

// restoring is a tenant with a mailbox of n messages of the test mail, read by
// the Mail application, and another one, written by the Restore application.
type restoring struct {
	*world
	from   *m365.Mailbox
	to     *m365.Mailbox
	target *m365.Target
	l      listing
}

func newRestoring(t *testing.T, n int) *restoring {
	t.Helper()
	w := newWorld(t, func(o *simulator.Options) {
		o.Mail = os.DirFS("simulator/testdata/mail")
		for i := range o.World.Tenants {
			tenant := &o.World.Tenants[i]
			tenant.ReplicationDelay = 0
			for k := range tenant.People {
				if box := tenant.People[k].Mailbox; box != nil {
					box.Messages = 0
					if tenant.People[k].UPN == frank {
						box.Messages = n
					}
				}
			}
		}
	})
	w.onLoopback()
	const admin = "admin@fabrikamlegal.onmicrosoft.com"
	app, r := w.mailApp(admin), newRow(backup.WorkloadRestore)
	g := w.signIn("", admin, backup.SignInConsent)
	if err := w.ensure(t.Context(), g, r); err != nil {
		t.Fatal(err)
	}
	if life := r.app.NotAfter.Sub(r.app.UpdatedAt); life > backup.RestoreGrantLife+2*3600e9 {
		t.Errorf("the certificate of the restore application lives %v, want about a day", life)
	}
	v := &restoring{world: w, from: app.Mailbox(accountID(t, app, "frank@")), to: app.Mailbox(accountID(t, app, "admin@"))}
	v.target = w.client.App(g.TenantID, r.app).Target(accountID(t, app, "admin@"))
	v.l = read(t, v.from)
	return v
}

// message makes what the engine would hand over.
func (v *restoring) message(item engine.ItemState, sent bool) engine.Restored {
	m := engine.Restored{Key: "MAILBOX." + item.ID, Restore: "R1", ItemState: item, FromMe: sent, Bytes: 1}
	m.Open = func(ctx context.Context) io.ReadCloser {
		body, err := v.from.Content(ctx, item.ID)
		if err != nil {
			return io.NopCloser(failing{err})
		}
		return body
	}
	return m
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// raw is a message by its text.
func raw(subject, text string) engine.Restored {
	return engine.Restored{Key: "MAILBOX." + subject, Restore: "R1", ItemState: engine.ItemState{ID: subject, Subject: subject, Importance: "normal"}, Bytes: int64(len(text)),
		Open: func(context.Context) io.ReadCloser { return io.NopCloser(strings.NewReader(text)) }}
}

// TestEveryMessageIsRestored puts the test mail into another mailbox and compares
// what Graph can keep: subject, addresses, dates, states, attachments.
func TestEveryMessageIsRestored(t *testing.T) {
	if testing.Short() {
		t.Skip("restores 523 messages")
	}
	v := newRestoring(t, 523)
	ctx := t.Context()
	folder, err := v.target.Folder(ctx, "", "Restored 2026-11-29")
	if err != nil {
		t.Fatal(err)
	}
	notes := map[string][]string{}
	restore := func() (made, there int) {
		present, err := v.target.Present(ctx, folder)
		if err != nil {
			t.Fatal(err)
		}
		var g errgroup.Group
		g.SetLimit(4)
		for _, item := range v.l.items {
			m := v.message(item, false)
			if present(m) != engine.Absent {
				there++
				continue
			}
			made++
			told := make(chan []string, 1)
			g.Go(func() error {
				n, err := v.target.Create(ctx, folder, m)
				told <- n
				if err != nil {
					return fmt.Errorf("%q: %w", item.Subject, err)
				}
				return nil
			})
			if made%4 == 0 {
				if err := g.Wait(); err != nil {
					t.Fatal(err)
				}
			}
			select {
			case n := <-told:
				notes[m.Key] = n
			default:
			}
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		return made, there
	}
	if made, there := restore(); made != len(v.l.items) || there != 0 || made < 523 {
		t.Fatalf("first restore made %d and found %d, want all %d", made, there, len(v.l.items))
	}
	if made, there := restore(); made != 0 || there != len(v.l.items) {
		t.Errorf("second restore made %d and found %d, want none more", made, there)
	}
	got := map[string][]engine.ItemState{}
	for _, item := range read(t, v.to).items {
		if item.FolderID == folder {
			got[likeness(item)] = append(got[likeness(item)], item)
		}
	}
	files := 0
	for _, item := range v.l.items {
		key := likeness(item)
		if len(got[key]) == 0 {
			t.Errorf("not restored, or changed: %s", key)
			continue
		}
		other := got[key][0]
		got[key] = got[key][1:]
		files += v.compare(item, other)
	}
	t.Logf("%d attachments are the same byte for byte", files)
	if files < 50 {
		t.Errorf("%d attachments were compared, want more", files)
	}
}

// likeness is what lists show of a message.
func likeness(i engine.ItemState) string {
	var p struct {
		From, Sender *struct{ EmailAddress struct{ Address string } }
		Flag         struct{ FlagStatus string }
	}
	_ = json.Unmarshal(i.Properties, &p)
	if strings.HasSuffix(i.InternetMessageID, "@simulated.prod.outlook.com>") {
		i.InternetMessageID = "" // it had none, so Exchange gave it one
	}
	return fmt.Sprintf("%q from %q to %q received %v sent %v read %v draft %v flag %s %s %v id %s", i.Subject, i.From, i.To, i.Received, i.Sent, i.Read, i.Draft, p.Flag.FlagStatus, i.Importance, i.Categories, i.InternetMessageID)
}

// compare holds the attachments of a message against those of its copy; it
// returns how many there are. The standard library reads the one, so that our own
// reader can't be wrong about both.
func (v *restoring) compare(item, other engine.ItemState) int {
	v.t.Helper()
	want, err := content(v.t, v.from, item.ID)
	if err != nil {
		v.t.Fatal(err)
	}
	copied, err := content(v.t, v.to, other.ID)
	if err != nil {
		v.t.Fatal(err)
	}
	have := filesOf(copied)
	if slices.ContainsFunc(have, func(g []byte) bool { return bytes.Equal(want, g) }) {
		return 0 // it is not well formed, so all of it is attached
	}
	n := 0
	for _, f := range filesOf(want) {
		i := slices.IndexFunc(have, func(g []byte) bool { return bytes.Equal(f, g) })
		if i < 0 {
			v.t.Errorf("%q: an attachment of %d bytes is not in the copy", item.Subject, len(f))
			continue
		}
		have = slices.Delete(have, i, i+1)
		n++
	}
	return n
}

// filesOf are the attachments of a message in base64, as the standard library
// reads them; what it can't read is left out.
func filesOf(raw []byte) (files [][]byte) {
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return nil
	}
	var walk func(contentType string, body io.Reader)
	walk = func(contentType string, body io.Reader) {
		kind, params, err := mime.ParseMediaType(contentType)
		if err != nil || !strings.HasPrefix(kind, "multipart/") {
			return
		}
		parts := multipart.NewReader(body, params["boundary"])
		for {
			p, err := parts.NextRawPart()
			if err != nil {
				return
			}
			walk(p.Header.Get("Content-Type"), p)
			disposition, _, _ := mime.ParseMediaType(p.Header.Get("Content-Disposition"))
			if disposition != "attachment" || !strings.EqualFold(p.Header.Get("Content-Transfer-Encoding"), "base64") {
				continue
			}
			if data, ok := base64Bytes(p); ok {
				files = append(files, data)
			}
		}
	}
	walk(m.Header.Get("Content-Type"), m.Body)
	return files
}

func TestLargeAttachmentsAreUploaded(t *testing.T) {
	v := newRestoring(t, 0)
	ctx := t.Context()
	inbox, err := v.target.WellKnown(ctx, "inbox")
	if err != nil {
		t.Fatal(err)
	}
	large, middle, small := noise(5<<20+7), noise(2<<20), noise(1000)
	m := raw("large", letterWith(small, large, middle))
	v.fault(simulator.Fault{Host: "exchange", Path: "AttachmentSessions", Status: 429, RetryAfter: "1", Times: 1})
	if notes, err := v.target.Create(ctx, inbox, m); err != nil || len(notes) > 0 {
		t.Fatalf("create = %v, %v", notes, err)
	}
	for _, item := range read(t, v.to).items {
		if item.Subject != "large" {
			continue
		}
		got, err := content(t, v.to, item.ID)
		if err != nil {
			t.Fatal(err)
		}
		files := filesOf(got)
		for i, want := range [][]byte{small, large, middle} {
			if !slices.ContainsFunc(files, func(f []byte) bool { return bytes.Equal(f, want) }) {
				t.Errorf("attachment %d of %d bytes is not there", i+1, len(want))
			}
		}
		if item.Draft || !item.HasAttachments {
			t.Errorf("restored as %+v, want no draft and attachments", item)
		}
	}
	present, err := v.target.Present(ctx, inbox)
	if err != nil || present(m) != engine.Mine {
		t.Errorf("present = %v, %v, want it to be this restore's", present(m), err)
	}
	m.Restore = "R2"
	if present(m) != engine.There {
		t.Errorf("present for another restore = %v, want There", present(m))
	}
	for _, r := range v.sim.Requests() {
		if strings.Contains(r.Path, "AttachmentSessions") && r.AppID != "" {
			t.Errorf("a token was sent to the upload session: %+v", r)
		}
	}
}

// TestInterruptedUploadLeavesNothingHalf breaks an upload off as a killed process
// would: the message stays unfinished, and the next try makes it whole, once.
func TestInterruptedUploadLeavesNothingHalf(t *testing.T) {
	v := newRestoring(t, 0)
	inbox, err := v.target.WellKnown(t.Context(), "inbox")
	if err != nil {
		t.Fatal(err)
	}
	m := raw("large", letterWith(noise(9<<20)))
	v.fault(simulator.Fault{Host: "exchange", Path: "AttachmentSessions", Status: 500, Code: "ErrorInternalServerError", Skip: 1, Times: 1})
	v.fault(simulator.Fault{Host: "graph", Method: "DELETE", Path: "/messages/", Status: 500, Times: 1})
	if _, err := v.target.Create(t.Context(), inbox, m); err == nil {
		t.Fatal("a broken upload was no error")
	}
	present, err := v.target.Present(t.Context(), inbox)
	if err != nil || present(m) != engine.Unfinished {
		t.Fatalf("present = %v, %v, want Unfinished", present(m), err)
	}
	if _, err := v.target.Create(t.Context(), inbox, m); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, item := range read(t, v.to).items {
		if item.Subject == "large" {
			n++
		}
	}
	if n != 1 {
		t.Errorf("the message is there %d times, want once", n)
	}
	// Broken off, but with Microsoft at hand: nothing is left.
	m = raw("second", letterWith(noise(4<<20)))
	v.fault(simulator.Fault{Name: "upload_expired", Times: 1})
	if _, err := v.target.Create(t.Context(), inbox, m); backup.KindOf(err) != backup.ProblemItems || errors.Is(err, engine.ErrTargetClosed) {
		t.Errorf("an ended upload session = %v, want a problem of this message", err)
	}
	for _, item := range read(t, v.to).items {
		if item.Subject == "second" {
			t.Error("a message without its attachment was left")
		}
	}
}

func TestALostAnswerMakesNoSecondCopy(t *testing.T) {
	v := newRestoring(t, 0)
	inbox, err := v.target.WellKnown(t.Context(), "inbox")
	if err != nil {
		t.Fatal(err)
	}
	v.fault(simulator.Fault{Name: "create_no_answer", Times: 1})
	if _, err := v.target.Create(t.Context(), inbox, raw("once", "Subject: once\r\n\r\ntext")); err != nil {
		t.Fatal(err)
	}
	v.fault(simulator.Fault{Host: "graph", Method: "POST", Path: "/messages$", Status: 503, Times: 1})
	if _, err := v.target.Create(t.Context(), inbox, raw("twice", "Subject: twice\r\n\r\ntext")); err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for _, item := range read(t, v.to).items {
		found[item.Subject]++
	}
	if found["once"] != 1 || found["twice"] != 1 {
		t.Errorf("messages = %v, want each once", found)
	}
}

func TestWhatEndsARestoreAndWhatDoesNot(t *testing.T) {
	v := newRestoring(t, 0)
	inbox, err := v.target.WellKnown(t.Context(), "inbox")
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		fault  simulator.Fault
		kind   backup.ProblemKind
		closed bool
	}{
		{simulator.Fault{Status: 403, Code: "ErrorAccessDenied"}, backup.ProblemPermission, true},
		{simulator.Fault{Status: 507, Code: "ErrorQuotaExceeded"}, backup.ProblemMailboxFull, true},
		{simulator.Fault{Status: 403, Code: "ErrorQuotaExceeded"}, backup.ProblemMailboxFull, true},
		{simulator.Fault{Status: 404, Code: "MailboxNotEnabledForRESTAPI"}, backup.ProblemMailboxInactive, true},
		{simulator.Fault{Status: 429, RetryAfter: "3000"}, backup.ProblemThrottled, true},
		{simulator.Fault{Status: 413, NoBody: true}, backup.ProblemItems, false},
		{simulator.Fault{Status: 400, Code: "ErrorInvalidProperty"}, backup.ProblemItems, false},
	} {
		c.fault.Host, c.fault.Method, c.fault.Path, c.fault.Times = "graph", http.MethodPost, "/messages$", 1
		v.fault(c.fault)
		_, err := v.target.Create(t.Context(), inbox, raw(fmt.Sprint(i), "Subject: x\r\n\r\ntext"))
		if backup.KindOf(err) != c.kind || errors.Is(err, engine.ErrTargetClosed) != c.closed {
			t.Errorf("%d %s = %v (closed %v), want %s (closed %v)", c.fault.Status, c.fault.Code, err, errors.Is(err, engine.ErrTargetClosed), c.kind, c.closed)
		}
		if c.kind == backup.ProblemThrottled {
			return // the fence stands for all calls of the mailbox
		}
	}
}

func TestTheMailApplicationCannotWrite(t *testing.T) {
	v := newRestoring(t, 0)
	app := v.mailApp("admin@fabrikamlegal.onmicrosoft.com")
	target := app.Target(accountID(t, app, "admin@"))
	if _, err := target.Folder(t.Context(), "", "New"); backup.KindOf(err) != backup.ProblemPermission || !errors.Is(err, engine.ErrTargetClosed) {
		t.Errorf("a folder made with Mail.Read = %v, want a refusal", err)
	}
}

func TestFoldersAreFoundOrMadeOnce(t *testing.T) {
	v := newRestoring(t, 0)
	ctx := t.Context()
	id, err := v.target.Folder(ctx, "", "Projects/2026")
	if err != nil {
		t.Fatal(err)
	}
	v.fault(simulator.Fault{Host: "graph", Method: "POST", Path: "childFolders$", Reset: true, Times: 1})
	below, err := v.target.Folder(ctx, id, "Größe & Ärzte")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"Größe & Ärzte": below, "GRÖSSE & Ärzte": "", "größe & ärzte": below} {
		got, err := v.target.Folder(ctx, id, name)
		if err != nil || want != "" && got != want {
			t.Errorf("folder %q = %s, %v, want %s", name, got, err, want)
		}
	}
	if _, err := v.target.WellKnown(ctx, "clutter"); !errors.Is(err, engine.ErrNoSuchFolder) {
		t.Errorf("a well-known folder that is not there = %v, want ErrNoSuchFolder", err)
	}
}

func TestWhatCanNotBeKeptIsTold(t *testing.T) {
	v := newRestoring(t, 0)
	inbox, err := v.target.WellKnown(t.Context(), "inbox")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, text, want string }{
		{"attached message", "Subject: a\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ntext\r\n--b--\r\n", "message.eml"},
		{"not well formed", "Subject: a\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment\r\n\r\nA===A\r\n--b--\r\n", "not well formed"},
		{"no addresses", "Subject: a\r\nCc: <<<\r\n\r\ntext\r\n", "The line Cc"},
		{"refused address", "Subject: a\r\nReply-To: nobody <nobody>\r\nTo: a@example.org\r\n\r\ntext\r\n", "Reply-To"},
		{"long text", "Subject: a\r\n\r\n" + strings.Repeat("A line of a long text that goes on and on.\r\n", 60_000), "longer than Microsoft"},
	} {
		notes, err := v.target.Create(t.Context(), inbox, raw(c.name, c.text))
		if err != nil || !strings.Contains(strings.Join(notes, " "), c.want) {
			t.Errorf("%s: notes %q, %v, want %q", c.name, notes, err, c.want)
		}
	}
}
