package imap

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	goimap "github.com/emersion/go-imap/v2"

	"holdfast/backup"
)

// answer is a status answer of a server: OK, NO, BAD, BYE or PREAUTH.
type answer struct {
	status string
	code   string // of the response, such as AUTHENTICATIONFAILED
	text   string
}

// parseAnswer reads a line that begins with tag.
func parseAnswer(line, tag string) answer {
	status, text, _ := strings.Cut(strings.TrimPrefix(line, tag+" "), " ")
	a := answer{status: strings.ToUpper(status), text: text}
	if strings.HasPrefix(text, "[") {
		if code, rest, ok := strings.Cut(text[1:], "]"); ok {
			name, _, _ := strings.Cut(code, " ")
			a.code, a.text = strings.ToUpper(name), strings.TrimSpace(rest)
		}
	}
	return a
}

// refusal is an answer that is not OK.
type refusal struct {
	during string // the command
	answer
}

// Error has the server's answer, which says nothing secret.
func (r *refusal) Error() string {
	code := ""
	if r.code != "" {
		code = "[" + r.code + "] "
	}
	return fmt.Sprintf("%s: %s %s%s", r.during, r.status, code, shorten(r.text))
}

func shorten(s string) string {
	if len(s) > 300 {
		s = s[:300] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// dialProblem is why there is no connection.
func dialProblem(server backup.IMAPServer, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	p := &backup.Problem{Kind: backup.ProblemUnavailable, Temporary: true, At: time.Now(), Err: err}
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		p.Text = fmt.Sprintf("There is no server named %s. Check the name under Account Settings, Credentials.", server.Host)
	case strings.Contains(err.Error(), "connection refused"):
		p.Text = fmt.Sprintf("%s takes no connections on port %d. Check the port, and that the IMAP service runs; Holdfast tries again by itself.", server.Host, server.Port)
	default:
		p.Text = fmt.Sprintf("%s does not answer on port %d. Check that the server is up and that no firewall is between; Holdfast tries again by itself.", server.Host, server.Port)
	}
	return p
}

// problem gives an error of the server the sentence that a person can act on.
// One that has it already, and the end of the context, stay as they are.
func problem(server backup.IMAPServer, err error) error {
	if err == nil || errors.Is(err, context.Canceled) || backup.KindOf(err) != "" {
		return err
	}
	var (
		inTLS   *tlsError
		noToken *tokenError
		refused *refusal
		coded   *goimap.Error
	)
	switch {
	case errors.As(err, &inTLS):
		return tlsProblem(server, inTLS)
	case errors.As(err, &noToken):
		return permanent(backup.ProblemPassword, err, "The token endpoint of %s gives no access token. Check client id, client secret and refresh token under Account Settings, Credentials.", server.Host)
	case errors.Is(err, errNoStartTLS):
		return permanent(backup.ProblemCertificate, err, "%s does not offer STARTTLS on port %d. Choose TLS, usually on port 993, or ask who runs the server to switch encryption on. Holdfast never sends passwords unencrypted.", server.Host, server.Port)
	case errors.Is(err, errNoPassword), errors.Is(err, errNoToken), errors.Is(err, errNoMaster):
		return permanent(backup.ProblemPassword, err, "%s does not offer this way to sign in: %s. Choose another under Account Settings, Credentials.", server.Host, err)
	case errors.As(err, &refused):
		return refusedProblem(server, refused.during, refused.answer, err)
	case errors.As(err, &coded):
		return refusedProblem(server, "command", answer{status: string(coded.Type), code: strings.ToUpper(string(coded.Code)), text: coded.Text}, err)
	}
	return &backup.Problem{Kind: backup.ProblemUnavailable, Temporary: true, At: time.Now(), Err: err,
		Text: fmt.Sprintf("The connection to %s broke, or its answer could not be understood. What was read so far is kept; Holdfast tries again by itself.", server.Host)}
}

func permanent(kind backup.ProblemKind, err error, format string, args ...any) error {
	return &backup.Problem{Kind: kind, At: time.Now(), Err: err, Text: fmt.Sprintf(format, args...)}
}

// tlsProblem says why the server's certificate is not believed.
func tlsProblem(server backup.IMAPServer, err *tlsError) error {
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &unknown):
		return permanent(backup.ProblemCertificate, err, "The certificate of %s is signed by an authority that this machine does not know. Give Holdfast the authority's certificate, or the server's own, in the connection's settings.", server.Host)
	case errors.As(err, &name):
		return permanent(backup.ProblemCertificate, err, "The certificate of the server is for another name than %s. Enter the name that the certificate has, or have the server use one for this name.", server.Host)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return permanent(backup.ProblemCertificate, err, "The certificate of %s has expired, or is not valid yet. Ask who runs the server to renew it.", server.Host)
	case errors.As(err, &invalid):
		return permanent(backup.ProblemCertificate, err, "The certificate of %s can't be used for a server. Ask who runs the server for a proper one.", server.Host)
	case strings.Contains(err.Error(), "first record does not look like a TLS handshake"):
		return permanent(backup.ProblemCertificate, err, "%s does not speak TLS on port %d from the start. Choose STARTTLS, or another port, usually 993.", server.Host, server.Port)
	}
	return &backup.Problem{Kind: backup.ProblemUnavailable, Temporary: true, At: time.Now(), Err: err,
		Text: fmt.Sprintf("No encrypted connection to %s came about. Check port and encryption; Holdfast tries again by itself.", server.Host)}
}

