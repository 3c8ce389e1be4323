package backup

import (
	"crypto/sha1" //nolint:gosec // thumbprints as Microsoft shows them
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// Provider names where mail lives.
type Provider string

// The providers.
const (
	ProviderMicrosoft365 Provider = "microsoft365"
	ProviderGoogle       Provider = "google"
	ProviderIMAP         Provider = "imap"
)

// Method is how a Microsoft 365 connection is authorized.
type Method string

// The methods.
const (
	MethodServicePrincipal    Method = "service_principal"    // least privilege, recommended
	MethodBackupAdministrator Method = "backup_administrator" // legacy: a Global Administrator account
)

// Connection is an organization's tie to one provider.
type Connection struct {
	ID           ConnectionID
	OrgID        OrgID
	Provider     Provider
	Method       Method
	TenantID     string // Microsoft's directory id, a lower-case GUID; unique over all organizations. Of an IMAP server the connection's own
	TenantName   string // display name of the tenant; the name of an IMAP server
	TenantDomain string // initial domain, like contoso.onmicrosoft.com; the name of an IMAP server
	Workloads    []Workload
	Problem      Problem // what keeps the whole connection from working, zero if nothing
	CreatedAt    time.Time
	ReadyAt      time.Time // when the wizard was completed, zero before
	ListedAt     time.Time // when the accounts were last listed, zero if never
	// Administrator is the backup administrator in the tenant. After a
	// migration it stays known until it is deleted there.
	Administrator Administrator
	// RevertedAt is when the connection was sent back to the backup
	// administrator, who has not authorized again since; zero if that is not so.
	RevertedAt time.Time
}

// Administrator is the account of the legacy method, and the permissions of the
// main application that go with it.
type Administrator struct {
	ID       string // object id, "" before it was made
	UPN      string // chosen before it is made, "" if there is none
	Password Secret // sealed; erased once it was shown
	Unshown  bool   // the password waits to be shown
}

// IsZero says whether there is no backup administrator.
func (a Administrator) IsZero() bool { return a.UPN == "" }

// ByMainApplication says whether the main application reads the connection's
// tenant, rather than the sub-applications. A connection that was sent back to
// the backup administrator goes on with its sub-applications until there is one.
func (c Connection) ByMainApplication() bool {
	return c.Method == MethodBackupAdministrator && c.RevertedAt.IsZero()
}

// Legacy says whether the connection works by the legacy method, so that it
// can be migrated.
func (c Connection) Legacy() bool {
	return c.Method == MethodBackupAdministrator && !c.ReadyAt.IsZero()
}

// AdministratorMarker is what tells the connection's backup administrator from
// another account of that name in the tenant.
func (c Connection) AdministratorMarker() string { return "holdfast:" + string(c.ID) }

// ApplicationState says how far a sub-application is made.
type ApplicationState string

// The states, in the order in which a sub-application goes through them. What
// was done in the tenant is saved before the next call.
const (
	ApplicationPlanned   ApplicationState = "planned"   // nothing exists in the tenant yet
	ApplicationCreated   ApplicationState = "created"   // the application exists (ObjectID, AppID)
	ApplicationPrincipal ApplicationState = "principal" // its service principal exists (PrincipalID)
	ApplicationGranted   ApplicationState = "granted"   // every permission is granted
	ApplicationReady     ApplicationState = "ready"     // a token with every permission was issued
	ApplicationRemoved   ApplicationState = "removed"   // deleted in the tenant
	ApplicationBroken    ApplicationState = "broken"    // to be repaired: what the tenant has of it is looked at first
)

// SubApplication is one of Holdfast's applications in the customer's tenant.
type SubApplication struct {
	ID           SubApplicationID
	OrgID        OrgID
	ConnectionID ConnectionID
	Workload     Workload
	DisplayName  string // what the tenant's administrators see
	State        ApplicationState
	ObjectID     string    // of the application registration
	AppID        string    // client id
	PrincipalID  string    // object id of the service principal (Enterprise application)
	Certificate  []byte    // DER, public
	PrivateKey   Secret    // PKCS #8 DER; sealed in the store
	NotAfter     time.Time // end of the certificate
	KeyID        string    // Microsoft's id of the certificate, "" if it never told
	// Next is the certificate that takes over; it exists while that is under way.
	Next      Credential
	OldKeyID  string    // Microsoft's id of the certificate before, until it is removed there
	RollAt    time.Time // when changing the certificate goes on after a failure or a pause, zero if it may at once
	RollError Problem   // why it failed last

	Generation int64   // counts the applications that this row has had in the tenant
	Problem    Problem // why the last step failed or what is broken, zero if nothing
	UpdatedAt  time.Time
}

// Credential is a certificate with its key, as a SubApplication has it.
type Credential struct {
	Certificate []byte // DER, public
	PrivateKey  Secret // PKCS #8 DER
	NotAfter    time.Time
	KeyID       string // Microsoft's id, "" before it told
}

// Marker is the tag by which the application is found again in the tenant
// after an answer was lost. It is unique to this row, and to this application
// of it: a deleted one, which the tenant keeps for a while, has another.
func (a SubApplication) Marker() string {
	if a.Generation == 0 {
		return "holdfast:" + string(a.ID)
	}
	return fmt.Sprintf("holdfast:%s:%d", a.ID, a.Generation)
}

// When certificates change by themselves, and when the people are told that it
// does not work.
const (
	rollBefore    = 30 * 24 * time.Hour
	ExpiryWarning = 14 * 24 * time.Hour
)

// RollDue says whether the certificate has to be changed for a new one: 30 days
// before its end, or in the last third of the life of one that is short, or
// because a change is under way or was not tidied up.
func (a SubApplication) RollDue(now time.Time) bool {
	if a.State != ApplicationReady || a.NotAfter.IsZero() || len(a.PrivateKey) == 0 {
		return false
	}
	if now.Before(a.RollAt) || a.Workload == WorkloadRestore { // its certificate ends with the restore permission
		return false
	}
	return len(a.Next.PrivateKey) > 0 || a.OldKeyID != "" || !now.Before(a.rollFrom())
}

// ExpiresSoon says whether the certificate is about to end although Holdfast has
// tried to change it: then an administrator has to.
func (a SubApplication) ExpiresSoon(now time.Time) bool {
	return !a.RollError.IsZero() && !a.NotAfter.IsZero() && a.NotAfter.Sub(now) < ExpiryWarning && len(a.PrivateKey) > 0
}

// Trouble is what a person has to see to about the application, as a Problem
// that a repair solves; the zero value if there is nothing.
func (a SubApplication) Trouble(now time.Time) Problem {
	switch {
	case a.Workload == WorkloadRestore:
		return Problem{} // it is made anew for the next restore
	case !a.Problem.IsZero():
		return a.Problem
	case a.State != ApplicationReady:
		return Problem{Kind: ProblemApplicationGone, Text: "A repair of this application was started and not finished."}
	case a.ExpiresSoon(now):
		p := a.RollError
		p.Kind = ProblemCredential
		p.Text = "The certificate ends on " + a.NotAfter.UTC().Format("2 January 2006") + " and could not be renewed by itself. " + p.Text
		return p
	}
	return Problem{}
}

// rollFrom is when the certificate is due to change.
func (a SubApplication) rollFrom() time.Time {
	before := rollBefore
	if c, err := x509.ParseCertificate(a.Certificate); err == nil {
		before = min(before, c.NotAfter.Sub(c.NotBefore)/3)
	}
	return a.NotAfter.Add(-before)
}

// Thumbprints returns the SHA-256 and SHA-1 thumbprints of the certificate in
// hexadecimal; the latter is what the Entra admin center shows.
func (a SubApplication) Thumbprints() (sha256Hex, sha1Hex string) {
	if len(a.Certificate) == 0 {
		return "", ""
	}
	long, short := sha256.Sum256(a.Certificate), sha1.Sum(a.Certificate) //nolint:gosec // a thumbprint by definition
	return strings.ToUpper(hex.EncodeToString(long[:])), strings.ToUpper(hex.EncodeToString(short[:]))
}
