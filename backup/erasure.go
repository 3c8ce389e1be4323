package backup

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// ErasureID identifies an erasure.
type ErasureID string

// ErasureState says how far an erasure is.
type ErasureState string

// The states of an erasure.
const (
	ErasureWaiting ErasureState = "waiting" // for its turn, or for a backup or restore to end
	ErasureRunning ErasureState = "running" // there is no way back
	ErasureDone    ErasureState = "done"
	ErasureStopped ErasureState = "stopped" // a legal hold came first; nothing was erased
)

// Erasure is a mailbox's data that is erased for good.
type Erasure struct {
	ID          ErasureID
	OrgID       OrgID
	MailboxID   MailboxID
	Address     string // of the mailbox; both stay in the certificate
	Name        string
	Reason      string // 3 to 500 characters
	RequestedBy string // on whose request; 3 to 200 characters
	AskedBy     string // name and address of the admin
	AskedAt     time.Time
	BegunAt     time.Time // zero before
	EndedAt     time.Time // zero before
	State       ErasureState
	Problem     Problem // why the last try did not end
	Found       ErasureFound
	Certificate []byte // JSON; nil before it is done
}

// Open says that the erasure has not ended.
func (e Erasure) Open() bool { return e.EndedAt.IsZero() }

// Validate returns FieldErrors naming every field that breaks a rule, or nil.
func (e Erasure) Validate() error {
	fields := FieldErrors{}
	if n := len([]rune(e.Reason)); n < 3 || n > 500 {
		fields["reason"] = "Say why, in 3 to 500 characters."
	}
	if n := len([]rune(e.RequestedBy)); n < 3 || n > 200 {
		fields["requested_by"] = "Say who asked for it, in 3 to 200 characters."
	}
	return fields.OrNil()
}

// SameAddress says whether somebody typed the address of a mailbox.
func SameAddress(typed, address string) bool {
	return strings.EqualFold(strings.TrimSpace(typed), address)
}

// ErasureFound is what there was of a mailbox before it was erased, and what was
// done beside that.
type ErasureFound struct {
	Snapshots   int64 `json:"snapshots"`
	Messages    int64 `json:"messages"` // ever backed up and not expired
	Bytes       int64 `json:"bytes_of_messages"`
	Packs       int64 `json:"packs_in_the_repository"`
	StoredBytes int64 `json:"bytes_in_the_repository"`
	Exports     int64 `json:"exports_deleted"`
	Restores    int64 `json:"restores_forgotten"`
}

// ErasureCertificate states what was erased. It is made once, and never changed.
type ErasureCertificate struct {
	Kind           string         `json:"kind"`
	Version        int            `json:"version"`
	ID             ErasureID      `json:"id"`
	Organization   string         `json:"organization"`
	OrganizationID OrgID          `json:"organization_id"`
	Address        string         `json:"mailbox"`
	Name           string         `json:"name"`
	MailboxID      MailboxID      `json:"mailbox_id"`
	Reason         string         `json:"reason"`
	RequestedBy    string         `json:"requested_by"`
	AskedBy        string         `json:"asked_by"`
	AskedAt        time.Time      `json:"asked_at"`
	BegunAt        time.Time      `json:"begun_at"`
	EndedAt        time.Time      `json:"ended_at"`
	Found          ErasureFound   `json:"what_there_was"`
	Keys           []DestroyedKey `json:"keys_destroyed"`
	Erased         []string       `json:"what_was_erased"`
	Remains        []string       `json:"what_cannot_be_reached"`
}

// ErasureCopies is what was done about copies of the keys.
type ErasureCopies struct {
	FilesAnew bool      // the database's files were written anew
	KitAt     time.Time // when a recovery kit was exported last; zero for never
	Offline   bool      // the copies in the repository open with an offline recovery key
	Replica   string    // where a copy of the repository is kept; "" for nowhere
	Unreached []string  // copies of the repository that this process does not know how to reach
}

