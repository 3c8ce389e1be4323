package backup

import (
	"slices"
	"strings"
	"time"
)

// PermissionCheck is what was read, last, of what a connection's applications
// may do in the tenant.
type PermissionCheck struct {
	OrgID        OrgID
	ConnectionID ConnectionID
	Applications []ApplicationCheck
	Delegated    []DelegatedCheck
	AskedAt      time.Time // when somebody selected Check now
	CheckedAt    time.Time // zero before the first check
	NextAt       time.Time
	Told         string // the drift that people were told of
}

// Running says whether a check was asked for that has no answer yet.
func (c PermissionCheck) Running() bool { return c.AskedAt.After(c.CheckedAt) }

// ApplicationCheck is what one sub-application may do. It was read with the
// application's own sign-in: a token names all that it was issued for.
type ApplicationCheck struct {
	Workload    Workload         `json:"workload"`
	Main        bool             `json:"main_application,omitempty"` // it is the main application, by itself
	Legacy      bool             `json:"legacy,omitempty"`           // … which reads the tenant, authorized by a backup administrator
	DisplayName string           `json:"display_name"`
	AppID       string           `json:"client_id"`
	ObjectID    string           `json:"object_id"`
	PrincipalID string           `json:"service_principal_id"`
	SHA256      string           `json:"certificate_sha256"` // thumbprints, hexadecimal
	SHA1        string           `json:"certificate_sha1"`
	NotAfter    time.Time        `json:"certificate_ends"`
	Read        bool             `json:"read"` // false: nothing below is known, Problem says why
	Granted     []GrantedRole    `json:"granted"`
	Cmdlets     []string         `json:"cmdlets,omitempty"` // what Exchange Online lets it run
	CmdletsRead bool             `json:"cmdlets_read,omitempty"`
	Problem     *ProblemOfReport `json:"problem,omitempty"`
}

// GrantedRole is an application permission that a token had.
type GrantedRole struct {
	ResourceID string `json:"resource_id"` // ResourceGraph, ResourceExchange or ResourceSharePoint
	Name       string `json:"name"`
}

// ProblemOfReport is the part of a Problem that a report keeps.
type ProblemOfReport struct {
	Kind      ProblemKind `json:"kind"`
	Text      string      `json:"text"`
	Code      string      `json:"code,omitempty"`
	RequestID string      `json:"request_id,omitempty"`
	At        time.Time   `json:"at"`
}

// ReportProblem returns what a report keeps of p, nil for none.
func ReportProblem(p Problem) *ProblemOfReport {
	if p.IsZero() {
		return nil
	}
	return &ProblemOfReport{Kind: p.Kind, Text: p.Text, Code: p.Code, RequestID: p.RequestID, At: p.At.UTC()}
}

// DelegatedCheck is what the main application was granted for an administrator
// who was signed in. Nothing standing can read it afterwards.
type DelegatedCheck struct {
	Purpose SignInPurpose `json:"purpose"`
	UPN     string        `json:"administrator"`
	Scopes  []string      `json:"scopes"`
	At      time.Time     `json:"at"`
}

// PermissionState compares one permission as asked with the tenant.
type PermissionState string

// The states of a permission.
const (
	PermissionGranted PermissionState = "granted" // asked and granted
	PermissionMissing PermissionState = "missing" // asked, not granted
	PermissionBeyond  PermissionState = "beyond"  // granted, never asked: drift
	PermissionUnknown PermissionState = "unknown" // could not be read
)

// PermissionLine is one line of the permissions page.
type PermissionLine struct {
	Permission
	State PermissionState
}

// Lines compares what the application needs with what it was granted: the
// permissions asked for in their order, then those beyond.
func (c ApplicationCheck) Lines() []PermissionLine {
	var lines []PermissionLine
	asked := c.asked()
	for _, p := range asked {
		state := PermissionMissing
		switch {
		case !c.Read:
			state = PermissionUnknown
		case slices.Contains(c.Granted, GrantedRole{p.ResourceID, p.Name}):
			state = PermissionGranted
		}
		lines = append(lines, PermissionLine{p, state})
	}
	for _, g := range c.Granted {
		if !slices.ContainsFunc(asked, func(p Permission) bool { return p.ResourceID == g.ResourceID && p.Name == g.Name }) {
			lines = append(lines, PermissionLine{Permission{Name: g.Name, Type: Application, ResourceID: g.ResourceID, Workload: c.Workload, Standing: true,
				Purpose: "Holdfast did not ask for this and does not use it."}, PermissionBeyond})
		}
	}
	return lines
}

