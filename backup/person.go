package backup

import (
	"net/mail"
	"strings"
	"time"
	"unicode/utf8"
)

// Role is what a person may do where their membership is.
type Role string

// The roles. Owner and support belong to the partner, admin and viewer to an organization.
const (
	RoleOwner   Role = "owner"   // partner: everything
	RoleSupport Role = "support" // partner: see all organizations and act for them; no settings
	RoleAdmin   Role = "admin"   // organization: add backups, restore, change settings
	RoleViewer  Role = "viewer"  // organization: look; never message content
)

// Partner runs Holdfast for its organizations.
type Partner struct {
	ID        PartnerID
	Name      string // 1 to 100 characters
	CreatedAt time.Time
}

// Person is somebody who signs in.
type Person struct {
	ID           PersonID
	Name         string // 1 to 100 characters
	Email        string // as typed; unique without regard to case
	PasswordHash string // argon2id in PHC form, "" until the person chose a password
	Factors      int    // how many second factors there are: authenticator app and passkeys
	CreatedAt    time.Time
}

// Membership says where a person belongs and as what. Exactly one of PartnerID
// and OrgID is set.
type Membership struct {
	PersonID  PersonID
	PartnerID PartnerID
	OrgID     OrgID
	Role      Role
}

// Valid says whether the role is one of the place where the membership is.
func (m Membership) Valid() bool {
	switch m.Role {
	case RoleOwner, RoleSupport:
		return m.PartnerID != "" && m.OrgID == ""
	case RoleAdmin, RoleViewer:
		return m.OrgID != "" && m.PartnerID == ""
	}
	return false
}

// Validate returns FieldErrors naming name and email if they break a rule, or nil.
func (p Person) Validate() error {
	fields := FieldErrors{}
	checkName(fields, "name", p.Name)
	if !ValidEmail(p.Email) {
		fields["email"] = "Enter an e-mail address, like ada@example.org."
	}
	return fields.OrNil()
}

// ValidEmail says whether s is one bare e-mail address of at most 254 bytes.
func ValidEmail(s string) bool {
	a, err := mail.ParseAddress(s)
	return err == nil && a.Address == s && len(s) <= 254
}

// FoldEmail returns the key under which an e-mail address is unique.
func FoldEmail(s string) string { return strings.ToLower(strings.TrimSpace(s)) }

func checkName(fields FieldErrors, field, name string) {
	switch n := utf8.RuneCountInString(strings.TrimSpace(name)); {
	case n == 0:
		fields[field] = "Enter a name."
	case n > 100:
		fields[field] = "Enter a name of at most 100 characters."
	}
}

// Session is one browser that is signed in.
type Session struct {
	ID        SessionID
	PersonID  PersonID // "" for a visitor on the way to a passkey
	Half      bool     // the password was right, the second factor is missing: nobody is signed in
	Via       string   // ViaPassword, ViaPasskey or ViaOIDC
	ActingID  ActingID // "" unless the person acts for an organization in this session
	CreatedAt time.Time
	SeenAt    time.Time
	ExpiresAt time.Time
	Address   string // client address at last use
	Agent     string // User-Agent at last use
	// ConfirmedAt is when the person last proved who they are, at the sign-in or
	// since; zero for half a session.
	ConfirmedAt time.Time
}

// ActingMax is how long acting for an organization lasts at most.
const ActingMax = 60 * time.Minute

// ActingGrant is how long leave to act for an organization lasts.
const ActingGrant = 24 * time.Hour

// ActingAnswer is what an admin said to a request to act.
type ActingAnswer string

// The answers; "" while it waits.
const (
	ActingGranted  ActingAnswer = "granted"
	ActingDeclined ActingAnswer = "declined"
)

// ActingRequest is a partner's person asking for leave to act for an
// organization that forbids it otherwise.
type ActingRequest struct {
	ID          ActingRequestID
	OrgID       OrgID
	PersonID    PersonID
	Name, Email string // whose request it is
	Reason      string
	AskedAt     time.Time
	Answer      ActingAnswer
	AnsweredAt  time.Time
	AnsweredBy  string
	Until       time.Time // how long leave lasts
}

// Acting is a partner's person working for an organization (impersonation).
type Acting struct {
	ID        ActingID
	PersonID  PersonID
	OrgID     OrgID
	Reason    string // 3 to 500 characters
	StartedAt time.Time
	EndsAt    time.Time // StartedAt + ActingMax
	EndedAt   time.Time // zero while it lasts
}

// Validate returns FieldErrors naming reason if it breaks a rule, or nil.
func (a Acting) Validate() error {
	fields := FieldErrors{}
	switch n := utf8.RuneCountInString(strings.TrimSpace(a.Reason)); {
	case n < 3:
		fields["reason"] = "Say why you act for this organization. Its administrators can read it."
	case n > 500:
		fields["reason"] = "Keep the reason under 500 characters."
	}
	return fields.OrNil()
}

// Active says whether the acting lasts at time now.
func (a Acting) Active(now time.Time) bool {
	return a.ID != "" && a.EndedAt.IsZero() && now.Before(a.EndsAt)
}

// Actor is who makes a request and as what; read anew for each request.
type Actor struct {
	Person  Person
	Session SessionID
	Via     string  // how the session was signed in
	Partner Partner // set for a partner's person
	// Org is the organization whose portal the request is for: the person's
	// own, or the one acted for. Zero in the Partner Portal.
	Org     Organization
	Role    Role   // the person's own role: owner, support, admin or viewer
	Acting  Acting // zero unless a partner's person acts for Org
	Address string // client address of the request, for the activity log
	// Token is the name of the API token that makes the request, "" for a person.
	Token string
}

// HomeOrg is the organization whose log has what the person does to their own
// account: "" for a partner's person, whomever they act for.
func (a Actor) HomeOrg() OrgID {
	if a.IsPartner() {
		return ""
	}
	return a.Org.ID
}

// OrgRole is the role in Org: the person's own, or admin while acting.
func (a Actor) OrgRole() Role {
	if a.Acting.ID != "" {
		return RoleAdmin
	}
	return a.Role
}

// IsPartner says whether the person belongs to the partner.
func (a Actor) IsPartner() bool { return a.Role == RoleOwner || a.Role == RoleSupport }
