package outmail_test

import (
	"crypto/x509"
	"strings"
	"testing"

	"holdfast/backup"
	"holdfast/backup/outmail"
	"holdfast/backup/outmail/outmailtest"
)

var message = outmail.Message{To: "ada@contoso.example", ToName: "Ada\r\nBcc: everybody@example.org", Subject: "Backup\r\nX-Evil: 1", Greeting: "Hello Ada,",
	Lines: []string{"One <b>mailbox</b> fails."}, Button: "Open Holdfast", Link: "https://backup.example.org/status", Footer: "You look after it.", ID: "event.person"}

func TestSendsTextAndHTMLOverTLS(t *testing.T) {
	for _, mode := range []backup.MailTLS{backup.MailSTARTTLS, backup.MailImplicit} {
		t.Run(string(mode), func(t *testing.T) {
			server := outmailtest.Start(t, mode)
			n, err := outmail.Sender{Settings: server.Settings(mode), Roots: server.Roots}.Send(t.Context(), message, message)
			if err != nil || n != 2 {
				t.Fatalf("sent %d, %v", n, err)
			}
			got := server.Messages(t, 2)[0]
			if !got.TLS || !got.Authenticated || got.To[0] != "ada@contoso.example" || len(got.To) != 1 {
				t.Errorf("message = %+v", got)
			}
			head, _, _ := strings.Cut(got.Data, "\r\n\r\n")
			for _, line := range strings.Split(head, "\r\n") {
				if strings.HasPrefix(line, "Bcc:") || strings.HasPrefix(line, "X-Evil:") {
					t.Errorf("a name became a header: %s", line)
				}
			}
			for _, want := range []string{"Message-ID: <event.person@northwind.example>", "multipart/alternative", "text/plain", "text/html", "https://backup.example.org/status", "Auto-Submitted: auto-generated"} {
				if !strings.Contains(got.Data, want) {
					t.Errorf("the message lacks %s", want)
				}
			}
			if !strings.Contains(strings.ReplaceAll(got.Data, "=\r\n", ""), "One &lt;b&gt;mailbox") {
				t.Error("the HTML part does not escape what people wrote")
			}
		})
	}
}

func TestWhatKeepsMailFromBeingSentIsSaid(t *testing.T) {
	server := outmailtest.Start(t, backup.MailSTARTTLS)
	good := server.Settings(backup.MailSTARTTLS)
	change := func(f func(*backup.MailSettings)) backup.MailSettings {
		s := good
		f(&s)
		return s
	}
	to := func(address string) outmail.Message {
		m := message
		m.To = address
		return m
	}
	for name, c := range map[string]struct {
		settings backup.MailSettings
		roots    *x509.CertPool
		message  outmail.Message
		says     string
	}{
		"no such host":     {change(func(s *backup.MailSettings) { s.Host = "mail.invalid" }), server.Roots, message, "no mail server of the name"},
		"nothing there":    {change(func(s *backup.MailSettings) { s.Port = 1 }), server.Roots, message, "Nothing answers"},
		"not trusted":      {good, x509.NewCertPool(), message, "not trusted"},
		"wrong protection": {change(func(s *backup.MailSettings) { s.TLS = backup.MailImplicit }), server.Roots, message, "could not be encrypted this way"},
		"wrong password":   {change(func(s *backup.MailSettings) { s.Password = backup.Secret("wrong") }), server.Roots, message, "refused the user name or the password"},
		"sender refused":   {change(func(s *backup.MailSettings) { s.From = "forbidden@northwind.example" }), server.Roots, message, "does not let forbidden@northwind.example send"},
		"recipient":        {good, server.Roots, to("nobody@contoso.example"), "refused the recipient"},
		"later":            {good, server.Roots, to("later@contoso.example"), "refused the recipient"},
	} {
		_, err := outmail.Sender{Settings: c.settings, Roots: c.roots}.Send(t.Context(), c.message)
		p := backup.AsProblem(err)
		if p == nil || !strings.Contains(p.Text, c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
			continue
		}
		if temporary := name != "recipient"; p.Temporary != temporary {
			t.Errorf("%s: temporary is %v", name, p.Temporary)
		}
	}
	server.Stop()
	if _, err := (outmail.Sender{Settings: good, Roots: server.Roots}).Send(t.Context(), message); err == nil {
		t.Error("a server that is gone took a message")
	}
}
