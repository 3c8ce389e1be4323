package backup

import (
	"strings"
	"time"
)

// Export is a file that a person asked for: the messages of a folder, a mailbox
// or all mailboxes of an organization, made in the background. It is kept
// encrypted beside the repository until it expires.
type Export struct {
	ID        ExportID
	OrgID     OrgID
	MailboxID MailboxID // "" for all mailboxes
	FolderID  string    // "" for all folders
	Name      string    // what is exported, in words
	At        time.Time // the messages as they were then; zero for the newest backups
	Format    string    // mbox or zip
	State     ExportState
	Problem   Problem // why it failed

	Encryption string // passphrase, recipient, or "" for none besides the storage's own
	Recipient  string // the age recipient that the person encrypts to, or ""
	Passphrase Secret // that the person encrypts with, or nothing; erased with the end of the work
	Key        Secret // the age identity of the stored file

	AskedBy      string // name of the person
	CreatedAt    time.Time
	BeatAt       time.Time // last sign of life while it runs
	EndedAt      time.Time
	ExpiresAt    time.Time // then the file and this row are deleted
	Attempt      int       // counts the tries; a killed one begins anew
	ItemsDone    int64
	ItemsTotal   int64
	MissingItems int64 // messages whose content could not be read
	ReadBytes    int64 // content written so far
	SizeBytes    int64 // of the finished file
	DownloadedAt time.Time
}

// ExportState is how an export stands.
type ExportState string

// The states.
const (
	ExportWaiting   ExportState = "waiting"
	ExportRunning   ExportState = "running"
	ExportDone      ExportState = "done"
	ExportFailed    ExportState = "failed"
	ExportCancelled ExportState = "cancelled"
)

// ExportLife is how long a finished export is kept.
const ExportLife = 7 * 24 * time.Hour

// ExportPassphrase is the least length of a passphrase in characters.
const ExportPassphrase = 12

// Open says that the file is not made yet.
func (e Export) Open() bool { return e.State == ExportWaiting || e.State == ExportRunning }

// FileName is the name of the file for whoever downloads it, without what file
// systems refuse: that is the caller's.
func (e Export) FileName() (base, extension string) {
	at := e.At
	if at.IsZero() {
		at = e.CreatedAt
	}
	extension = "." + e.Format
	if e.MailboxID == "" {
		extension = ".zip"
	}
	if e.Encryption != "" {
		extension += ".age"
	}
	return e.Name + " " + at.UTC().Format("2006-01-02 1504"), extension
}

// Validate returns FieldErrors naming every field that breaks a rule, or nil.
// Whether a recipient is one is told where the file is encrypted.
func (e Export) Validate() error {
	fields := FieldErrors{}
	if e.Format != "mbox" && e.Format != "zip" {
		fields["format"] = "Choose a format."
	}
	if e.FolderID != "" && e.MailboxID == "" {
		fields["folder"] = "A folder belongs to a mailbox. Choose one."
	}
	if n := len([]rune(e.Passphrase.Reveal())); n > 0 && n < ExportPassphrase {
		fields["passphrase"] = "Use at least 12 characters: who finds the file can try passphrases as fast as computers go."
	} else if n > 1024 || strings.ContainsAny(e.Passphrase.Reveal(), "\r\n") {
		fields["passphrase"] = "Use one line of at most 1,024 characters."
	}
	if len(e.Passphrase) > 0 && e.Recipient != "" {
		fields["recipient"] = "Give either a passphrase or a public key."
	}
	return fields.OrNil()
}
