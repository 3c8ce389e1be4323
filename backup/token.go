package backup

import (
	"slices"
	"time"
)

// Scope is a right of an API token.
type Scope string

// The scopes.
const (
	ScopeOrganizations Scope = "organizations.read" // organizations and their health
	ScopeMailboxes     Scope = "mailboxes.read"     // mailboxes and their status, never messages
	ScopeRuns          Scope = "runs.read"          // runs and what went wrong
	ScopeFeatures      Scope = "features.write"     // switches of an organization, like manual custom role creation
)

// Scopes lists all of them in the order in which pages show them.
var Scopes = []Scope{ScopeOrganizations, ScopeMailboxes, ScopeRuns, ScopeFeatures}

// APIToken lets a partner's program use the JSON API. The token itself is
// shown once; the store keeps its hash.
type APIToken struct {
	ID         APITokenID
	PartnerID  PartnerID
	Name       string // 1 to 100 characters, says which program
	Scopes     []Scope
	CreatedBy  string // name of the person
	CreatedAt  time.Time
	ExpiresAt  time.Time
	LastUsedAt time.Time // zero if never; kept to the minute
	LastUsedBy string    // client address at last use
}

// TokenLives are the lives of a token that a person may choose from.
var TokenLives = []time.Duration{30 * 24 * time.Hour, 90 * 24 * time.Hour, 365 * 24 * time.Hour}

// May says whether the token has a scope.
func (t APIToken) May(s Scope) bool { return slices.Contains(t.Scopes, s) }

// Validate returns FieldErrors naming name, scopes and life if they break a
// rule, or nil.
func (t APIToken) Validate() error {
	fields := FieldErrors{}
	checkName(fields, "name", t.Name)
	if len(t.Scopes) == 0 {
		fields["scopes"] = "Choose at least one thing that the program may do."
	}
	for _, s := range t.Scopes {
		if !slices.Contains(Scopes, s) {
			fields["scopes"] = "Choose from the list."
		}
	}
	if !slices.Contains(TokenLives, t.ExpiresAt.Sub(t.CreatedAt)) {
		fields["life"] = "Choose how long the token works."
	}
	return fields.OrNil()
}
