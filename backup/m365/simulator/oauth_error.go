package simulator

import (
	"fmt"
	"net/http"
	"strings"
)

// aadProblem is an error of Entra with its AADSTS number.
type aadProblem struct {
	number   int
	code     string // OAuth's error
	status   int
	text     string
	suberror string
}

// aadProblems are the numbers of auth.md 1.4, 1.8 and 1.9. In the texts, {app}
// and {tenant} stand for client id and tenant.
var aadProblems = map[int]aadProblem{
	// Refresh tokens (1.8).
	50173:  {code: "invalid_grant", text: "The provided grant has expired due to it being revoked, a fresh auth token is needed. The user might have changed or reset their password. The grant was issued on '{issued}' and the TokensValidFrom date (before which tokens are not valid) for this user is '{valid}'."},
	700082: {code: "invalid_grant", text: "The refresh token has expired due to inactivity. The token was issued on {issued} and was inactive for 90.00:00:00."},
	70008:  {code: "invalid_grant", text: "The provided authorization code or refresh token has expired due to inactivity. Send a new interactive authorization request for this user and resource."},
	700084: {code: "invalid_grant", text: "The refresh token was issued to a single page app (SPA), and therefore has a fixed, limited lifetime of 1.00:00:00, which can't be extended."},
	70043:  {code: "invalid_grant", text: "The refresh token has expired or is invalid due to sign-in frequency checks by conditional access.", suberror: "bad_token"},
	50076:  {code: "interaction_required", text: "Due to a configuration change made by your administrator, or because you moved to a new location, you must use multi-factor authentication to access '{app}'.", suberror: "basic_action"},
	50079:  {code: "interaction_required", text: "Due to a configuration change made by your administrator, or because you moved to a new location, you must enroll in multi-factor authentication to access '{app}'.", suberror: "basic_action"},
	50074:  {code: "interaction_required", text: "Strong Authentication is required."},
	50078:  {code: "interaction_required", text: "Presented multi-factor authentication has expired due to policies configured by your administrator, you must refresh your multi-factor authentication to access '{app}'."},
	53000:  {code: "interaction_required", text: "Device is not in required device state: unregistered. Conditional Access policy requires a compliant device, and the device is not compliant.", suberror: "message_only"},
	53001:  {code: "interaction_required", text: "Device is not in required device state: unregistered. Conditional Access policy requires a domain joined device, and the device is not domain joined.", suberror: "message_only"},
	53003:  {code: "interaction_required", text: "Access has been blocked by Conditional Access policies. The access policy does not allow token issuance.", suberror: "message_only"},
	530032: {code: "interaction_required", text: "Access has been blocked by security policy.", suberror: "message_only"},
	530034: {code: "interaction_required", text: "A delegated administrator was blocked from accessing the tenant due to account risk in their home tenant.", suberror: "message_only"},
	530035: {code: "interaction_required", text: "Access has been blocked by security defaults.", suberror: "message_only"},
	50057:  {code: "invalid_grant", text: "The user account is disabled."},
	65001:  {code: "invalid_grant", text: "The user or administrator has not consented to use the application with ID '{app}' named '{name}'. Send an interactive authorization request for this user and resource.", suberror: "consent_required"},
	50158:  {code: "interaction_required", text: "External security challenge not satisfied. User will be redirected to another page or authentication provider to satisfy additional authentication challenges."},
	// Applications (1.9).
	700016:  {code: "unauthorized_client", text: "Application with identifier '{app}' was not found in the directory '{tenant}'. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You may have sent your authentication request to the wrong tenant."},
	7000229: {code: "invalid_client", text: "The client application {app} is missing service principal in the tenant {tid}. See instructions here: https://go.microsoft.com/fwlink/?linkid=2225119"},
	7000112: {code: "unauthorized_client", text: "Application '{app}'({name}) is disabled."},
	7000215: {code: "invalid_client", text: "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '{app}'."},
	7000222: {code: "invalid_client", text: "The provided client secret keys for app '{app}' are expired. Visit the Azure portal to create new keys for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials for added security: https://aka.ms/certCreds."},
	700027:  {code: "invalid_client", text: "The certificate with identifier used to sign the client assertion is not registered on application. [Reason - The key was not found., Application ID: {app}]"},
	700030:  {code: "invalid_client", text: "Invalid certificate - subject name in certificate is not authorized. SubjectNames/SubjectAlternativeNames (up to 10) in token certificate are: . "},
	90002:   {code: "invalid_request", text: "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud. Check with your subscription administrator, this may happen if there are no active subscriptions for the tenant."},
	5000224: {code: "invalid_request", text: "We are sorry, this resource is not available."},
	500011:  {code: "invalid_resource", text: "The resource principal named {resource} was not found in the tenant named {tenant}. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You might have sent your authentication request to the wrong tenant."},
	650057:  {code: "invalid_resource", text: "Invalid resource. The client has requested access to a resource which is not listed in the requested permissions in the client's application registration. Client app ID: {app}({name})."},
	90093:   {code: "access_denied", text: "Graph returned with forbidden error code for the request."},
	90094:   {code: "access_denied", text: "An administrator of {tenant} has set a policy that prevents you from granting {name} the permissions it is requesting. Contact an administrator of {tenant}, who can grant permissions to this application on your behalf."},
	90095:   {code: "access_denied", text: "Admin consent is required for the permissions requested by this application. An admin consent request may be sent to the admin."},
	65002:   {code: "invalid_client", text: "Consent between first party application '{app}' and first party resource must be configured via preauthorization - applications owned and operated by Microsoft must get approval from the API owner before requesting tokens for that API."},
	65004:   {code: "access_denied", text: "User declined to consent to access the app."},
	90055:   {code: "temporarily_unavailable", status: http.StatusTooManyRequests, text: "The service is temporarily unavailable. Please retry later."},
	90024:   {code: "temporarily_unavailable", status: http.StatusServiceUnavailable, text: "RequestBudgetExceededError: a transient error has occurred. Please try again."},
	50020:   {code: "invalid_grant", text: "User account '{user}' from identity provider 'https://sts.windows.net/{usertid}/' does not exist in tenant '{tenant}' and cannot access the application '{app}'({name}) in that tenant. The account needs to be added as an external user in the tenant first. Sign out and sign in again with a different Azure Active Directory user account."},
	50177:   {code: "invalid_grant", text: "User account '{user}' from identity provider does not exist in tenant '{tenant}' and cannot access the application '{app}' in that tenant. The account needs to be added as an external user in the tenant first."},
	90072:   {code: "invalid_grant", text: "User account '{user}' from identity provider 'live.com' does not exist in tenant '{tenant}' and cannot access the application '{app}' in that tenant."},
	90099:   {code: "unauthorized_client", text: "The application '{app}' ({name}) has not been authorized in the tenant '{tid}'. Applications must be authorized to access the customer tenant before partner delegated administrators can use them."},
	// Device codes (1.4).
	70016:   {code: "authorization_pending", text: "OAuth 2.0 device flow error. Authorization is pending. Continue polling."},
	70018:   {code: "bad_verification_code", text: "Invalid verification code. The device_code is not known."},
	70019:   {code: "expired_token", text: "Verification code expired."},
	70020:   {code: "expired_token", text: "The provided value for the input parameter 'device_code' is not valid. This device code has expired."},
	90120:   {code: "invalid_request", text: "The device code was already authorized or declined."},
	7000218: {code: "invalid_client", text: "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."},
	9001023: {code: "invalid_request", text: "The grant type is not supported over the /common or /consumers endpoints. Please use the /organizations or tenant-specific endpoint."},
	// Sign-in and codes. assumed: aadsts-texts
	50011:   {code: "invalid_request", text: "The redirect URI '{redirect}' specified in the request does not match the redirect URIs configured for the application '{app}'. Make sure the redirect URI sent in the request matches one added to your application in the Azure portal. Navigate to https://aka.ms/redirectUriMismatchError to learn more about how to fix this."},
	50058:   {code: "login_required", text: "Session information is not sufficient for single-sign-on."},
	50059:   {code: "invalid_request", text: "No tenant-identifying information found in either the request or implied by any provided credentials."},
	50126:   {code: "invalid_grant", text: "Error validating credentials due to invalid username or password."},
	50194:   {code: "invalid_request", text: "Application '{app}'({name}) is not configured as a multi-tenant application. Usage of the /common endpoint is not supported for such apps. Use a tenant-specific endpoint or configure the application to be multi-tenant."},
	54005:   {code: "invalid_grant", text: "OAuth2 Authorization code was already redeemed, please retry with a new valid code or use an existing refresh token."},
	70000:   {code: "invalid_grant", text: "Provided grant is invalid or malformed."},
	70003:   {code: "unsupported_grant_type", text: "The app requested an unsupported grant type '{grant}'."},
	70011:   {code: "invalid_scope", text: "The provided request must include a 'scope' input parameter. The provided value for the input parameter 'scope' is not valid. The scope {scope} is not valid."},
	90023:   {code: "invalid_request", text: "Invalid STS request."},
	500112:  {code: "invalid_client", status: http.StatusBadRequest, text: "The reply address '{redirect}' does not match the reply address provided when requesting Authorization code."},
	501481:  {code: "invalid_grant", text: "The Code_Verifier does not match the code_challenge supplied in the authorization request."},
	700023:  {code: "invalid_client", text: "Client assertion audience claim does not match Realm issuer. Review the documentation at https://docs.microsoft.com/azure/active-directory/develop/active-directory-certificate-credentials."},
	700024:  {code: "invalid_client", text: "Client assertion is not within its valid time range. Review the documentation at https://docs.microsoft.com/azure/active-directory/develop/active-directory-certificate-credentials ."},
	700021:  {code: "invalid_client", text: "Client assertion application identifier doesn't match 'client_id' parameter."},
	1002012: {code: "invalid_scope", text: "The provided value for scope {scope} is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI)."},
	70001:   {code: "unauthorized_client", text: "Application '{app}' is not supported for the flow."},
	28000:   {code: "invalid_scope", text: "Provided value for the input parameter scope is not valid because it contains more than one resource. Scope {scope} is not valid."},
	650053:  {code: "invalid_scope", text: "The application asked for scope '{scope}' that doesn't exist on the resource '{resource}'. Contact the app vendor."},
	700054:  {code: "unsupported_response_type", text: "response_type '{type}' is not enabled for the application."},
	900144:  {code: "invalid_request", text: "The request body must contain the following parameter: '{field}'."},
	900561:  {code: "invalid_request", text: "The endpoint only accepts POST requests. Received a GET request."},
	500341:  {code: "invalid_grant", text: "The user account has been deleted from the {tid} directory. To sign into this application, the account must be added to the directory."},
	70012:   {code: "server_error", status: http.StatusInternalServerError, text: "A server error occurred while authenticating an MSA (consumer) user."},
}