// NewErasureCertificate states an erasure that is done but for the statement.
func NewErasureCertificate(org Organization, e Erasure, keys []DestroyedKey, c ErasureCopies) ErasureCertificate {
	return ErasureCertificate{Kind: "holdfast erasure certificate", Version: 1, ID: e.ID, Organization: org.Name, OrganizationID: org.ID,
		Address: e.Address, Name: e.Name, MailboxID: e.MailboxID, Reason: e.Reason, RequestedBy: e.RequestedBy, AskedBy: e.AskedBy,
		AskedAt: e.AskedAt.UTC(), BegunAt: e.BegunAt.UTC(), EndedAt: e.EndedAt.UTC(), Found: e.Found, Keys: keys,
		Erased: erasedLines(e, keys, c), Remains: remainLines(keys, c)}
}

func erasedLines(e Erasure, keys []DestroyedKey, c ErasureCopies) []string {
	list := []string{
		"The deletion log of the repository says since then that nothing of this mailbox is kept, so that no rebuild brings it back.",
		fmt.Sprintf("%s with which the mailbox's messages were encrypted: destroyed. What is left of them in the repository is unreadable, and deleted by the next collections.", counted(len(keys), "key")),
		"The list of its messages with subjects, senders, recipients and the text that a search looks in; its folders, its snapshots and its runs.",
		"Older copies of the portal's database in the repository, which held the keys. A new one without them took their place.",
	}
	if n := int(e.Found.Exports); n > 0 {
		list = append(list, counted(n, "export")+" that held its messages, with their files.")
	}
	if n := int(e.Found.Restores); n > 0 {
		list = append(list, "The reports of "+counted(n, "restore")+" from or into the mailbox.")
	}
	if c.FilesAnew {
		list = append(list, "The database's file was written anew, so that the deleted text does not stand in its free space.")
	}
	if c.Replica != "" {
		list = append(list, "The older copies of the portal's database in the copy of the repository: "+c.Replica+".")
	}
	return list
}

func remainLines(keys []DestroyedKey, c ErasureCopies) []string {
	list := []string{
		"Attachments that other mailboxes of the organization hold as well stay with those.",
		"Objects that an object lock or the storage's own versions keep can't be deleted yet. They are unreadable, since the key is destroyed.",
		"The activity log, which can't be changed, names the mailbox by its address. So does this certificate.",
		"Copies of the database that somebody made outside of Holdfast (backups of the machine, snapshots of the disk) hold the keys if their root key is kept as well. Whoever keeps them has to delete them.",
	}
	switch {
	case len(keys) == 0:
	case !c.KitAt.IsZero():
		list = append(list, "A recovery kit was exported last on "+c.KitAt.UTC().Format(time.DateOnly)+". Kits that are older than this certificate may hold the key: they have to be destroyed and written again.")
	default:
		list = append(list, "No recovery kit was ever exported with this database.")
	}
	if !c.FilesAnew {
		list = append(list, "PostgreSQL overwrites the space of deleted rows as it goes; its write-ahead log and its own backups keep them for as long as its administrator set.")
	}
	for _, place := range c.Unreached {
		list = append(list, "A copy of the repository is kept in "+place+". Copies of the portal's database there may hold the key for at most the time until it is brought up to date.")
	}
	return append(list, "Messages that were restored or downloaded before are wherever they were put.")
}

// DestroyedKey is a key of a mailbox that was destroyed. The fingerprint tells
// whether some other copy is of the same key, and does not lead to it.
type DestroyedKey struct {
	Epoch       int       `json:"epoch"`
	Fingerprint string    `json:"fingerprint"`
	MadeAt      time.Time `json:"made_at"`
	DestroyedAt time.Time `json:"destroyed_at"`
}

// KeyFingerprint is the beginning of a hash of a key.
func KeyFingerprint(key []byte) string {
	sum := sha256.Sum256(append([]byte("holdfast key fingerprint\n"), key...))
	return hex.EncodeToString(sum[:16])
}
