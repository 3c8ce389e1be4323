package views

import (
	"strings"
	"time"

	"holdfast/backup"
)

// PermissionsOf is what the permissions page shows of one connection.
type PermissionsOf struct {
	backup.Connection
	Check    backup.PermissionCheck // zero before the first one
	ClientID string                 // of the main application
	Restore  backup.RestoreGrant    // the restore permission, zero if it is not held
}

// PermissionsView is the permissions page.
type PermissionsView struct {
	Connections []PermissionsOf
	Servers     []backup.Connection // at which there are no permissions to ask for
	MayChange   bool
	Now         time.Time
}

// Running says whether an answer is waited for.
func (v PermissionsView) Running() bool {
	for _, c := range v.Connections {
		if c.Check.Running() || c.Check.CheckedAt.IsZero() && !c.ReadyAt.IsZero() && c.Problem.IsZero() {
			return true
		}
	}
	return false
}

// Proof is the printable page.
type Proof struct {
	ConnectionID backup.ConnectionID
	backup.PermissionProof
	Lines []backup.PermissionLine // of the main application
	JSON  string
	Hash  string // SHA-256 of JSON
	Now   time.Time
}

// permissionState is a permission's state in words; of the main application what is
// not known is what was not seen.
func permissionState(s backup.PermissionState) string {
	switch s {
	case backup.PermissionGranted:
		return "Granted"
	case backup.PermissionMissing:
		return "Not granted"
	case backup.PermissionBeyond:
		return "Beyond what was asked"
	}
	return "Not known"
}

func permissionTone(s backup.PermissionState) string {
	switch s {
	case backup.PermissionGranted:
		return "protected"
	case backup.PermissionMissing:
		return "failing"
	case backup.PermissionBeyond:
		return "deactivated"
	}
	return "empty"
}

// tally is one line on how an application's permissions compare.
func tally(lines []backup.PermissionLine) string {
	count := map[backup.PermissionState]int{}
	for _, l := range lines {
		count[l.State]++
	}
	asked := len(lines) - count[backup.PermissionBeyond]
	parts := []string{plural(asked, "permission", "permissions") + " asked"}
	if count[backup.PermissionUnknown] < asked {
		parts = append(parts, plural(count[backup.PermissionGranted], "granted", "granted"))
	} else {
		parts = append(parts, "not known what is granted")
	}
	if n := count[backup.PermissionMissing]; n > 0 {
		parts = append(parts, plural(n, "missing", "missing"))
	}
	if n := count[backup.PermissionBeyond]; n > 0 {
		parts = append(parts, plural(n, "beyond", "beyond"))
	}
	return strings.Join(parts, " · ")
}

// allLines are the permissions and cmdlets of an application.
func allLines(a backup.ApplicationCheck) []backup.PermissionLine {
	return append(a.Lines(), a.CmdletLines()...)
}

// thumbprint writes a thumbprint in groups, so that it can be compared.
func thumbprint(hex string) string {
	var b strings.Builder
	for i, r := range hex {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return b.String()
}
