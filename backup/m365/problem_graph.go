package m365

import (
	"net/http"
	"strings"
	"time"

	"holdfast/backup"
)

// directoryMeanings are Graph's codes for the administrator's own calls: making
// applications and granting permissions.
var directoryMeanings = map[string]meaning{
	"authorization_requestdenied": {backup.ProblemNotAdministrator,
		"The person who signed in may not do this. Sign in as a Global Administrator or a Privileged Role Administrator; if the role is assigned by Privileged Identity Management, activate it first.", false},
	"invalidauthenticationtoken": {backup.ProblemSignInExpired,
		"The sign-in has ended or was revoked. Sign in at Microsoft again; Holdfast goes on where it stopped.", false},
	"credentialtypenotallowedasperapppolicy": {backup.ProblemPolicy,
		"An application management policy of the tenant forbids new certificates on applications. Under Entra admin center, Enterprise applications, Application policies, allow certificates (asymmetric keys) for Holdfast's applications, then try again.", false},
	"credentialinvalidlifetimeasperapppolicy": {backup.ProblemPolicy,
		"An application management policy of the tenant allows only certificates of a shorter life than Holdfast can use. Under Entra admin center, Enterprise applications, Application policies, allow at least 30 days, then try again.", false},
	"signinaudiencenotallowedasperapppolicy": {backup.ProblemPolicy,
		"An application management policy of the tenant forbids applications of this kind. Exempt Holdfast's applications in Entra admin center, Enterprise applications, Application policies, then try again.", false},
	"hostnamenotonverifieddomain": {backup.ProblemPolicy,
		"An application management policy of the tenant refuses the application's address. Exempt Holdfast's applications in Entra admin center, Enterprise applications, Application policies, then try again.", false},
	"directory_quotaexceeded": {backup.ProblemPolicy,
		"The person or the tenant has reached Microsoft's limit of directory objects. Delete applications that are no longer used (also under Deleted applications), then try again.", false},
	"directory_concurrencyviolation": {backup.ProblemUnavailable,
		"Somebody else changed the same object in the tenant. Holdfast tries again by itself.", true},
}

// mailboxMeanings are Graph's codes for a sub-application that reads accounts
// and mailboxes (graph-backup.md, 1.3 and 7.4).
var mailboxMeanings = map[string]meaning{
	"authorization_requestdenied": permissionGone,
	"erroraccessdenied":           permissionGone,
	"accessdenied":                permissionGone,
	"invalidauthenticationtoken": {backup.ProblemPermission,
		"Microsoft does not accept the token of Holdfast's application. If it stays, select Repair under Account Settings, Credentials.", true},
	"extensionerror": {backup.ProblemPermission,
		"This mailbox is not open to Holdfast: it is on your own servers, or an application access policy of Exchange Online excludes it. Holdfast tries again by itself.", true},
	"mailboxnotenabledforrestapi": {backup.ProblemMailboxInactive,
		"There is no mailbox in Exchange Online: the licence is missing, or the mailbox was removed or is on your own servers. Assign a licence with Exchange Online; the backup resumes by itself.", false},
	"mailboxnotsupportedforrestapi": {backup.ProblemMailboxInactive,
		"There is no mailbox in Exchange Online: the licence is missing, or the mailbox is on your own servers. Assign a licence with Exchange Online; the backup resumes by itself.", false},
	"authenticationerror": {backup.ProblemMailboxInactive,
		"Microsoft refuses this mailbox, usually because the account has no licence. Assign a licence with Exchange Online; the backup resumes by itself.", true},
	"request_resourcenotfound": mailboxDeleted,
	"errorinvaliduser":         mailboxDeleted,
	"resourcenotfound":         mailboxDeleted,
	"resourcelocked":           tenantLocked,
	"notallowed":               tenantLocked,
	"toomanyrequests":          throttledMeaning,
	"applicationthrottled":     throttledMeaning,
	"activitylimitreached":     throttledMeaning,
	"throttledrequest":         throttledMeaning,
	"errorserverbusy":          throttledMeaning,
	"errormailboxstoreunavailable": {backup.ProblemUnavailable,
		"Exchange Online is moving or repairing this mailbox. Holdfast tries again by itself.", true},
	"errorcorruptdata": itemDamaged, "errorinvalidrecipients": itemDamaged, "errorcannotopenfileattachment": itemDamaged,
	"errortoomanyobjectsopened": itemDamaged, "errormimecontentinvalid": itemDamaged, "errorcontentconversionfailed": itemDamaged,
	"errorpropertyrequestfailed": itemDamaged,
	"errormessagesizeexceeded":   itemDamaged,
}

