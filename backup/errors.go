package backup

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Sentinels that callers branch on with errors.Is.
var (
	// ErrNotFound says that the row does not exist, or belongs to somebody else.
	ErrNotFound = errors.New("not found")
	// ErrForbidden says that the person's role does not allow it.
	ErrForbidden = errors.New("forbidden")
	// ErrStale says that somebody else changed the row since it was read.
	ErrStale = errors.New("changed by somebody else in the meantime")
	// ErrConflict says that a rule of uniqueness refused the row.
	ErrConflict = errors.New("conflicts with what is there")
)

// FieldErrors says what a person has to correct: field name to sentence. The
// field's name is also the name and id of its input.
type FieldErrors map[string]string

// Error lists the fields in order of their names.
func (f FieldErrors) Error() string {
	var b strings.Builder
	for i, name := range slices.Sorted(maps.Keys(f)) {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s: %s", name, f[name])
	}
	return b.String()
}

// OrNil returns nil if no field is wrong, so that a Validate can end with it.
func (f FieldErrors) OrNil() error {
	if len(f) == 0 {
		return nil
	}
	return f
}

// Problem is an error of a provider, or of a step, that a person reads and can
// act on. It is kept in the row it concerns and shown until it is solved.
// The zero value means that there is none.
type Problem struct {
	Kind      ProblemKind // what pages and rules branch on
	Text      string      // a sentence or two: what happened and what to do
	Code      string      // the provider's own code, such as AADSTS65004 or ErrorAccessDenied
	Status    int         // HTTP status, 0 if there was no answer
	RequestID string      // the provider's request or trace id, for its support
	Temporary bool        // trying again can help
	// RetryAfter is what the provider asked to wait, 0 if it did not say.
	RetryAfter time.Duration
	At         time.Time
	// Details are further lines, such as what differs from what Holdfast made.
	Details []string
	Err     error // the cause, for the log; never shown
}

// ProblemKind names a problem. See the constants.
type ProblemKind string

// The kinds of problem that the flows tell apart. Each has its own sentence,
// made where the provider's answer is read (backup/m365/problem.go).
const (
	ProblemDeclined         ProblemKind = "declined"          // the person declined consent or sign-in
	ProblemWrongTenant      ProblemKind = "wrong_tenant"      // signed in to another tenant than expected
	ProblemTenantTaken      ProblemKind = "tenant_taken"      // another organization uses the tenant
	ProblemPersonalAccount  ProblemKind = "personal_account"  // a Microsoft account of a private person
	ProblemNotAdministrator ProblemKind = "not_administrator" // the person's directory role does not suffice
	ProblemMissingCmdlets   ProblemKind = "missing_cmdlets"   // the person may not run all required cmdlets
	ProblemPowerShellOff    ProblemKind = "powershell_off"    // EXOModuleEnabled is off for the person
	ProblemNoExchange       ProblemKind = "no_exchange"       // the tenant has no Exchange Online
	ProblemSignInExpired    ProblemKind = "sign_in_expired"   // the token ended or was revoked: sign in again
	ProblemConsentMissing   ProblemKind = "consent_missing"   // consent was never given, or withdrawn
	ProblemDevicePending    ProblemKind = "device_pending"    // the code was not entered yet
	ProblemDeviceUnanswered ProblemKind = "device_unanswered" // Microsoft could not say whether it was
	ProblemDeviceExpired    ProblemKind = "device_expired"    // the code is older than its life
	ProblemDeviceDeclined   ProblemKind = "device_declined"   // the person declined at Microsoft's page
	ProblemDeviceBlocked    ProblemKind = "device_blocked"    // conditional access forbids device codes (53003)
	ProblemPolicy           ProblemKind = "policy"            // an application policy of the tenant forbids it
	ProblemApplicationGone  ProblemKind = "application_gone"  // a sub-application or its principal is deleted
	ProblemApplicationOff   ProblemKind = "application_off"   // a sub-application is disabled
	ProblemCredential       ProblemKind = "credential"        // a certificate is expired or no longer registered
	ProblemPermission       ProblemKind = "permission"        // a granted permission is gone or not there yet
	ProblemRolePending      ProblemKind = "role_pending"      // Exchange does not accept the role yet
	ProblemRoleChanged      ProblemKind = "role_changed"      // role, role group or member differ from what was made
	ProblemPassword         ProblemKind = "password"          // a server refuses user name, password or token
	ProblemCertificate      ProblemKind = "certificate"       // a server's certificate or encryption is not to be trusted
	ProblemRoleLeft         ProblemKind = "role_left"         // the authorization that made the role was given up; it stays in Exchange
	ProblemThrottled        ProblemKind = "throttled"         // the provider asks to wait
	ProblemUnavailable      ProblemKind = "unavailable"       // the provider failed, answered garbage or nothing
	ProblemMailboxInactive  ProblemKind = "mailbox_inactive"  // no licence, or no mailbox any more
	ProblemMailboxDeleted   ProblemKind = "mailbox_deleted"   // the user is deleted
	ProblemMailboxFull      ProblemKind = "mailbox_full"      // the mailbox that is restored to has no room
	ProblemItems            ProblemKind = "items"             // some items could not be read; the rest is safe
	ProblemDiskFull         ProblemKind = "disk_full"         // the repository's disk is full
	ProblemRepository       ProblemKind = "repository"        // the repository could not be read or written
	ProblemDamaged          ProblemKind = "damaged"           // a check found damage in the repository
	ProblemHeld             ProblemKind = "held"              // backups may not run at the moment; nothing is wrong
	ProblemUnknown          ProblemKind = "unknown"           // none of the above; shows code, time and request id
)

// Error gives kind, code, request id and cause, for logs.
func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString(string(p.Kind))
	if p.Code != "" {
		b.WriteString(" " + p.Code)
	}
	if p.Status != 0 {
		fmt.Fprintf(&b, " (status %d)", p.Status)
	}
	if p.RequestID != "" {
		b.WriteString(" request " + p.RequestID)
	}
	if p.Err != nil {
		b.WriteString(": " + p.Err.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (p *Problem) Unwrap() error { return p.Err }

// IsZero says whether there is no problem.
func (p Problem) IsZero() bool { return p.Kind == "" }

// Cause tells apart what keeps backups from working: problems of the same cause
// are one line of a page, however many mailboxes have them. The sentence of an
// unknown one has a time and a request id in it, that of one that has to wait
// says until when.
func (p Problem) Cause() string {
	switch p.Kind {
	case ProblemUnknown:
		if p.Code != "" || p.Status != 0 {
			return fmt.Sprintf("%s %s %d", p.Kind, p.Code, p.Status)
		}
	case ProblemThrottled:
		return string(p.Kind)
	}
	return string(p.Kind) + " " + p.Text
}

// AsProblem returns the Problem in err's chain, or one of kind ProblemUnknown
// that wraps err. It returns nil for nil.
func AsProblem(err error) *Problem {
	if err == nil {
		return nil
	}
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	return &Problem{
		Kind: ProblemUnknown, Temporary: true, At: time.Now(), Err: err,
		Text: "Something went wrong that Holdfast does not know. The log has the details. Try again; if it stays, contact support.",
	}
}

// KindOf returns the kind of the Problem in err's chain, or "" if there is none.
func KindOf(err error) ProblemKind {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p.Kind
	}
	return ""
}
