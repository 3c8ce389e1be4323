package backup

import (
	"crypto/rand"
	"strings"
	"time"
)

// Factors is what a person has besides the password.
type Factors struct {
	TOTP     bool      // an authenticator app is set up
	TOTPAt   time.Time // since when
	Recovery int       // recovery codes that are left
	Passkeys []Passkey
}

// Any says whether there is a second factor. Recovery codes alone are none.
func (f Factors) Any() bool { return f.TOTP || len(f.Passkeys) > 0 }

// Passkey is a WebAuthn credential of a person.
type Passkey struct {
	ID         PasskeyID
	PersonID   PersonID
	Name       string // what the person calls it
	Credential []byte // as encoded by the WebAuthn library; public key and counters, no secret
	CreatedAt  time.Time
	LastUsedAt time.Time // zero if never
}

// RecoveryCodes is how many recovery codes a person gets.
const RecoveryCodes = 10

// NewRecoveryCodes returns fresh recovery codes of 80 random bits each, written
// in four groups: XXXX-XXXX-XXXX-XXXX.
func NewRecoveryCodes() []string {
	codes := make([]string, RecoveryCodes)
	for i := range codes {
		text := rand.Text()[:16]
		codes[i] = strings.Join([]string{text[:4], text[4:8], text[8:12], text[12:]}, "-")
	}
	return codes
}

// FoldRecoveryCode returns a recovery code as it is kept, however it was typed:
// without spaces and dashes, in capitals.
func FoldRecoveryCode(s string) string {
	return strings.ToUpper(strings.NewReplacer("-", "", " ", "", "\u00a0", "", "\t", "").Replace(s))
}
