package backup

import (
	"slices"
	"time"
)

// Purpose is what an authorization is for.
type Purpose string

// The purposes. Which steps each has is in StepsOf.
const (
	PurposeConnect Purpose = "connect"  // Add Backup: makes a connection
	PurposeMigrate Purpose = "migrate"  // from the backup administrator to least privilege; backups go on meanwhile
	PurposeRepair  Purpose = "repair"   // makes the applications of the named workloads whole again
	PurposeRole    Purpose = "role"     // makes the custom role whole again, nothing else
	PurposeRenew   Purpose = "renew"    // Re-authenticate: consent to the main application again
	PurposeRemove  Purpose = "remove"   // removes the applications of the named workloads from the tenant
	PurposeRestore Purpose = "restore"  // gives the restore permission: makes the application that writes
	PurposeCleanUp Purpose = "clean_up" // after a migration: removes the backup administrator and what the main application was granted for it
)

// Step is where an authorization stands.
type Step string

// The steps, and StepFailed, which remembers the step it came from.
const (
	StepConsent             Step = "consent"              // the person has to sign in at Microsoft and accept
	StepCreateAdministrator Step = "create_administrator" // legacy: the job makes the backup administrator and grants the main application
	StepCreateApplications  Step = "create_applications"  // the job makes the sub-applications, or makes them whole
	StepRemoveApplications  Step = "remove_applications"  // the job removes them
	StepRemoveAdministrator Step = "remove_administrator" // the job removes the backup administrator and the main application's grants
	StepDeviceAuthorization Step = "device_authorization" // automated flow: code or browser sign-in for the cmdlets
	StepRunScript           Step = "run_script"           // manual flow: the person runs the script
	StepVerify              Step = "verify"               // the job runs or checks the custom role
	StepChooseAccounts      Step = "choose_accounts"      // accounts are listed; the person selects
	StepDone                Step = "done"
	StepFailed              Step = "failed"
	StepAbandoned           Step = "abandoned" // given up; Undo removed what it made
)

// InBackground says whether a job does the step, rather than a person.
func (s Step) InBackground() bool {
	switch s {
	case StepCreateAdministrator, StepRemoveAdministrator, StepCreateApplications, StepRemoveApplications, StepVerify:
		return true
	}
	return false
}

// StepsOf returns the steps of an authorization in order, from the first to
// StepDone. The custom role's steps are left out when no workload needs it.
func StepsOf(purpose Purpose, method Method, flow Flow, workloads []Workload) []Step {
	var steps []Step
	switch {
	case purpose == PurposeRole:
		return append(roleSteps(flow), StepDone)
	case purpose == PurposeRenew:
		return []Step{StepConsent, StepDone}
	case purpose == PurposeRemove:
		return []Step{StepConsent, StepRemoveApplications, StepDone}
	case purpose == PurposeRestore:
		return []Step{StepConsent, StepCreateApplications, StepDone}
	case purpose == PurposeCleanUp:
		return []Step{StepConsent, StepRemoveAdministrator, StepDone}
	case method == MethodBackupAdministrator:
		steps = []Step{StepConsent, StepCreateAdministrator}
	default:
		steps = []Step{StepConsent, StepCreateApplications}
		if slices.Contains(workloads, WorkloadExchange) {
			steps = append(steps, roleSteps(flow)...)
		}
	}
	if purpose == PurposeConnect {
		steps = append(steps, StepChooseAccounts)
	}
	return append(steps, StepDone)
}

// roleSteps are those that make the custom role.
func roleSteps(flow Flow) []Step {
	if flow == FlowManual {
		return []Step{StepRunScript, StepVerify}
	}
	return []Step{StepDeviceAuthorization, StepVerify}
}

// Steps returns the authorization's steps in order.
func (a Authorization) Steps() []Step {
	return StepsOf(a.Purpose, a.Method, a.Flow, a.Workloads)
}

// Next returns the step that follows one of a's steps. What follows StepDone,
// or a step that a does not have, is StepDone.
func (a Authorization) Next(step Step) Step {
	steps := a.Steps()
	if i := slices.Index(steps, step); i >= 0 && i+1 < len(steps) {
		return steps[i+1]
	}
	return StepDone
}

// RoleStep returns the step in which a person sees to the custom role.
func (a Authorization) RoleStep() Step { return roleSteps(a.Flow)[0] }

// ConsentPurpose says what the sign-in of StepConsent asks for: the backup
// administrator takes more than the applications.
func (a Authorization) ConsentPurpose() SignInPurpose {
	if a.Purpose == PurposeRestore {
		return SignInRestore
	}
	if steps := a.Steps(); slices.Contains(steps, StepCreateAdministrator) || slices.Contains(steps, StepRemoveAdministrator) {
		return SignInAdministrator
	}
	return SignInConsent
}

// Active says whether the authorization still waits for something.
func (a Authorization) Active() bool { return a.Step != StepDone && a.Step != StepAbandoned }

// At returns the step that a stands at: if it failed, the one to go back to.
func (a Authorization) At() Step {
	if a.Step == StepFailed {
		return a.FailedFrom
	}
	return a.Step
}

// Complete moves the authorization to StepDone and forgets every token of it.
func (a *Authorization) Complete() {
	a.Step, a.FailedFrom, a.Problem = StepDone, "", Problem{}
	a.SetupToken, a.SetupTokenExpiresAt = nil, time.Time{}
	a.RoleToken, a.RoleRefreshToken, a.RoleTokenExpiresAt = nil, nil, time.Time{}
	a.Device, a.SignIn = DeviceAttempt{}, SignInAttempt{}
}
