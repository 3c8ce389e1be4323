package views

import (
	"time"

	"holdfast/backup"
)

// Support is what is wrong over all organizations of a partner.
type Support struct {
	Causes []backup.SupportCause
	Any    bool // something is wrong somewhere
	Search string
	Area   backup.SupportArea
	Now    time.Time
}

// areaName says what a cause is about.
func areaName(a backup.SupportArea) string {
	switch a {
	case backup.SupportBackup:
		return "Backup errors"
	case backup.SupportConnection:
		return "Credential and consent errors"
	case backup.SupportRole:
		return "Custom role"
	case backup.SupportStorage:
		return "Backup storage"
	}
	return string(a)
}

// supportTitle says whom a cause concerns.
func supportTitle(c backup.SupportCause) string {
	in := plural(len(c.Organizations), "organization", "organizations")
	if c.Area == backup.SupportBackup {
		return plural(c.Mailboxes, "mailbox", "mailboxes") + " in " + in
	}
	return in
}
