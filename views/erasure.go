package views

import (
	"time"

	"holdfast/backup"
)

// AskErasure asks whether everything of a mailbox is to be erased.
type AskErasure struct {
	Mailbox     backup.Mailbox
	Snapshots   int
	Hold        backup.LegalHold // that forbids it; zero for none
	Typed       string
	Reason      string
	RequestedBy string
	Fields      backup.FieldErrors
	Now         time.Time
}

// ErasureView is an erasure with its certificate, once it is done.
type ErasureView struct {
	backup.Erasure
	Certificate backup.ErasureCertificate
	Hash        string // of the certificate, in hexadecimal
	Broken      bool   // the certificate is not the one that was sealed
	Now         time.Time
}

func erasureTone(s backup.ErasureState) string {
	switch s {
	case backup.ErasureDone:
		return "protected"
	case backup.ErasureStopped:
		return "inactive"
	}
	return "pending"
}

func erasureState(s backup.ErasureState) string {
	switch s {
	case backup.ErasureDone:
		return "Erased"
	case backup.ErasureStopped:
		return "Stopped by a legal hold"
	case backup.ErasureRunning:
		return "Being erased"
	}
	return "Waiting"
}

// utc is a time for a certificate, to the second.
func utc(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
