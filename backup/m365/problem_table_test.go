package m365

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"holdfast/backup"
)

// The tables go through Microsoft's errors section by section, as collected in
// microsoft/auth.md: who gets one has a kind, which pages branch on, and a
// sentence on what to do.

// checkSentence fails the test unless a person can act on the problem.
func checkSentence(t *testing.T, name string, p *backup.Problem, kind backup.ProblemKind) {
	t.Helper()
	if p == nil {
		t.Errorf("%s: no problem", name)
		return
	}
	if p.Kind != kind {
		t.Errorf("%s: kind %s, want %s (%s)", name, p.Kind, kind, p.Text)
	}
	acts := []string{"Sign in", "sign in", "Select", "select", "Get a new", "Finish", "Try again", "try again", "tries again", "Start", "Assign", "assign", "Enable", "allow", "Allow", "Exempt",
		"goes on", "check", "Check", "Set the clock", "has to", "Delete", "ask", "Another administrator", "Remove", "make", "stays as it is", "give these"}
	if !strings.HasSuffix(p.Text, ".") || !slices.ContainsFunc(acts, func(a string) bool { return strings.Contains(p.Text, a) }) {
		t.Errorf("%s: nobody knows what to do after %q", name, p.Text)
	}
	for _, secret := range []string{"Bearer", "eyJ", "client_secret="} {
		if strings.Contains(p.Text, secret) {
			t.Errorf("%s: the sentence has %q", name, secret)
		}
	}
	if p.At.IsZero() {
		t.Errorf("%s: no time", name)
	}
}

func entraBody(name string, number int) string {
	if number == 0 {
		return fmt.Sprintf(`{"error":%q,"error_description":"no number","trace_id":"t-1"}`, name)
	}
	return fmt.Sprintf(`{"error":%q,"error_description":"AADSTS%d: text\r\nTrace ID: t-1","error_codes":[%d],"trace_id":"t-1"}`, name, number, number)
}

type entraRow struct {
	name   string
	number int
	kind   backup.ProblemKind
}

func checkEntra(t *testing.T, section string, rows []entraRow, tables ...map[string]meaning) {
	t.Helper()
	for _, row := range rows {
		p := entraProblem(parseEntra(entraAnswer(entraBody(row.name, row.number))), errors.New("cause"), tables...)
		checkSentence(t, fmt.Sprintf("%s %s %d", section, row.name, row.number), p, row.kind)
		if p.RequestID != "t-1" {
			t.Errorf("%s %s %d: trace id %q", section, row.name, row.number, p.RequestID)
		}
	}
}

// auth.md 1.4: the device code, when it is asked for and when it is polled.
func TestErrorsOfTheDeviceCode(t *testing.T) {
	const blocked, pending, expired = backup.ProblemDeviceBlocked, backup.ProblemDevicePending, backup.ProblemDeviceExpired
	checkEntra(t, "1.4", []entraRow{
		{"authorization_pending", 70016, pending}, {"slow_down", 0, pending}, {"interaction_required", 50199, pending},
		{"authorization_declined", 0, backup.ProblemDeviceDeclined},
		{"expired_token", 70019, expired}, {"code_expired", 70020, expired}, {"expired_token", 0, expired},
		{"bad_verification_code", 70018, expired}, {"invalid_request", 90120, expired}, {"invalid_request", 50134, expired},
		{"invalid_client", 7000218, backup.ProblemCredential},
		{"invalid_request", 9001023, backup.ProblemUnknown}, // /common: Holdfast never asks there
		{"interaction_required", 53003, blocked}, {"invalid_grant", 53000, blocked}, {"invalid_grant", 53001, blocked}, {"invalid_grant", 53002, blocked},
		{"invalid_grant", 50097, blocked}, {"invalid_grant", 530032, blocked}, {"invalid_grant", 530034, blocked}, {"invalid_grant", 530035, blocked},
		{"interaction_required", 50076, blocked}, {"interaction_required", 50079, blocked}, {"interaction_required", 50074, blocked}, {"interaction_required", 50158, blocked},
		{"invalid_grant", 65001, backup.ProblemConsentMissing}, {"invalid_grant", 50057, backup.ProblemSignInExpired},
		{"access_denied", 65004, backup.ProblemDeclined}, {"invalid_request", 90002, backup.ProblemWrongTenant},
		{"invalid_grant", 50020, backup.ProblemWrongTenant}, {"invalid_grant", 50105, backup.ProblemNotAdministrator},
		{"temporarily_unavailable", 90055, backup.ProblemThrottled}, {"server_error", 0, backup.ProblemUnavailable},
	}, deviceMeanings, personMeanings)
	p := entraProblem(parseEntra(entraAnswer(entraBody("interaction_required", 53003))), nil, deviceMeanings, personMeanings)
	if !strings.Contains(p.Text, "Authorize in this browser") || !strings.Contains(p.Text, "script") || p.Code != "AADSTS53003" || !strings.Contains(p.Text, "Leave the policy as it is") {
		t.Errorf("blocked: %s %q", p.Code, p.Text)
	}
}

