package backup

import "time"

// Entry is one line of the activity log. Entries of an organization form a
// hash chain: Hash = SHA-256(previous hash ‖ canonical JSON of the entry). Its
// end is sealed under the root key, so that whoever can only write to the
// database cannot compute it anew.
type Entry struct {
	ID        ActivityID
	PartnerID PartnerID
	OrgID     OrgID // "" for the partner's own entries
	Seq       int64 // 1, 2, 3 … per chain
	At        time.Time
	PersonID  PersonID // "" for Holdfast itself
	Person    string   // name and address at the time
	ForPerson string   // with acting: "for Contoso Dental"; "" otherwise
	Address   string   // client address, "" for Holdfast itself
	Kind      string   // verb of the field, like sign_in, backup.add, item.download
	Subject   string   // what it was done to, in words
	Detail    string   // before and after, reason; in words
}
