package m365

import (
	"strings"

	"holdfast/backup"
)

// assignedPlan is a service plan of an account or a tenant.
type assignedPlan struct {
	Service string `json:"service"`
	Status  string `json:"capabilityStatus"`
	ID      string `json:"servicePlanId"`
}

// Plans of service "exchange" that give no mailbox: a foundation that comes with
// many products, and the archive add-on (Microsoft's list of licensing plans).
const (
	planFoundation   = "113feb6c-3fe4-4440-bddc-54d774bf0318" // EXCHANGE_S_FOUNDATION
	planArchiveAddOn = "176a09a6-7ec5-4039-ac02-b2791c6ba793" // EXCHANGE_S_ARCHIVE_ADDON
)

// mailbox says what the plan does for a mailbox. Plans of Exchange that are not
// known are taken to give one.
func (p assignedPlan) mailbox() backup.LicenceState {
	id := strings.ToLower(p.ID)
	if !strings.EqualFold(p.Service, "exchange") || id == planFoundation || id == planArchiveAddOn {
		return backup.LicenceNone
	}
	switch strings.ToLower(p.Status) {
	case "enabled":
		return backup.LicenceValid
	case "warning":
		return backup.LicenceGrace
	}
	return backup.LicenceNone
}
