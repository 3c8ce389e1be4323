package m365

import (
	"encoding/json"
	"regexp"
	"strconv"
	"time"

	"holdfast/backup"
)

// entraError is the error object of the token endpoint
// (https://learn.microsoft.com/entra/identity-platform/reference-error-codes).
type entraError struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
	Codes       []int  `json:"error_codes"`
	TraceID     string `json:"trace_id"`
	SubError    string `json:"suberror"`
}

// aadsts finds the number in a description; redirects carry it nowhere else.
var aadsts = regexp.MustCompile(`AADSTS(\d+)`)

// parseEntra reads an error object. Microsoft promises the names in error, not
// the numbers; the numbers tell more, so they are looked up first.
func parseEntra(a *answer) refusal {
	r := refusal{status: a.status, after: retryAfter(a.header, time.Now()), requestID: a.header.Get("x-ms-request-id")}
	var e entraError
	if json.Unmarshal(a.body, &e) != nil {
		return r
	}
	if e.TraceID != "" {
		r.requestID = e.TraceID
	}
	return r.withEntra(e)
}

func (r refusal) withEntra(e entraError) refusal {
	r.message, r.code = e.Description, e.Error
	r.codes = append(r.codes, e.Error)
	number := ""
	if len(e.Codes) > 0 {
		number = strconv.Itoa(e.Codes[0])
	} else if m := aadsts.FindStringSubmatch(e.Description); m != nil {
		number = m[1]
	}
	if number != "" {
		r.codes = append(r.codes, number)
		r.code = "AADSTS" + number
	}
	return r
}

// Meanings of Entra's answers that do not depend on who asked.
var entraMeanings = map[string]meaning{
	"90055": throttledMeaning, "90024": throttledMeaning, "temporarily_unavailable": throttledMeaning,
	"server_error": {backup.ProblemUnavailable, "Microsoft's sign-in failed for the moment. Try again.", true},
	"90002":        tenantGone, "900023": tenantGone, "5000224": tenantGone,
	"500011": noExchange, "650052": noExchange,
	"700024": {backup.ProblemCredential, "The clock of the server that Holdfast runs on is wrong by minutes, so Microsoft refuses its signatures. Set the clock.", true},
}

var (
	tenantGone = meaning{backup.ProblemWrongTenant,
		"Microsoft does not know this tenant any more. If the tenant was deleted, its backup stays as it is; if not, sign in again with an account of the right tenant.", false}
	noExchange = meaning{backup.ProblemNoExchange,
		"The tenant has no Exchange Online. Assign a plan with Exchange Online to at least one account, or choose the other method.", false}
	signInAgain = meaning{backup.ProblemSignInExpired,
		"The sign-in has ended or was revoked. Sign in at Microsoft again; Holdfast goes on where it stopped.", false}
	conditionalAccess = meaning{backup.ProblemPolicy,
		"A Conditional Access policy of the tenant blocks this sign-in. Sign in from a device and place that the policy allows, or let somebody who may do so. Do not weaken the policy.", false}
	declined = meaning{backup.ProblemDeclined,
		"Consent was declined at Microsoft. Nothing was changed in the tenant. Try again and select Accept, or ask a Global Administrator to do it.", false}
	notAdministrator = meaning{backup.ProblemNotAdministrator,
		"Microsoft wants an administrator to consent. Sign in as a Global Administrator of the tenant.", false}
	consentMissing = meaning{backup.ProblemConsentMissing,
		"Consent for Holdfast is missing in the tenant, or was withdrawn. Sign in as a Global Administrator and select Accept on Microsoft's page.", false}
	ownApplication = meaning{backup.ProblemCredential,
		"Microsoft refuses Holdfast's own application: its client id or credential is wrong or has expired. This is not about your tenant: whoever runs this Holdfast has to check the registration of the main application.", false}
)

