package backup

import "time"

// SupportArea is what a trouble of the support page is about.
type SupportArea string

// The areas.
const (
	SupportBackup     SupportArea = "backup"
	SupportConnection SupportArea = "connection"
	SupportRole       SupportArea = "role"
	SupportStorage    SupportArea = "storage"
)

// SupportCause is one cause of trouble over all organizations of a partner.
type SupportCause struct {
	Area          SupportArea
	Problem       Problem
	Organizations []SupportOrganization // in order of their names
	Mailboxes     int                   // with SupportBackup
	Since         time.Time             // the longest
	NextAt        time.Time             // the soonest try, zero if none is planned
}

// SupportOrganization is an organization that a cause concerns.
type SupportOrganization struct {
	ID        OrgID
	Name      string
	Mailboxes int
}