var (
	permissionGone = meaning{backup.ProblemPermission,
		"Microsoft refuses the call: a permission of Holdfast's application was withdrawn or is not in effect yet. Look at the application under Enterprise applications, Permissions; if it stays, select Repair under Account Settings, Credentials.", true}
	mailboxDeleted = meaning{backup.ProblemMailboxDeleted,
		"The account is no longer in the tenant. What was backed up stays. If it was deleted by mistake, restore the user in Microsoft 365 within 30 days.", false}
	replicating = meaning{backup.ProblemUnavailable,
		"Microsoft's directory has not told all its servers of the application yet. Holdfast tries again by itself.", true}
	permissionUnknown = meaning{backup.ProblemPermission,
		"The tenant does not know a permission that the application needs. Check that the service it belongs to is part of the tenant's plans, then try again.", false}
	tenantLocked = meaning{backup.ProblemUnavailable,
		"Microsoft has locked this account or the tenant, for example because the subscription ended. Check the subscriptions in the Microsoft 365 admin center; Holdfast tries again by itself.", true}
	throttledMeaning = meaning{backup.ProblemThrottled, "Microsoft asks Holdfast to wait. " + goesOn, true}
	itemDamaged      = meaning{backup.ProblemItems,
		"Microsoft can't read this message: its data is damaged there. Holdfast tries again at each run. If the message opens in Outlook, save it once there.", true}
)

// permissionsWithdrawn is the Problem of an application whose token lacks
// permissions that it was granted once.
func permissionsWithdrawn(names []string) *backup.Problem {
	noun := "permission " + names[0] + " was"
	if len(names) > 1 {
		noun = "permissions " + strings.Join(names, ", ") + " were"
	}
	return &backup.Problem{Kind: backup.ProblemPermission, At: time.Now(),
		Text: "The " + noun + " withdrawn from Holdfast's application in the tenant. Select Repair, which grants it again, and nothing else."}
}

// directoryProblem reads Graph's refusal of an administrator's call.
func directoryProblem(r refusal, cause error) *backup.Problem {
	if m, ok := r.lookup(directoryMeanings); ok {
		return r.problem(m, cause)
	}
	switch r.status {
	case http.StatusUnauthorized:
		return r.problem(directoryMeanings["invalidauthenticationtoken"], cause)
	case http.StatusForbidden:
		return r.problem(directoryMeanings["authorization_requestdenied"], cause)
	}
	if r.says("Permission being assigned was not found") {
		return r.problem(permissionUnknown, cause)
	}
	m, ok := r.general()
	if !ok && (r.status == http.StatusConflict || principalLag(r) || grantLag(r)) {
		m = replicating
	}
	return r.problem(m, cause)
}

// mailboxProblem reads Graph's refusal of a sub-application's call.
func mailboxProblem(r refusal, cause error) *backup.Problem {
	if m, ok := r.general(); ok && !r.has("ErrorCorruptData", "ErrorInvalidRecipients", "ErrorCannotOpenFileAttachment", "ErrorTooManyObjectsOpened", "ErrorContentConversionFailed", "ErrorMimeContentInvalid", "ErrorPropertyRequestFailed", "ErrorMailboxStoreUnavailable") {
		return r.problem(m, cause)
	}
	if r.says("the service principal for resource", "subscription within the tenant has lapsed", "preventing tokens") {
		return r.problem(tenantLocked, cause)
	}
	if r.has("ResourceNotFound") && !r.says("user") {
		// With "user" in its text the account itself is gone.
		return r.problem(mailboxMeanings["mailboxnotenabledforrestapi"], cause)
	}
	if m, ok := r.lookup(mailboxMeanings); ok {
		return r.problem(m, cause)
	}
	switch r.status {
	case http.StatusUnauthorized:
		return r.problem(mailboxMeanings["invalidauthenticationtoken"], cause)
	case http.StatusForbidden:
		return r.problem(permissionGone, cause)
	case http.StatusLocked:
		return r.problem(tenantLocked, cause)
	}
	return r.problem(meaning{}, cause)
}