// personMeanings are for sign-ins of a person through the main application.
var personMeanings = map[string]meaning{
	"access_denied": declined, "permission_denied": declined, "65004": declined, "consent_required": declined,
	"65001": consentMissing,
	"90093": notAdministrator, "90094": notAdministrator, "90095": notAdministrator,
	"50173": signInAgain, "700082": signInAgain, "70008": signInAgain, "700084": signInAgain, "70043": signInAgain,
	"50076": signInAgain, "50079": signInAgain, "50074": signInAgain, "50078": signInAgain, "50158": signInAgain,
	"54005": signInAgain, "70000": signInAgain, "login_required": signInAgain, "interaction_required": signInAgain, "invalid_grant": signInAgain,
	"53000": conditionalAccess, "53001": conditionalAccess, "53002": conditionalAccess, "53003": conditionalAccess, "50097": conditionalAccess,
	"530032": conditionalAccess, "530034": conditionalAccess, "530035": conditionalAccess,
	"50057": {backup.ProblemSignInExpired, "The account that signed in is disabled. Sign in with another administrator of the tenant.", false},
	"50020": otherTenant, "50177": otherTenant, "90072": otherTenant,
	"90099": {backup.ProblemConsentMissing, "Holdfast's application is not authorized in this tenant yet. Sign in as a Global Administrator of the tenant itself, not as a partner.", false},
	// The main application in a customer's tenant is there as long as its consent is.
	"700016": consentMissing, "7000229": consentMissing,
	"7000112": {backup.ProblemApplicationOff,
		"Holdfast's main application is disabled in the tenant. Enable it in the Entra admin center under Enterprise applications, Properties, Enabled for users to sign in.", false},
	"50105": {backup.ProblemNotAdministrator,
		"The tenant lets only assigned people use Holdfast. Assign the administrator in the Entra admin center under Enterprise applications, Holdfast, Users and groups.", false},
	"7000215": ownApplication, "7000222": ownApplication, "700027": ownApplication, "700030": ownApplication, "7000218": ownApplication, "50011": ownApplication, "650057": ownApplication, "65002": ownApplication,
	"invalid_client": ownApplication, "unauthorized_client": ownApplication, "invalid_request": {backup.ProblemUnknown,
		"Microsoft did not accept the sign-in. Start it again.", false},
	"invalid_resource": noExchange,
}

var otherTenant = meaning{backup.ProblemWrongTenant,
	"The account that signed in does not belong to this tenant. Sign in with an administrator account of the tenant itself; guests and partner accounts cannot be used.", false}

// deviceNames are the names of RFC 8628, and those that Entra uses beside them.
// They come in answers to PollDevice only.
var deviceNames = map[string]meaning{
	"authorization_pending": devicePending, "slow_down": devicePending,
	"authorization_declined": {backup.ProblemDeviceDeclined,
		"The request was declined at Microsoft's page. Get a new code and select Continue there, or authorize in this browser.", false},
	"expired_token": deviceExpired, "code_expired": deviceExpired, "bad_verification_code": deviceExpired,
}

// deviceMeanings are numbers in the answers to PollDevice; the rest is
// personMeanings.
var deviceMeanings = map[string]meaning{
	"70016": devicePending, "50199": devicePending,
	"70019": deviceExpired, "70020": deviceExpired, "70018": deviceExpired, "90120": deviceExpired, "50134": deviceExpired,
	"53003": deviceBlocked, "53000": deviceBlocked, "53001": deviceBlocked, "53002": deviceBlocked, "50097": deviceBlocked,
	"530032": deviceBlocked, "530034": deviceBlocked, "530035": deviceBlocked,
	"50076": deviceMFA, "50079": deviceMFA, "50074": deviceMFA, "50158": deviceMFA,
}

var (
	devicePending = meaning{backup.ProblemDevicePending,
		"The code was not entered at Microsoft's page yet, or the sign-in there is not finished. Finish it, then select Verify & Continue.", true}
	deviceExpired = meaning{backup.ProblemDeviceExpired,
		"The code has expired or was used already. Get a new one; each is good for 15 minutes. If Microsoft's page refused you, the tenant may block device codes: select Authorize in this browser.", false}
	deviceBlocked = meaning{backup.ProblemDeviceBlocked,
		"Your tenant blocks sign-in with device codes, as Microsoft recommends. Leave the policy as it is and select Authorize in this browser, which needs no code, or Run the script instead.", false}
	deviceMFA = meaning{backup.ProblemDeviceBlocked,
		"Microsoft wants a stronger sign-in than a device code can give. Select Authorize in this browser, which needs no code.", false}
)

// roleRefreshMeanings are for RefreshRole; the rest is personMeanings. A token
// that came from a device code dies when the tenant blocks device codes.
var roleRefreshMeanings = map[string]meaning{
	"53003": refreshBlocked, "53000": refreshBlocked, "53001": refreshBlocked, "53002": refreshBlocked,
	"530032": refreshBlocked, "530034": refreshBlocked, "530035": refreshBlocked,
}