// backOff is how Exchange Online says how long to wait.
var backOff = regexp.MustCompile(`(?i)backoff time: (\d+) milliseconds`)

// refusedProblem reads what the server refused, by its code (RFC 5530) first.
func refusedProblem(server backup.IMAPServer, during string, a answer, err error) error {
	p := &backup.Problem{Kind: backup.ProblemUnavailable, Code: a.code, Temporary: true, At: time.Now(), Err: err}
	text := strings.ToLower(a.text)
	signIn := during == "sign-in"
	switch {
	case a.code == "LIMIT" || strings.Contains(text, "too many") || strings.Contains(text, "maximum number of connections"):
		p.Kind, p.Text = backup.ProblemThrottled, fmt.Sprintf("%s allows no more connections to this mailbox right now. Other programs may hold them; Holdfast tries again by itself.", server.Host)
	case strings.Contains(text, "throttled"):
		p.Kind, p.Text = backup.ProblemThrottled, fmt.Sprintf("%s asks to wait before reading on. Holdfast goes on by itself.", server.Host)
		if m := backOff.FindStringSubmatch(a.text); m != nil {
			if ms, err := strconv.Atoi(m[1]); err == nil {
				p.RetryAfter = min(time.Duration(ms)*time.Millisecond, 24*time.Hour)
			}
		}
	case a.code == "UNAVAILABLE" || a.code == "SERVERBUG" || a.code == "INUSE" || a.status == "BYE":
		p.Text = fmt.Sprintf("%s can't serve this mailbox right now (it says: %s). Holdfast tries again by itself.", server.Host, quote(a.text))
	case signIn && (a.code == "AUTHORIZATIONFAILED" || a.code == "CONTACTADMIN"):
		p.Kind, p.Temporary = backup.ProblemPassword, false
		p.Text = fmt.Sprintf("%s does not let this user open the mailbox (it says: %s). Ask who runs the server.", server.Host, quote(a.text))
	case signIn && a.code == "EXPIRED":
		p.Kind, p.Temporary, p.Text = backup.ProblemPassword, false, fmt.Sprintf("The password has expired at %s. Set a new one there, and enter it under Account Settings, Credentials.", server.Host)
	case signIn:
		p.Kind, p.Temporary = backup.ProblemPassword, false
		p.Text = fmt.Sprintf("%s refuses user name or password. Enter the right ones under Account Settings, Credentials.", server.Host)
	case a.code == "OVERQUOTA":
		p.Kind, p.Temporary, p.Text = backup.ProblemItems, false, "The mailbox is full. Free some space in it, or have its quota raised."
	case a.code == "NOPERM":
		p.Kind, p.Temporary, p.Text = backup.ProblemPermission, false, "The server does not allow this user to do that in the folder. Ask who runs the server for the right to it."
	default:
		p.Text = fmt.Sprintf("%s refused a command (it says: %s). Holdfast tries again by itself.", server.Host, quote(a.text))
	}
	return p
}

// quote makes a server's text fit for a sentence.
func quote(s string) string {
	s = shorten(strings.TrimSpace(s))
	if s == "" {
		return "nothing"
	}
	return "“" + strings.TrimRight(s, ".") + "”"
}
