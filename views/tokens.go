package views

import (
	"time"

	"holdfast/backup"
)

// Tokens is the list of API tokens and the form of a new one.
type Tokens struct {
	List   []backup.APIToken
	Secret string // of the token just made, shown once
	Name   string
	Scopes []backup.Scope
	Life   int // days
	Fields backup.FieldErrors
	Now    time.Time
}

func (v Tokens) chosen(s backup.Scope) bool { return backup.APIToken{Scopes: v.Scopes}.May(s) }

// scopeNote says what a scope lets a program do.
func scopeNote(s backup.Scope) string {
	switch s {
	case backup.ScopeOrganizations:
		return "Read organizations and their health"
	case backup.ScopeMailboxes:
		return "Read mailboxes and their status, never messages"
	case backup.ScopeRuns:
		return "Read runs and what went wrong"
	case backup.ScopeFeatures:
		return "Switch manual custom role creation on and off"
	}
	return ""
}

// lifeName is a life of a token in words.
func lifeName(d time.Duration) string {
	days := int(d / (24 * time.Hour))
	if days == 365 {
		return "One year"
	}
	return plural(days, "day", "days")
}
