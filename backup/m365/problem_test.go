package m365

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"holdfast/backup"
)

func entraAnswer(body string) *answer {
	return &answer{status: 400, header: http.Header{}, body: []byte(body)}
}

func TestEntraRefusals(t *testing.T) {
	person := []map[string]meaning{personMeanings}
	device := []map[string]meaning{deviceMeanings, personMeanings}
	refresh := []map[string]meaning{roleRefreshMeanings, personMeanings}
	application := []map[string]meaning{applicationMeanings}
	for _, test := range []struct {
		name   string
		body   string
		tables []map[string]meaning
		kind   backup.ProblemKind
		code   string
		again  bool
	}{
		{"revoked", `{"error":"invalid_grant","error_codes":[50173]}`, refresh, backup.ProblemSignInExpired, "AADSTS50173", false},
		{"idle", `{"error":"invalid_grant","error_codes":[700082]}`, refresh, backup.ProblemSignInExpired, "AADSTS700082", false},
		{"number in the text only", `{"error":"invalid_grant","error_description":"AADSTS70008: expired."}`, person, backup.ProblemSignInExpired, "AADSTS70008", false},
		{"blocked while refreshing", `{"error":"interaction_required","error_codes":[53003],"suberror":"message_only"}`, refresh, backup.ProblemSignInExpired, "AADSTS53003", false},
		{"blocked in the browser", `{"error":"interaction_required","error_codes":[53003]}`, person, backup.ProblemPolicy, "AADSTS53003", false},
		{"blocked device code", `{"error":"interaction_required","error_codes":[53003]}`, device, backup.ProblemDeviceBlocked, "AADSTS53003", false},
		{"pending", `{"error":"authorization_pending","error_codes":[70016]}`, device, backup.ProblemDevicePending, "AADSTS70016", true},
		{"slow down", `{"error":"slow_down"}`, device, backup.ProblemDevicePending, "slow_down", true},
		{"declined with a number", `{"error":"authorization_declined","error_codes":[65004]}`, device, backup.ProblemDeviceDeclined, "AADSTS65004", false},
		{"declined", `{"error":"authorization_declined"}`, device, backup.ProblemDeviceDeclined, "authorization_declined", false},
		{"expired", `{"error":"expired_token","error_codes":[70020]}`, device, backup.ProblemDeviceExpired, "AADSTS70020", false},
		{"expired, other name", `{"error":"code_expired"}`, device, backup.ProblemDeviceExpired, "code_expired", false},
		{"unknown code", `{"error":"bad_verification_code","error_codes":[70018]}`, device, backup.ProblemDeviceExpired, "AADSTS70018", false},
		{"no public client", `{"error":"invalid_client","error_codes":[7000218]}`, device, backup.ProblemCredential, "AADSTS7000218", false},
		{"no consent", `{"error":"invalid_grant","error_codes":[65001]}`, person, backup.ProblemConsentMissing, "AADSTS65001", false},
		{"other number, known name", `{"error":"invalid_grant","error_codes":[4711]}`, person, backup.ProblemSignInExpired, "AADSTS4711", false},
		{"unknown", `{"error":"invalid_request","error_codes":[4711],"trace_id":"t-1"}`, person, backup.ProblemUnknown, "AADSTS4711", false},
		{"main application removed from the tenant", `{"error":"unauthorized_client","error_codes":[700016]}`, refresh, backup.ProblemConsentMissing, "AADSTS700016", false},
		{"application deleted", `{"error":"unauthorized_client","error_codes":[700016]}`, application, backup.ProblemApplicationGone, "AADSTS700016", false},
		{"principal deleted", `{"error":"invalid_client","error_codes":[7000229]}`, application, backup.ProblemApplicationGone, "AADSTS7000229", false},
		{"application off", `{"error":"unauthorized_client","error_codes":[7000112]}`, application, backup.ProblemApplicationOff, "AADSTS7000112", false},
		{"certificate gone", `{"error":"invalid_client","error_codes":[700027]}`, application, backup.ProblemCredential, "AADSTS700027", false},
		{"certificate expired", `{"error":"invalid_client","error_codes":[7000222]}`, application, backup.ProblemCredential, "AADSTS7000222", false},
		{"no Exchange", `{"error":"invalid_resource","error_codes":[500011]}`, application, backup.ProblemNoExchange, "AADSTS500011", false},
		{"throttled", `{"error":"temporarily_unavailable","error_codes":[90055]}`, person, backup.ProblemThrottled, "AADSTS90055", true},
		{"tenant gone", `{"error":"invalid_request","error_codes":[90002]}`, person, backup.ProblemWrongTenant, "AADSTS90002", false},
	} {
		p := entraProblem(parseEntra(entraAnswer(test.body)), errors.New("cause"), test.tables...)
		if p.Kind != test.kind || p.Code != test.code || p.Temporary != test.again {
			t.Errorf("%s: kind %s code %s temporary %t, want %s %s %t", test.name, p.Kind, p.Code, p.Temporary, test.kind, test.code, test.again)
		}
		if p.Text == "" || p.At.IsZero() || p.Err == nil {
			t.Errorf("%s: incomplete: %+v", test.name, p)
		}
	}
}

func TestUnknownRefusalShowsCodeTimeAndRequest(t *testing.T) {
	p := entraProblem(parseEntra(entraAnswer(`{"error":"invalid_request","error_codes":[4711],"trace_id":"trace-1"}`)), nil)
	for _, want := range []string{"AADSTS4711", "trace-1", p.At.UTC().Format("2006-01-02 15:04:05")} {
		if !strings.Contains(p.Text, want) {
			t.Errorf("text %q lacks %q", p.Text, want)
		}
	}
}

