package backup

import "crypto/rand"

// Identifiers are opaque text of 26 characters, made by NewID. Each kind has a
// type of its own, so that mixing two up does not compile.
type (
	PartnerID        string
	OrgID            string
	PersonID         string
	SessionID        string // the public handle of a session, not its secret
	ActingID         string
	ActingRequestID  string
	ConnectionID     string
	AuthorizationID  string
	SubApplicationID string
	CustomRoleID     string
	MailboxID        string
	RunID            string
	ItemID           string // an item record of the catalog; stable while the item is kept
	ActivityID       string
	APITokenID       string
	PasskeyID        string
	SignInProviderID string
	NotificationID   string
	RestoreID        string
	ExportID         string
)

// NewID returns a fresh identifier of any of the identifier types: 26
// characters of A-Z and 2-7 from crypto/rand, at least 128 bits.
func NewID[T ~string]() T { return T(rand.Text()) }