// auth.md 1.5: what comes back from consent.
func TestErrorsOfConsent(t *testing.T) {
	for query, kind := range map[string]backup.ProblemKind{
		"error=access_denied&error_subcode=cancel":                                 backup.ProblemDeclined,
		"admin_consent=True&error=consent_required&error_description=AADSTS65004":  backup.ProblemDeclined,
		"error=permission_denied&error_description=The+admin+canceled+the+request": backup.ProblemDeclined,
		"error=access_denied&error_description=AADSTS90093":                        backup.ProblemNotAdministrator,
		"error=access_denied&error_description=AADSTS90094":                        backup.ProblemNotAdministrator,
		"error=access_denied&error_description=AADSTS90095":                        backup.ProblemNotAdministrator,
		"error=interaction_required&error_description=AADSTS65001":                 backup.ProblemConsentMissing,
		"error=invalid_client&error_description=AADSTS650057":                      backup.ProblemCredential,
		"error=invalid_client&error_description=AADSTS50011":                       backup.ProblemCredential,
		"error=invalid_request&error_description=AADSTS65002":                      backup.ProblemCredential,
		"error=invalid_resource&error_description=AADSTS500011":                    backup.ProblemNoExchange,
		"error=invalid_resource&error_description=AADSTS650052":                    backup.ProblemNoExchange,
		"error=access_denied&error_description=AADSTS50105":                        backup.ProblemNotAdministrator,
		"error=interaction_required&error_description=AADSTS90072":                 backup.ProblemWrongTenant,
		"error=interaction_required&error_description=AADSTS50177":                 backup.ProblemWrongTenant,
		"error=interaction_required&error_description=AADSTS50020":                 backup.ProblemWrongTenant,
		"error=unauthorized_client&error_description=AADSTS90099":                  backup.ProblemConsentMissing,
		"error=unauthorized_client&error_description=AADSTS700016":                 backup.ProblemConsentMissing,
		"error=unauthorized_client&error_description=AADSTS7000112":                backup.ProblemApplicationOff,
		"error=interaction_required&error_description=AADSTS53003":                 backup.ProblemPolicy,
		"error=login_required":                         backup.ProblemSignInExpired,
		"error=temporarily_unavailable":                backup.ProblemThrottled,
		"error=server_error":                           backup.ProblemUnavailable,
		"error=brand_new&error_description=AADSTS4711": backup.ProblemUnknown,
	} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		checkSentence(t, "1.5 "+query, CallbackProblem(q), kind)
	}
}

// auth.md 1.8: the administrator's refresh token.
func TestErrorsOfRefreshTokens(t *testing.T) {
	const ended = backup.ProblemSignInExpired
	checkEntra(t, "1.8", []entraRow{
		{"invalid_grant", 50173, ended}, {"invalid_grant", 700082, ended}, {"invalid_grant", 70008, ended}, {"invalid_grant", 700084, ended}, {"invalid_grant", 70043, ended},
		{"interaction_required", 50076, ended}, {"interaction_required", 50079, ended}, {"interaction_required", 50074, ended}, {"interaction_required", 50078, ended},
		{"interaction_required", 53000, ended}, {"interaction_required", 53001, ended}, {"interaction_required", 53003, ended},
		{"interaction_required", 530032, ended}, {"interaction_required", 530034, ended}, {"interaction_required", 530035, ended},
		{"invalid_grant", 50057, ended}, {"interaction_required", 50158, ended}, {"invalid_grant", 65001, backup.ProblemConsentMissing},
	}, roleRefreshMeanings, personMeanings)
}

