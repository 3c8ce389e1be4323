package views

import (
	"strconv"
	"time"

	"holdfast/backup"
)

// IMAPServer is the form of an IMAP server and its accounts.
type IMAPServer struct {
	Connection backup.Connection // its ID is "" for a new one
	Server     backup.IMAPServer
	Port       string // as it was typed
	List       string // of accounts, as it was typed
	Wrong      []backup.LineError
	Drafts     []backup.Connection // servers that were entered, and no account of theirs chosen
	Fields     backup.FieldErrors
}

// isNew says whether the server is being added.
func (v IMAPServer) isNew() bool { return v.Connection.ID == "" }

// path is where the form is sent to.
func (v IMAPServer) path() string {
	if v.isNew() {
		return "/add-backup/imap"
	}
	return imapPath(v.Connection) + "/server"
}

// typed is a secret of the form as it was typed; one that is kept is never shown.
func (v IMAPServer) typed(secret backup.Secret) string {
	if v.isNew() {
		return secret.Reveal()
	}
	return ""
}

// moreCertificates says whether the field for certificates is open.
func (v IMAPServer) moreCertificates() bool {
	return v.Server.Certificates != "" || v.Fields["certificates"] != ""
}

func imapPath(c backup.Connection) string { return "/imap/" + string(c.ID) }

// IMAPAccounts are the accounts of a server.
type IMAPAccounts struct {
	Connection backup.Connection
	Server     backup.IMAPServer
	Accounts   []backup.IMAPAccount
	Selected   map[backup.MailboxID]bool
	Fields     backup.FieldErrors
	Now        time.Time
}

// testing says whether accounts wait for their test.
func (v IMAPAccounts) testing() bool { return v.tested() < len(v.Accounts) }

func (v IMAPAccounts) tested() int {
	n := 0
	for _, a := range v.Accounts {
		if !a.TestedAt.IsZero() {
			n++
		}
	}
	return n
}

// failed counts the accounts that can't be opened.
func (v IMAPAccounts) failed() int {
	n := 0
	for _, a := range v.Accounts {
		if !a.Problem.IsZero() {
			n++
		}
	}
	return n
}

// others are the accounts that are not backed up.
func (v IMAPAccounts) others() int {
	n := 0
	for _, a := range v.Accounts {
		if !a.Selected {
			n++
		}
	}
	return n
}

// checked says whether an account is selected at first: what works is.
func (v IMAPAccounts) checked(a backup.IMAPAccount) bool {
	if len(v.Fields) > 0 {
		return v.Selected[a.MailboxID]
	}
	return a.Problem.IsZero() && !a.TestedAt.IsZero()
}

// summary says how the tests stand.
func (v IMAPAccounts) summary() string {
	switch failed := v.failed(); {
	case v.testing():
		return "Signing in: " + strconv.Itoa(v.tested()) + " of " + plural(len(v.Accounts), "account", "accounts") + " tested"
	case failed > 0:
		return plural(failed, "account", "accounts") + " of " + strconv.Itoa(len(v.Accounts)) + " can't be opened"
	}
	return plural(len(v.Accounts), "account", "accounts") + " can be opened"
}

// IMAPAccount is the form of one account.
type IMAPAccount struct {
	Connection backup.Connection
	Server     backup.IMAPServer
	Account    backup.IMAPAccount
	Fields     backup.FieldErrors
}

func imapSignInName(s backup.IMAPSignIn) string {
	switch s {
	case backup.IMAPMaster:
		return "Master user"
	case backup.IMAPOAuth:
		return "Access tokens (OAuth 2.0)"
	}
	return "User name and password of each account"
}

func imapSecurityName(s backup.IMAPSecurity) string {
	if s == backup.IMAPStartTLS {
		return "STARTTLS"
	}
	return "TLS"
}
