// Package outmail sends e-mail by SMTP and says in words what kept it from
// being sent.
package outmail

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	_ "embed" // the look of a message
	"errors"
	"fmt"
	"html/template"
	"net"
	"strings"
	"time"

	"github.com/wneessen/go-mail"

	"holdfast/backup"
)

// Message is an e-mail to one person.
type Message struct {
	To       string // address
	ToName   string
	Subject  string
	Greeting string
	Lines    []string // paragraphs
	Button   string   // words on the link, "" for none
	Link     string
	Footer   string
	ID       string // the same for a message that is sent again
}

//go:embed message.html.tmpl
var htmlText string

var htmlTemplate = template.Must(template.New("message").Parse(htmlText))

// timeout bounds the talk with a mail server.
const timeout = 20 * time.Second

// Sender sends through one mail server.
type Sender struct {
	Settings backup.MailSettings
	// Roots are the certificates that are trusted; nil for the system's.
	Roots *x509.CertPool
}

// Send sends messages over one connection. Delivered says how many went out
// before an error, which is a *backup.Problem in words to act on.
func (s Sender) Send(ctx context.Context, messages ...Message) (delivered int, err error) {
	client, err := s.client()
	if err != nil {
		return 0, s.problem(err)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := client.DialWithContext(ctx); err != nil {
		return 0, s.problem(err)
	}
	defer client.Close()
	for i, m := range messages {
		msg, err := s.build(m)
		if err != nil {
			return i, s.problem(err)
		}
		if err := client.Send(msg); err != nil {
			return i, s.problem(err)
		}
	}
	return len(messages), nil
}

func (s Sender) client() (*mail.Client, error) {
	options := []mail.Option{mail.WithPort(s.Settings.Port), mail.WithTimeout(timeout),
		mail.WithTLSConfig(&tls.Config{ServerName: s.Settings.Host, RootCAs: s.Roots, MinVersion: tls.VersionTLS12})}
	switch s.Settings.TLS {
	case backup.MailImplicit:
		options = append(options, mail.WithSSL())
	case backup.MailPlain:
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
	default:
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	}
	if s.Settings.User != "" {
		auth := mail.SMTPAuthAutoDiscover
		if s.Settings.TLS == backup.MailPlain {
			auth = mail.SMTPAuthPlainNoEnc
		}
		options = append(options, mail.WithSMTPAuth(auth), mail.WithUsername(s.Settings.User), mail.WithPassword(s.Settings.Password.Reveal()))
	}
	return mail.NewClient(s.Settings.Host, options...)
}

func (s Sender) build(m Message) (*mail.Msg, error) {
	msg := mail.NewMsg()
	if err := msg.FromFormat(oneLine(s.Settings.FromName), s.Settings.From); err != nil {
		return nil, fmt.Errorf("sender: %w", err)
	}
	if err := msg.AddToFormat(oneLine(m.ToName), m.To); err != nil {
		return nil, fmt.Errorf("recipient: %w", err)
	}
	msg.Subject(oneLine(m.Subject))
	msg.SetDate()
	if _, domain, ok := strings.Cut(s.Settings.From, "@"); ok && m.ID != "" {
		msg.SetMessageIDWithValue(m.ID + "@" + domain)
	}
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	var text strings.Builder
	for _, p := range append([]string{m.Greeting}, m.Lines...) {
		text.WriteString(p + "\n\n")
	}
	if m.Link != "" {
		text.WriteString(m.Button + ": " + m.Link + "\n\n")
	}
	text.WriteString("-- \n" + m.Footer + "\n")
	msg.SetBodyString(mail.TypeTextPlain, text.String())
	var body bytes.Buffer
	if err := htmlTemplate.Execute(&body, m); err != nil {
		return nil, fmt.Errorf("write the message: %w", err)
	}
	msg.AddAlternativeString(mail.TypeTextHTML, body.String())
	return msg, nil
}

// oneLine keeps names from becoming more headers.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }), " ")
}

// problem says in words what kept a message from being sent.
func (s Sender) problem(err error) error {
	p := &backup.Problem{Kind: backup.ProblemUnknown, At: time.Now(), Err: err, Temporary: true,
		Text: "The mail server " + s.Settings.Host + " did not take the message. The log has its answer."}
	var dns *net.DNSError
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var refused *mail.SendError
	var op *net.OpError
	text := err.Error()
	switch {
	case errors.As(err, &dns):
		p.Text = "There is no mail server of the name " + s.Settings.Host + ". Check the name."
	case errors.As(err, &authority), errors.As(err, &name), errors.As(err, &invalid):
		p.Text = "The certificate of " + s.Settings.Host + " is not trusted, is for another name, or has ended. Have the server's certificate put in order."
	case strings.Contains(text, "STARTTLS") || strings.Contains(text, "TLS handshake") || strings.Contains(text, "first record does not look like"):
		p.Text = "The connection to " + s.Settings.Host + " could not be encrypted this way. STARTTLS mostly belongs to port 587, TLS to port 465."
	case strings.Contains(text, "535") || strings.Contains(strings.ToLower(text), "auth"):
		p.Text = "The mail server refused the user name or the password."
	case errors.As(err, &refused) && (refused.Reason == mail.ErrSMTPMailFrom):
		p.Text = "The mail server does not let " + s.Settings.From + " send. Choose an address that the account may use."
	case errors.As(err, &refused) && (refused.Reason == mail.ErrSMTPRcptTo):
		p.Text, p.Temporary = "The mail server refused the recipient's address.", refused.IsTemp()
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		p.Text = "The mail server " + s.Settings.Host + " did not answer in time. Check name and port, and whether a firewall is in between."
	case errors.As(err, &op) && op.Op == "dial":
		p.Text = fmt.Sprintf("Nothing answers at %s, port %d. Check name and port.", s.Settings.Host, s.Settings.Port)
	}
	return p
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}