// auth.md 1.9: a sub-application that signs in by itself.
func TestErrorsOfApplications(t *testing.T) {
	const gone, refused = backup.ProblemApplicationGone, backup.ProblemCredential
	checkEntra(t, "1.9", []entraRow{
		{"unauthorized_client", 700016, gone}, {"invalid_client", 7000229, gone}, {"unauthorized_client", 7000112, backup.ProblemApplicationOff}, {"invalid_client", 7000112, backup.ProblemApplicationOff},
		{"invalid_client", 7000215, refused}, {"invalid_client", 7000222, refused}, {"invalid_client", 700027, refused}, {"invalid_client", 700030, refused},
		{"invalid_client", 7000218, refused}, {"invalid_client", 700024, refused}, {"invalid_client", 0, refused},
		{"invalid_request", 90002, gone}, {"invalid_request", 900023, gone}, {"invalid_request", 5000224, gone},
		{"invalid_resource", 500011, backup.ProblemNoExchange}, {"invalid_resource", 650057, backup.ProblemPermission},
		{"invalid_grant", 65001, backup.ProblemPermission}, {"invalid_grant", 90093, backup.ProblemPermission}, {"invalid_grant", 90094, backup.ProblemPermission}, {"invalid_grant", 90095, backup.ProblemPermission},
		{"access_denied", 53003, backup.ProblemPolicy}, {"access_denied", 530032, backup.ProblemPolicy}, {"access_denied", 530034, backup.ProblemPolicy}, {"access_denied", 530035, backup.ProblemPolicy},
		{"temporarily_unavailable", 90055, backup.ProblemThrottled}, {"temporarily_unavailable", 90024, backup.ProblemThrottled},
		{"server_error", 0, backup.ProblemUnavailable}, {"something_new", 4711, backup.ProblemUnknown},
	}, applicationMeanings)
}