// aad returns the problem of a number. text replaces Microsoft's if given.
func aad(number int, text string, replace ...string) *aadProblem {
	p, ok := aadProblems[number]
	if !ok {
		p = aadProblem{code: "invalid_request", text: "An error occurred."}
	}
	p.number = number
	p.text = strings.NewReplacer(replace...).Replace(firstOf(text, p.text))
	if p.status == 0 {
		// auth.md 1.3: invalid_client 401, the rest 400.
		p.status = http.StatusBadRequest
		if p.code == "invalid_client" {
			p.status = http.StatusUnauthorized
		}
	}
	return &p
}

// with replaces error and status if they are given.
func (p *aadProblem) with(code string, status int) *aadProblem {
	if code != "" {
		p.code = code
	}
	if status != 0 {
		p.status = status
	}
	return p
}

// fill replaces what the text still names in braces.
func (p *aadProblem) fill(replace ...string) *aadProblem {
	p.text = strings.NewReplacer(replace...).Replace(p.text)
	return p
}

// description is the text as Entra sends it (auth.md 1.3).
func (s *Simulator) description(w *answer, p *aadProblem) (text, trace, correlation, stamp string) {
	trace, correlation = firstOf(w.header.Get("x-ms-request-id"), newGUID()), newGUID()
	stamp = s.now().Format("2006-01-02 15:04:05Z")
	text = fmt.Sprintf("AADSTS%d: %s Trace ID: %s Correlation ID: %s Timestamp: %s", p.number, p.text, trace, correlation, stamp)
	return text, trace, correlation, stamp
}

// aadError answers as the token endpoint does when it refuses (auth.md 1.3).
func (s *Simulator) aadError(w *answer, p *aadProblem) {
	text, trace, correlation, stamp := s.description(w, p)
	body := map[string]any{
		"error": p.code, "error_description": strings.NewReplacer(" Trace ID:", "\r\nTrace ID:", " Correlation ID:", "\r\nCorrelation ID:", " Timestamp:", "\r\nTimestamp:").Replace(text),
		"error_codes": []int{p.number}, "timestamp": stamp, "trace_id": trace, "correlation_id": correlation,
		"error_uri": fmt.Sprintf("https://login.microsoftonline.com/error?code=%d", p.number),
	}
	if p.suberror != "" {
		body["suberror"] = p.suberror
	}
	w.json(p.status, body)
}
