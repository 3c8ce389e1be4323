package views

import (
	"holdfast/backup"
)

// AccountsOf are the accounts of a connection that are not backed up.
type AccountsOf struct {
	Connection backup.Connection
	Others     []backup.Mailbox // that can be selected
	BackedUp   int              // how many are
	Selected   map[backup.MailboxID]bool
	Fields     backup.FieldErrors
}

// LeftBehind is an authorization that was given up and whose things in the
// tenant could not be removed.
type LeftBehind struct {
	Authorization backup.Authorization
	Applications  []backup.SubApplication
	Administrator string // its sign-in name, "" if none was made
}
