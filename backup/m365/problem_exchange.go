package m365

import (
	"errors"
	"net/http"

	"holdfast/backup"
)

// What a refusal of Exchange means for a step of the role. The .NET type is
// looked at first, then the text, which Microsoft may change.

// dehydrated: the organization is not customized yet, or still being so.
func (e *exchangeError) dehydrated() bool {
	return e.kind == "InvalidOperationInDehydratedContextException" ||
		e.says("isn't currently allowed in your organization", "first need to run the command: Enable-OrganizationCustomization")
}

// notRequired: the organization is customized already.
func (e *exchangeError) notRequired() bool {
	return e.says("operation is not required", "already enabled for customization", "DSAlreadyExist")
}

// exists: somebody, perhaps an earlier try, made it.
func (e *exchangeError) exists() bool {
	return e.kind == "ADObjectAlreadyExistsException" || e.kind == "MemberAlreadyExistsException" ||
		e.says("already exist", "is already a member", "DSAlreadyExist")
}

// missing: it is not there, or this server does not know it yet.
func (e *exchangeError) missing() bool {
	return e.kind == "ManagementObjectNotFoundException" || e.kind == "AADServicePrincipalNotFound" ||
		e.says("couldn't be found", "AADServicePrincipalNotFound", "No ServicePrincipal with Object Id") || e.status == http.StatusNotFound && e.code != ""
}

// transient: the same call may work in a moment.
func (e *exchangeError) transient() bool {
	return e.says("issue may be transient", "maximum number of concurrent requests", "have write permission to target DC") || e.kind == "ADTransientException" || e.kind == "UnableToWriteToAadException"
}

// noDelegation: the person may run the cmdlet, but not assign this role.
func (e *exchangeError) noDelegation() bool {
	return e.says("must be assigned a delegating role assignment", "You don't have access to create, change, or remove")
}

// noCmdlet: the person's roles do not have the cmdlet.
func (e *exchangeError) noCmdlet() bool {
	return e.kind == "CmdletAccessDeniedException" ||
		e.says("is not present in the role definition", "is not recognized", "isn't assigned to any management roles")
}

// powerShellOff: EXOModuleEnabled is off for the person. Microsoft publishes no
// text for it; these fragments are assumed.
func (e *exchangeError) powerShellOff() bool {
	return e.says("EXOModuleEnabled", "PowerShell is disabled", "remote PowerShell is not enabled", "not allowed to connect to Exchange Online PowerShell")
}

const (
	textPowerShellOff = "Exchange Online PowerShell is switched off for the person who signed in. Another administrator has to run Set-User -Identity <address> -EXOModuleEnabled $true, or sign in instead."
	textNoCmdlets     = "The person who signed in may not run all the cmdlets that the custom role needs. Sign in as a Global Administrator or Exchange Administrator, or as a member of Organization Management."
	textNoDelegation  = "Exchange Online does not let the person who signed in assign this role. A member of the role group Organization Management can; add the person to it, sign in anew and try again. Within an hour after the organization was customized, waiting may be enough."
	textRolePending   = "Exchange Online is still preparing the tenant for custom roles. That takes minutes, sometimes up to three days; Holdfast tries again by itself."
	textRoleWaiting   = "Exchange Online does not see the new objects on all its servers yet. Holdfast tries again by itself."
)

// roleProblem reads an error of a person's cmdlet.
func roleProblem(err error) error {
	e := asExchangeError(err)
	if e == nil {
		return silenceProblem(err)
	}
	is := func(kind backup.ProblemKind, text string, temporary bool) error {
		return e.problem(meaning{kind, text, temporary}, e)
	}
	if m, ok := e.general(); ok && !e.missing() {
		return e.problem(m, e)
	}
	switch {
	case e.dehydrated():
		return is(backup.ProblemRolePending, textRolePending, true)
	case e.powerShellOff():
		return is(backup.ProblemPowerShellOff, textPowerShellOff, false)
	case e.noDelegation():
		return is(backup.ProblemNotAdministrator, textNoDelegation, true)
	case e.noCmdlet():
		return is(backup.ProblemMissingCmdlets, textNoCmdlets, true)
	case e.transient():
		return is(backup.ProblemUnavailable, "Exchange Online failed for the moment. Holdfast tries again by itself.", true)
	case e.missing():
		return is(backup.ProblemRolePending, textRoleWaiting, true)
	case e.status == http.StatusUnauthorized:
		return is(backup.ProblemSignInExpired, signInAgain.text, false)
	case e.status == http.StatusForbidden:
		// No body says why: the role is missing, or the token is older than the role.
		return is(backup.ProblemMissingCmdlets, textNoCmdlets, true)
	}
	return e.problem(meaning{}, e)
}

// roleCheckProblem reads an error of the Exchange sub-application's own cmdlet.
func roleCheckProblem(err error) error {
	e := asExchangeError(err)
	if e == nil {
		return silenceProblem(err)
	}
	if m, ok := e.general(); ok {
		return e.problem(m, e)
	}
	switch {
	case e.status == http.StatusUnauthorized:
		return e.problem(meaning{backup.ProblemPermission,
			"Exchange Online does not accept Holdfast's application: the permission Exchange.ManageAsApp was withdrawn or is not in effect yet. Holdfast tries again by itself.", true}, e)
	case e.status == http.StatusForbidden, e.noCmdlet(), e.missing():
		return e.problem(meaning{backup.ProblemRolePending,
			"Exchange Online does not let Holdfast's application run its cmdlets: the custom role is not in effect yet, or is gone. Holdfast tries again by itself.", true}, e)
	case e.transient():
		return e.problem(meaning{backup.ProblemUnavailable, "Exchange Online failed for the moment. Holdfast tries again by itself.", true}, e)
	}
	return e.problem(meaning{}, e)
}

// errRoleDiffers is wrapped by the Problem of a role that is not as it was made.
var errRoleDiffers = errors.New("role differs")