// auth.md 2.2 to 2.4: the administrator's calls to the directory.
func TestErrorsOfTheDirectory(t *testing.T) {
	for _, row := range []struct {
		status        int
		code, message string
		kind          backup.ProblemKind
	}{
		{403, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.", backup.ProblemNotAdministrator},
		{401, "InvalidAuthenticationToken", "Lifetime validation failed, the token is expired.", backup.ProblemSignInExpired},
		{400, "CredentialTypeNotAllowedAsPerAppPolicy", "Credential type is not allowed as per assigned policy 'x'.", backup.ProblemPolicy},
		{400, "CredentialInvalidLifetimeAsPerAppPolicy", "Credential lifetime exceeds the max value allowed", backup.ProblemPolicy},
		{400, "SignInAudienceNotAllowedAsPerAppPolicy", "x", backup.ProblemPolicy},
		{400, "HostNameNotOnVerifiedDomain", "x", backup.ProblemPolicy},
		{403, "Directory_QuotaExceeded", "x", backup.ProblemPolicy},
		{409, "Directory_ConcurrencyViolation", "x", backup.ProblemUnavailable},
		{409, "Request_MultipleObjectsWithSameKeyValue", "The service principal cannot be created, updated, or restored because the service principal name x is already in use.", backup.ProblemUnavailable},
		{404, "Request_ResourceNotFound", "Resource 'x' does not exist or one of its queried reference-property objects are not present.", backup.ProblemUnavailable},
		{400, "Request_BadRequest", "The appId 'x' of the service principal does not reference a valid application object.", backup.ProblemUnavailable},
		{400, "Request_BadRequest", "Not a valid reference update.", backup.ProblemUnavailable},
		{400, "Request_BadRequest", "Permission being assigned was not found on application 'x'.", backup.ProblemPermission},
		{429, "TooManyRequests", "x", backup.ProblemThrottled},
		{503, "ServiceUnavailable", "x", backup.ProblemUnavailable},
		{504, "GatewayTimeout", "x", backup.ProblemUnavailable},
		{400, "Request_Brand_New", "x", backup.ProblemUnknown},
	} {
		body := fmt.Sprintf(`{"error":{"code":%q,"message":%q,"innerError":{"request-id":"r-1"}}}`, row.code, row.message)
		p := directoryProblem(parseGraph(&answer{status: row.status, header: http.Header{}, body: []byte(body)}), errors.New("cause"))
		checkSentence(t, fmt.Sprintf("2 %d %s %s", row.status, row.code, row.message), p, row.kind)
		if p.RequestID != "r-1" || p.Code != row.code {
			t.Errorf("%s: code %s request %s", row.code, p.Code, p.RequestID)
		}
	}
}

// auth.md 4.3 and 5: cmdlets, of an administrator and of the application.
func TestErrorsOfCmdlets(t *testing.T) {
	for _, row := range []struct {
		status         int
		kind, text     string
		person, itself backup.ProblemKind
	}{
		{400, "InvalidOperationInDehydratedContextException", "The command you tried to run isn't currently allowed in your organization. To run this command, you first need to run the command: Enable-OrganizationCustomization.", backup.ProblemRolePending, backup.ProblemUnknown},
		{404, "ManagementObjectNotFoundException", "The operation couldn't be performed because object 'X' couldn't be found on 'DC'.", backup.ProblemRolePending, backup.ProblemRolePending},
		{400, "AADServicePrincipalNotFound", "AADServicePrincipalNotFound: No ServicePrincipal with Object Id 'X' is registered", backup.ProblemRolePending, backup.ProblemRolePending},
		{400, "CommandNotFoundException", "The term 'New-RoleGroup' is not recognized", backup.ProblemMissingCmdlets, backup.ProblemRolePending},
		{400, "CmdletAccessDeniedException", `The user "x" isn't assigned to any management roles.`, backup.ProblemMissingCmdlets, backup.ProblemRolePending},
		{400, "", "The cmdlet New-RoleGroup is not present in the role definition of the current user", backup.ProblemMissingCmdlets, backup.ProblemRolePending},
		{400, "", "You don't have access to create, change, or remove the \"X\" management role assignment. You must be assigned a delegating role assignment to the management role or its parent in the hierarchy without a scope restriction.", backup.ProblemNotAdministrator, backup.ProblemUnknown},
		{400, "", "PowerShell is disabled for this user: EXOModuleEnabled", backup.ProblemPowerShellOff, backup.ProblemUnknown},
		{400, "", "doesn't have write permission to target DC: insufficient access rights", backup.ProblemUnavailable, backup.ProblemUnavailable},
		{400, "UnableToWriteToAadException", "x", backup.ProblemUnavailable, backup.ProblemUnavailable},
		{400, "ADTransientException", "The issue may be transient", backup.ProblemUnavailable, backup.ProblemUnavailable},
		{400, "", "You have reached the maximum number of concurrent requests per tenant. Please wait and try again", backup.ProblemUnavailable, backup.ProblemUnavailable},
		{401, "", "", backup.ProblemSignInExpired, backup.ProblemPermission},
		{403, "", "", backup.ProblemMissingCmdlets, backup.ProblemRolePending},
		{408, "", "", backup.ProblemUnavailable, backup.ProblemUnavailable},
		{429, "", "", backup.ProblemThrottled, backup.ProblemThrottled},
		{500, "", "InternalServerError", backup.ProblemUnavailable, backup.ProblemUnavailable},
		{503, "", "", backup.ProblemUnavailable, backup.ProblemUnavailable},
		{504, "", "", backup.ProblemUnavailable, backup.ProblemUnavailable},
		{400, "BrandNewException", "never seen", backup.ProblemUnknown, backup.ProblemUnknown},
	} {
		e := &exchangeError{refusal: refusal{status: row.status, code: row.kind, message: row.text, requestID: "r-1"}, kind: row.kind}
		name := fmt.Sprintf("4.3 %d %s %s", row.status, row.kind, row.text)
		checkSentence(t, name+" (person)", backup.AsProblem(roleProblem(e)), row.person)
		checkSentence(t, name+" (application)", backup.AsProblem(roleCheckProblem(e)), row.itself)
	}
	for _, e := range []*exchangeError{
		{kind: "ADObjectAlreadyExistsException"}, {kind: "MemberAlreadyExistsException"}, {refusal: refusal{message: "The object 'CN=rg' already exists."}}, {refusal: refusal{message: "DSAlreadyExist"}},
	} {
		if !e.exists() {
			t.Errorf("%+v is success", e)
		}
	}
	if e := (&exchangeError{refusal: refusal{message: "This operation is not required. Organization is already enabled for customization."}}); !e.notRequired() {
		t.Error("a second Enable-OrganizationCustomization is success")
	}
}