// Every meaning has a sentence that ends like one, and no sentence advises to
// weaken a policy against device codes.
func TestMeaningsAreSentences(t *testing.T) {
	for name, table := range map[string]map[string]meaning{
		"entra": entraMeanings, "person": personMeanings, "device": deviceMeanings, "device names": deviceNames, "refresh": roleRefreshMeanings,
		"application": applicationMeanings, "directory": directoryMeanings, "mailbox": mailboxMeanings,
	} {
		for code, m := range table {
			if m.kind == "" || !strings.HasSuffix(m.text, ".") || len(m.text) < 30 {
				t.Errorf("%s %s: %+v is not a sentence", name, code, m)
			}
			if code != strings.ToLower(code) {
				t.Errorf("%s: key %s is not lower case and never found", name, code)
			}
		}
	}
}

func TestCallbackProblem(t *testing.T) {
	for query, kind := range map[string]backup.ProblemKind{
		"code=abc&state=s": "",
		"error=access_denied&error_subcode=cancel&state=s":                                                          backup.ProblemDeclined,
		"admin_consent=True&error=consent_required&error_description=AADSTS65004%3A+declined&tenant=forged&state=s": backup.ProblemDeclined,
		"error=access_denied&error_description=AADSTS90094%3A+admin":                                                backup.ProblemNotAdministrator,
		"error=server_error": backup.ProblemUnavailable,
		"error=interaction_required&error_description=AADSTS53003": backup.ProblemPolicy,
		"error=something_new": backup.ProblemUnknown,
	} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		p := CallbackProblem(q)
		if p == nil {
			p = &backup.Problem{}
		}
		if p.Kind != kind {
			t.Errorf("%s: kind %q, want %q", query, p.Kind, kind)
		}
	}
}

func TestGraphRefusals(t *testing.T) {
	header := http.Header{"Request-Id": {"r-1"}}
	for _, test := range []struct {
		status int
		body   string
		kind   backup.ProblemKind
		code   string
	}{
		{404, `{"error":{"code":"MailboxNotEnabledForRESTAPI","message":"The mailbox is either inactive, soft-deleted, or is hosted on-premise."}}`, backup.ProblemMailboxInactive, "MailboxNotEnabledForRESTAPI"},
		{404, `{"error":{"code":"ResourceNotFound","message":"Resource could not be discovered."}}`, backup.ProblemMailboxInactive, "ResourceNotFound"},
		{404, `{"error":{"code":"ResourceNotFound","message":"User not found"}}`, backup.ProblemMailboxDeleted, "ResourceNotFound"},
		{404, `{"error":{"code":"Request_ResourceNotFound","message":"x"}}`, backup.ProblemMailboxDeleted, "Request_ResourceNotFound"},
		{403, `{"error":{"code":"ErrorAccessDenied","message":"x"}}`, backup.ProblemPermission, "ErrorAccessDenied"},
		{403, `{"error":{"code":"Forbidden","message":"x","innerError":{"code":"resourceLocked"}}}`, backup.ProblemUnavailable, "resourceLocked"},
		{400, `{"error":{"code":"UnknownError","message":"The subscription within the tenant has lapsed"}}`, backup.ProblemUnavailable, "UnknownError"},
		{500, `{"error":{"code":"ErrorCorruptData","message":"Data is corrupt., Invalid global object ID"}}`, backup.ProblemItems, "ErrorCorruptData"},
		{500, `{"error":{"code":"errorcorruptdata"}}`, backup.ProblemItems, "errorcorruptdata"},
		{429, `{"error":{"code":"TooManyRequests","innerError":{"code":"429"}}}`, backup.ProblemThrottled, "TooManyRequests"},
		{503, `garbage`, backup.ProblemUnavailable, ""},
		{418, `{"error":{"code":"Teapot","message":"x"}}`, backup.ProblemUnknown, "Teapot"},
	} {
		p := mailboxProblem(parseGraph(&answer{status: test.status, header: header, body: []byte(test.body)}), errors.New("cause"))
		if p.Kind != test.kind || p.Code != test.code || p.Status != test.status || p.RequestID != "r-1" {
			t.Errorf("%d %s: %s %s %d %s, want %s %s", test.status, test.body, p.Kind, p.Code, p.Status, p.RequestID, test.kind, test.code)
		}
	}
}

func TestPolicyRefusals(t *testing.T) {
	for _, code := range []string{"CredentialTypeNotAllowedAsPerAppPolicy", "CredentialInvalidLifetimeAsPerAppPolicy", "SignInAudienceNotAllowedAsPerAppPolicy", "HostNameNotOnVerifiedDomain"} {
		p := directoryProblem(parseGraph(&answer{status: 400, header: http.Header{}, body: []byte(`{"error":{"code":"` + code + `"}}`)}), nil)
		if p.Kind != backup.ProblemPolicy || !strings.Contains(p.Text, "Entra admin center") {
			t.Errorf("%s: %s %q, want the policy and where it is", code, p.Kind, p.Text)
		}
	}
}

func TestSilenceKeepsContextErrors(t *testing.T) {
	if err := silenceProblem(context.Canceled); !errors.Is(err, context.Canceled) || backup.KindOf(err) != "" {
		t.Errorf("canceled became %v", err)
	}
	if p := backup.AsProblem(silenceProblem(errForeignHost)); p.Temporary {
		t.Error("an answer that points elsewhere must not be tried again and again")
	}
}
