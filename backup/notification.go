package backup

import (
	"net"
	"strings"
	"time"
)

// NotificationKind is what an e-mail is about.
type NotificationKind string

// The kinds, as product.md lists them.
const (
	NotifyRolePending       NotificationKind = "role_pending"       // the custom role is pending for three days
	NotifyBackupFailing     NotificationKind = "backup_failing"     // no successful backup for 24 hours
	NotifyConnectionProblem NotificationKind = "connection_problem" // credential or consent error
	NotifyPermissionDrift   NotificationKind = "permission_drift"   // the tenant grants more, or less, than was asked for
	NotifyMigrationDone     NotificationKind = "migration_done"     // from backup administrator to least privilege
	NotifyCredentialsExpire NotificationKind = "credentials_expire" // a certificate ends in 14 days and was not renewed
	NotifyActingAsked       NotificationKind = "acting_asked"       // the provider asks to act for the organization; to its admins only
	NotifyDamage            NotificationKind = "damage"             // a check of the repository found damage, or could not be done
	NotifyWeeklySummary     NotificationKind = "weekly_summary"     // how the week's backups went
)

// NotificationKinds lists all of them in the order in which pages show them.
var NotificationKinds = []NotificationKind{NotifyBackupFailing, NotifyConnectionProblem, NotifyRolePending, NotifyPermissionDrift,
	NotifyCredentialsExpire, NotifyMigrationDone, NotifyActingAsked, NotifyDamage, NotifyWeeklySummary}

// Notification is an event that people are told of by e-mail, once.
type Notification struct {
	ID        NotificationID
	PartnerID PartnerID
	OrgID     OrgID
	Kind      NotificationKind
	Key       string    // tells events of a kind apart; while one is open, the same is not another
	Subject   string    // what it concerns: a tenant, or how many mailboxes
	Text      string    // what happened and what to do
	Path      string    // page of the portal to open
	Since     time.Time // since when it is so
	At        time.Time // when it was noticed
	Tries     int
	NextTryAt time.Time // zero once it was sent to everybody
	Problem   string    // why the last try to send did not work
}

// MailTLS is how a connection to a mail server is protected.
type MailTLS string

// The ways.
const (
	MailSTARTTLS MailTLS = "starttls"
	MailImplicit MailTLS = "tls"
	MailPlain    MailTLS = "none" // for a server on this machine only
)

// MailSettings are how a partner's e-mail goes out.
type MailSettings struct {
	PartnerID PartnerID
	Host      string
	Port      int
	TLS       MailTLS
	User      string // "" for none
	Password  Secret
	From      string // address
	FromName  string
}

// Validate returns FieldErrors naming host, port, tls and from if they break a
// rule, or nil.
func (m MailSettings) Validate() error {
	fields := FieldErrors{}
	if m.Host == "" || strings.ContainsAny(m.Host, " \t\r\n/@") {
		fields["host"] = "Enter the name of your mail server, like smtp.example.org."
	}
	if m.Port < 1 || m.Port > 65535 {
		fields["port"] = "Enter the port: 587 for STARTTLS, 465 for TLS."
	}
	local := m.Host == "localhost" || net.ParseIP(m.Host).IsLoopback()
	switch {
	case m.TLS != MailSTARTTLS && m.TLS != MailImplicit && m.TLS != MailPlain:
		fields["tls"] = "Choose how the connection is protected."
	case m.TLS == MailPlain && !local:
		fields["tls"] = "Without encryption only a server on this machine can be used."
	}
	if !ValidEmail(m.From) {
		fields["from"] = "Enter the address that e-mail comes from."
	}
	if strings.ContainsAny(m.FromName, "\r\n") || len(m.FromName) > 100 {
		fields["from_name"] = "Enter a name of at most 100 characters."
	}
	return fields.OrNil()
}
