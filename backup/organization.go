package backup

import "time"

// Organization is a client of the partner.
type Organization struct {
	ID        OrgID
	PartnerID PartnerID
	Name      string // 1 to 100 characters, unique at the partner without regard to case
	// ManualRole is the SPA toggle: adding a Microsoft 365 backup uses manual
	// custom role creation. Off (automated) by default.
	ManualRole bool
	// RequireFactor says that everybody of the organization needs a second
	// factor. The partner's people always do.
	RequireFactor bool
	// ForbidActing says that the partner's people may act for the organization
	// only with an admin's leave; ActingAsked, how many requests for it wait.
	ForbidActing bool
	ActingAsked  int
	SuspendedAt  time.Time // zero unless suspended
	DeletingAt   time.Time // when its deletion began, zero if it did not
	CreatedAt    time.Time
}

// Validate returns FieldErrors naming name if it breaks a rule, or nil.
func (o Organization) Validate() error {
	fields := FieldErrors{}
	checkName(fields, "name", o.Name)
	return fields.OrNil()
}

// OrganizationHealth is one row of the partner's list of organizations.
type OrganizationHealth struct {
	Organization
	TenantDomain string // of its Microsoft 365 connection, "" if none
	Counts       StatusCounts
	LastRunAt    time.Time // end of the last successful run, zero if none
}
