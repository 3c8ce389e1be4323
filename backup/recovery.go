package backup

import "time"

// Recovery says what would bring the portal back after the loss of its server.
type Recovery struct {
	// Recipient is the public half of the offline recovery key that the daily
	// copies of the portal's database are encrypted for, "" for none.
	Recipient   string
	KitAt       time.Time // the newest recovery kit that was exported, zero for none
	KeysAt      time.Time // when an organization last began new keys after its first, zero for never
	CopiedAt    time.Time // the newest copy in the repository, zero for none
	CopiedBytes int64     // its size
	Problem     Problem   // why the last copy failed
}

// Recoverable says that something away from the server opens the copies.
func (r Recovery) Recoverable() bool { return r.Recipient != "" || !r.KitAt.IsZero() }

// KitOutdated says that the newest kit opens nothing that some organization wrote
// since it began new keys.
func (r Recovery) KitOutdated() bool { return !r.KitAt.IsZero() && r.KitAt.Before(r.KeysAt) }

// PortalCopyJob copies the portal's database into the repository.
type PortalCopyJob struct{}

// Kind names the job.
func (PortalCopyJob) Kind() string { return "portal_copy" }