// asked are the application permissions that the application needs.
func (c ApplicationCheck) asked() []Permission {
	switch {
	case c.Main && c.Legacy:
		return MainPermissions()
	case c.Main:
		return nil // it does nothing by itself
	}
	return WorkloadPermissions(c.Workload)
}

// MainApplication is the check of the main application by itself; the zero value
// if there is none.
func (c PermissionCheck) MainApplication() ApplicationCheck {
	for _, a := range c.Applications {
		if a.Main {
			return a
		}
	}
	return ApplicationCheck{}
}

// MainTrouble is what an administrator has to see to about the main application
// of a tenant that sub-applications read; the zero value if there is nothing.
func (c PermissionCheck) MainTrouble() Problem {
	main := c.MainApplication()
	if p := main.Problem; p != nil && !main.Legacy && (p.Kind == ProblemConsentMissing || p.Kind == ProblemApplicationOff) {
		return Problem{Kind: p.Kind, Text: p.Text, Code: p.Code, RequestID: p.RequestID, At: p.At}
	}
	return Problem{}
}

// SubApplications are the checks of the sub-applications.
func (c PermissionCheck) SubApplications() []ApplicationCheck {
	return slices.DeleteFunc(slices.Clone(c.Applications), func(a ApplicationCheck) bool { return a.Main })
}

// MainLines are the permissions of the main application: what it holds by
// itself, then what administrators granted it while they were signed in.
func (c PermissionCheck) MainLines(method Method) []PermissionLine {
	return append(c.MainApplication().Lines(), c.DelegatedLines(method)...)
}

// RoleCmdlets are the cmdlets that the custom role gives the Exchange
// sub-application, and no others.
var RoleCmdlets = []string{"Get-Mailbox", "Get-MailboxStatistics", "Get-Recipient"}

// CmdletLines compares the cmdlets of the custom role with what Exchange Online
// lets the application run; nil for an application without a role.
func (c ApplicationCheck) CmdletLines() []PermissionLine {
	if c.Workload != WorkloadExchange {
		return nil
	}
	have := func(list []string, name string) bool {
		return slices.ContainsFunc(list, func(s string) bool { return strings.EqualFold(s, name) })
	}
	var lines []PermissionLine
	for _, name := range RoleCmdlets {
		state := PermissionMissing
		switch {
		case !c.CmdletsRead:
			state = PermissionUnknown
		case have(c.Cmdlets, name):
			state = PermissionGranted
		}
		lines = append(lines, PermissionLine{Permission{Name: name, Type: Cmdlet, ResourceID: ResourceExchange, Workload: c.Workload, Standing: true,
			Purpose: cmdletPurposes[name], Breaks: "Public folders and journaling are paused."}, state})
	}
	for _, name := range c.Cmdlets {
		if !have(RoleCmdlets, name) {
			lines = append(lines, PermissionLine{Permission{Name: name, Type: Cmdlet, ResourceID: ResourceExchange, Workload: c.Workload, Standing: true,
				Purpose: "Holdfast did not ask for this and does not use it."}, PermissionBeyond})
		}
	}
	return lines
}

var cmdletPurposes = map[string]string{
	"Get-Mailbox":           "Read the list of mailboxes.",
	"Get-MailboxStatistics": "Read the sizes of mailboxes.",
	"Get-Recipient":         "Read the list of addresses that receive mail.",
}

// Drift names all that the tenant grants beyond what was asked, sorted, one
// "workload: permission" each; nil if nothing.
func (c PermissionCheck) Drift() []string {
	var drift []string
	for _, a := range c.Applications {
		for _, line := range append(a.Lines(), a.CmdletLines()...) {
			if line.State == PermissionBeyond {
				drift = append(drift, a.DisplayName+": "+line.Name)
			}
		}
	}
	slices.Sort(drift)
	return drift
}

// Missing returns the permissions of an application that were asked and not
// granted.
func (c ApplicationCheck) Missing() []string {
	var names []string
	for _, line := range c.Lines() {
		if line.State == PermissionMissing {
			names = append(names, line.Name)
		}
	}
	return names
}
