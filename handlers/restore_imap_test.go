package handlers_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"holdfast/backup"
	"holdfast/backup/imap/imaptest"
)

// mailProgram is somebody's own program in an account of a Dovecot server.
func mailProgram(t *testing.T, d *imaptest.Dovecot, user string) *imapclient.Client {
	t.Helper()
	c, err := imapclient.DialTLS(net.JoinHostPort("localhost", strconv.Itoa(d.TLSPort)), &imapclient.Options{TLSConfig: &tls.Config{RootCAs: d.Roots, MinVersion: tls.VersionTLS12}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.Login(user, imaptest.Password).Wait(); err != nil {
		t.Fatal(err)
	}
	return c
}

// letters is how many messages a folder has, and how many of them are unread.
func letters(t *testing.T, c *imapclient.Client, folder string) string {
	t.Helper()
	s, err := c.Status(folder, &goimap.StatusOptions{NumMessages: true, NumUnseen: true}).Wait()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d, %d unread", *s.NumMessages, *s.NumUnseen)
}

func TestRestoreToIMAPNeedsNoPermission(t *testing.T) {
	d := imaptest.StartDovecot(t)
	const ada, bob = "ada@contoso.example", "bob@contoso.example"
	c := mailProgram(t, d, ada)
	for n := range 12 {
		text := fmt.Sprintf("From: a@x.example\r\nSubject: Letter %d\r\nMessage-ID: <%d@x.example>\r\n\r\ntext\r\n", n, n)
		o := &goimap.AppendOptions{Time: time.Now()}
		if n%3 == 0 {
			o.Flags = []goimap.Flag{goimap.FlagSeen}
		}
		cmd := c.Append("INBOX", int64(len(text)), o)
		_, _ = cmd.Write([]byte(text))
		_ = cmd.Close()
		if _, err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	o := newOffice(t)
	server := d.Server(backup.IMAPTLS)
	v := o.signIn(adminMail).get("/add-backup/imap")
	v.press("Test connection", "host", server.Host, "port", strconv.Itoa(server.Port), "security", "tls", "sign_in", "password", "certificates", server.Certificates,
		"accounts", ada+","+imaptest.Password+"\n"+bob+","+imaptest.Password)
	v.until(v.at.Path, func() bool { return v.doc.Find("input[name=account]").Length() == 2 })
	v.press("Back up the selected accounts")
	v.until("/dashboard", func() bool { return v.statuses("Protected")+v.statuses("Empty") == 2 })

	// To another mailbox.
	v.restore(o.account(ada), "target", bob).says("Restore?").says("the account's own credentials").says("another mailbox than the one")
	if text := v.text(); strings.Contains(text, "An administrator of the tenant") || strings.Contains(text, "Microsoft") {
		t.Errorf("an IMAP restore speaks of Microsoft: %s", text)
	}
	v.press("Restore").restoreIs("Done").says("12 restored")
	theirs := mailProgram(t, d, bob)
	if got := letters(t, theirs, "INBOX"); got != "12, 8 unread" {
		t.Errorf("after the restore: %s", got)
	}
	// Once more: nothing is appended.
	v.restore(o.account(ada), "target", bob).press("Restore").restoreIs("Done").says("12 there already")
	v.get("/restores").says("0 12 there already")
	if got := letters(t, theirs, "INBOX"); got != "12, 8 unread" {
		t.Errorf("after the second restore: %s", got)
	}
	// Into a folder of its own of the same mailbox, whose address the form has already.
	v.restore(o.account(ada), "place", string(backup.PlaceFolder), "name", "As it was").press("Restore").restoreIs("Done").says("12 restored")
	if got := letters(t, c, "As it was/INBOX"); got != "12, 8 unread" {
		t.Errorf("in a folder of its own: %s", got)
	}
	v.get("/settings/permissions").says("but for a restore")
	if grants, err := o.store.RestoreGrants(t.Context()); err != nil || len(grants) != 0 {
		t.Errorf("%d restore permissions, %v; want none", len(grants), err)
	}
	if w := o.signIn(otherMail).get("/browse/" + string(o.account(ada).ID) + "/restore?at=1"); w.status != http.StatusNotFound {
		t.Errorf("the form of another organization = %d, want 404", w.status)
	}
}