var refreshBlocked = meaning{backup.ProblemSignInExpired,
	"A Conditional Access policy of the tenant ended the earlier sign-in. Select Authorize in this browser once more; Holdfast goes on where it stopped.", false}

// applicationMeanings are for sub-applications that sign in by themselves.
var applicationMeanings = map[string]meaning{
	"700016": applicationGone, "7000229": applicationGone, "unauthorized_client": applicationGone,
	"7000112": {backup.ProblemApplicationOff,
		"Holdfast's application is disabled in the tenant. Select Repair under Account Settings, Credentials, or enable it in the Entra admin center under Enterprise applications, Properties, Enabled for users to sign in.", false},
	"7000215": credential, "700027": credential, "700030": credential, "7000218": credential, "invalid_client": credential,
	"7000222": {backup.ProblemCredential,
		"The certificate of Holdfast's application has expired. Select Repair under Account Settings, Credentials: a sign-in of an administrator gives it a new one.", false},
	"65001": permissionGone, "650057": permissionGone, "90093": permissionGone, "90094": permissionGone, "90095": permissionGone,
	"90002": applicationTenantGone, "900023": applicationTenantGone, "5000224": applicationTenantGone,
	"53003": workloadPolicy, "530032": workloadPolicy, "530034": workloadPolicy, "530035": workloadPolicy, "53000": workloadPolicy, "53001": workloadPolicy,
}

// mainMeanings are for the main application where it signs in by itself: in
// tenants that a backup administrator authorized.
var mainMeanings = map[string]meaning{
	"700016": mainGone, "7000229": mainGone, "unauthorized_client": mainGone, "65001": mainGone,
	"7000112": {backup.ProblemApplicationOff,
		"Holdfast's main application is disabled in the tenant. Enable it in the Entra admin center under Enterprise applications, Properties, Enabled for users to sign in.", false},
	"7000215": mainCredential, "700027": mainCredential, "700030": mainCredential, "7000218": mainCredential, "7000222": mainCredential, "invalid_client": mainCredential,
}

var (
	mainGone = meaning{backup.ProblemConsentMissing,
		"The tenant no longer lets Holdfast's main application in. The backup administrator has to authorize it again under Settings, Credentials.", false}
	mainCredential = meaning{backup.ProblemCredential,
		"Microsoft does not accept the credential of Holdfast's main application. Whoever runs this Holdfast has to renew it in its configuration.", false}
)

var (
	applicationGone = meaning{backup.ProblemApplicationGone,
		"Holdfast's application, or its enterprise application, was deleted in the tenant. Select Repair under Account Settings, Credentials: a sign-in of an administrator makes it anew.", false}
	credential = meaning{backup.ProblemCredential,
		"Microsoft does not accept the certificate of Holdfast's application: it was removed or replaced in the tenant. Select Repair under Account Settings, Credentials: a sign-in of an administrator gives it a new one.", false}
	applicationTenantGone = meaning{backup.ProblemApplicationGone, "Microsoft does not know this tenant any more. What was backed up stays as it is.", false}
	workloadPolicy        = meaning{backup.ProblemPolicy,
		"A Conditional Access policy for workload identities blocks Holdfast's application. Allow it from the address of this server.", false}
)

// entraProblem reads a refusal with the given tables, the more special ones
// first. The names of RFC 8628 say all; otherwise numbers say more than names.
func entraProblem(r refusal, cause error, tables ...map[string]meaning) *backup.Problem {
	name := ""
	if len(r.codes) > 0 {
		name = r.codes[0]
	}
	if m, ok := deviceNames[name]; ok {
		p := r.problem(m, cause)
		if name == "slow_down" {
			p.RetryAfter = max(p.RetryAfter, slowDown)
		}
		return p
	}
	codes := r.codes
	if len(codes) > 1 {
		codes = []string{codes[1], name}
		if name == "invalid_request" || name == "invalid_resource" {
			codes = codes[:1] // says too little to hide a number that support needs
		}
	}
	for _, code := range codes {
		for _, table := range append(tables, entraMeanings) {
			if m, ok := table[code]; ok {
				return r.problem(m, cause)
			}
		}
	}
	m, _ := r.general()
	return r.problem(m, cause)
}

// freshApplication says whether a refusal is what Entra says of an application
// while its directory is still replicating.
func freshApplication(r refusal) bool {
	return r.has("700016", "7000215", "7000229", "700027")
}
