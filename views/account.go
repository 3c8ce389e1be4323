package views

import (
	"strings"
	"time"

	"holdfast/backup"
)

// Factor is the question for the second factor.
type Factor struct {
	Factors  backup.Factors
	Passkeys bool // the browser can be asked for a passkey
	Wrong    string
}

// Confirm asks somebody to prove anew who they are.
type Confirm struct {
	ID        string // of what waits
	What      string // that waits, in words
	Back      string // page without it
	Password  bool   // the ways that the person has
	App       bool
	Passkey   bool
	Providers []backup.SignInProvider
	Fields    backup.FieldErrors
}

// Account is a person's own account.
type Account struct {
	Factors      backup.Factors
	Sessions     []backup.Session
	Providers    []backup.SignInProvider // that the person may connect
	Identities   []backup.Identity       // that are connected
	Missing      bool                    // a second factor has to be set up first
	PasskeysWork bool                    // at the portal's address
	Codes        []string                // recovery codes, shown once
	Form         string                  // the form that came back: password, passkey
	PasskeyName  string
	Fields       backup.FieldErrors
	Now          time.Time
}

// wrong returns what a form has to say about a field.
func (v Account) wrong(form, field string) string {
	if v.Form != form {
		return ""
	}
	return v.Fields[field]
}

// identity is what the person is at an issuer, nil if it is not connected.
func (v Account) identity(p backup.SignInProvider) *backup.Identity {
	for _, i := range v.Identities {
		if i.ProviderID == p.ID {
			return &i
		}
	}
	return nil
}

// App is an authenticator app that is being set up.
type App struct {
	QR     string // data: address of the picture
	Secret string
	Wrong  string
}

// grouped writes a secret in groups of four.
func grouped(secret string) string {
	var groups []string
	for len(secret) > 4 {
		groups, secret = append(groups, secret[:4]), secret[4:]
	}
	return strings.Join(append(groups, secret), " ")
}

// device names a browser by what it says of itself.
func device(agent string) string {
	browser, system := "A browser", ""
	for _, b := range []struct{ mark, name string }{{"Edg/", "Edge"}, {"OPR/", "Opera"}, {"Firefox/", "Firefox"}, {"Chrome/", "Chrome"}, {"Safari/", "Safari"}} {
		if strings.Contains(agent, b.mark) {
			browser = b.name
			break
		}
	}
	for _, o := range []struct{ mark, name string }{{"Windows", "Windows"}, {"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Android", "Android"}, {"Mac OS X", "macOS"}, {"Linux", "Linux"}} {
		if strings.Contains(agent, o.mark) {
			system = " on " + o.name
			break
		}
	}
	return browser + system
}
