package m365

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"holdfast/backup"
)

func TestExchangeRefusals(t *testing.T) {
	details := func(code, message string) string {
		return `{"error":{"code":"` + code + `","message":"Error executing cmdlet","details":[{"code":"Context","target":"","message":"` + message + `"}]}}`
	}
	for _, test := range []struct {
		name   string
		answer answer
		kind   backup.ProblemKind
		text   string // in the error
		is     func(*exchangeError) bool
	}{
		{"three parts", answer{status: 404, body: []byte(details("NotFound", `Ex6F9304|Microsoft.Exchange.Configuration.Tasks.ManagementObjectNotFoundException|The operation couldn't be performed because object 'X' couldn't be found on 'DC'.`))},
			backup.ProblemRolePending, "object 'X'", (*exchangeError).missing},
		{"an object in a string", answer{status: 400, body: []byte(details("BadRequest", `{\"Message\":\"The object 'CN=rg,OU=x' already exists.\",\"TypeName\":\"Microsoft.Exchange.Data.Directory.ADObjectAlreadyExistsException\",\"StackTrace\":null,\"InnerError\":null}`))},
			backup.ProblemUnknown, "already exists", (*exchangeError).exists},
		{"dehydrated", answer{status: 400, body: []byte(details("BadRequest", `|Microsoft.Exchange.Management.InvalidOperationInDehydratedContextException|The command you tried to run isn't currently allowed in your organization. To run this command, you first need to run the command: Enable-OrganizationCustomization.`))},
			backup.ProblemRolePending, "isn't currently allowed", (*exchangeError).dehydrated},
		{"customized already", answer{status: 400, body: []byte(details("BadRequest", `|System.InvalidOperationException|This operation is not required. Organization is already enabled for customization.`))},
			backup.ProblemUnknown, "not required", (*exchangeError).notRequired},
		{"internal exception", answer{status: 400, body: []byte(`{"error":{"code":"BadRequest","message":"Error executing cmdlet","innererror":{"message":"m","internalexception":{"message":"The cmdlet New-RoleGroup is not present in the role definition of the current user"}}}}`)},
			backup.ProblemMissingCmdlets, "role definition", (*exchangeError).noCmdlet},
		{"may not assign", answer{status: 400, body: []byte(details("BadRequest", `|System.Exception|You don't have access to create, change, or remove the \"x\" management role assignment. You must be assigned a delegating role assignment to the management role or its parent in the hierarchy without a scope restriction.`))},
			backup.ProblemNotAdministrator, "delegating", (*exchangeError).noDelegation},
		{"NUL bytes", answer{status: 403, body: make([]byte, 40), header: http.Header{"X-Ms-Diagnostics": {`2000003;reason="no role"`}, "Request-Id": {"r-1"}}},
			backup.ProblemMissingCmdlets, "no role", func(e *exchangeError) bool { return e.requestID == "r-1" }},
		{"a 404 of somebody else", answer{status: 404, body: []byte("404 page not found")}, backup.ProblemUnknown, "page not found",
			func(e *exchangeError) bool { return !e.missing() }},
		{"nothing", answer{status: 401}, backup.ProblemSignInExpired, "", func(e *exchangeError) bool { return e.status == 401 }},
		{"plain text", answer{status: 400, body: []byte("This issue may be transient")}, backup.ProblemUnavailable, "transient", (*exchangeError).transient},
		{"busy", answer{status: 500, body: []byte(details("InternalServerError", `|Microsoft.Exchange.Data.Directory.ADTransientException|x`))}, backup.ProblemUnavailable, "x", (*exchangeError).transient},
	} {
		if test.answer.header == nil {
			test.answer.header = http.Header{}
		}
		e := parseExchange(&test.answer, "New-RoleGroup")
		if !test.is(e) || !strings.Contains(e.Error(), test.text) {
			t.Errorf("%s: read as %+v", test.name, e)
		}
		if p := backup.AsProblem(roleProblem(e)); p.Kind != test.kind {
			t.Errorf("%s: kind %s, want %s", test.name, p.Kind, test.kind)
		}
	}
}

func TestExchangeReadsAllPagesByPost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: func(n int, r *http.Request) (*http.Response, error) {
			if r.Method != http.MethodPost || r.Header.Get("X-AnchorMailbox") != "UPN:ada@contoso.example" {
				t.Errorf("%s with anchor %q", r.Method, r.Header.Get("X-AnchorMailbox"))
			}
			switch n {
			case 0:
				return respond(200, `{"value":[{"Name":"a"}],"@odata.nextLink":"https://outlook.office365.com/adminapi/beta/t/InvokeCommand?$skiptoken=1","@adminapi.warnings":["w"]}`), nil
			case 1:
				return respond(200, `{"value":[{"Name":"b"}]}`), nil
			}
			return respond(204, ""), nil
		}}
		c, err := New(Config{ClientID: "x", Secret: []byte("y"), Transport: s})
		if err != nil {
			t.Fatal(err)
		}
		session := c.asPerson("t", "ada@contoso.example", backup.Secret("token"))
		objects, err := session.run(t.Context(), Cmdlet{"Get-RoleGroup", []Parameter{{"Identity", "x"}}})
		if err != nil || len(objects) != 2 {
			t.Errorf("%d objects, %v; want 2", len(objects), err)
		}
		if s.bodies[0] != s.bodies[1] || !strings.Contains(s.bodies[0], `"CmdletName":"Get-RoleGroup"`) {
			t.Errorf("bodies differ: %q", s.bodies)
		}
		if objects, err := session.run(t.Context(), Cmdlet{Name: "Add-RoleGroupMember"}); err != nil || len(objects) != 0 {
			t.Errorf("no output: %v, %v", objects, err)
		}
	})
}

func TestExchangeDoesNotFollowALinkElsewhere(t *testing.T) {
	s := &server{answer: func(n int, r *http.Request) (*http.Response, error) {
		if r.URL.Host != "outlook.office365.com" {
			t.Errorf("token sent to %s", r.URL)
		}
		return respond(200, `{"value":[],"@odata.nextLink":"https://evil.example/adminapi"}`), nil
	}}
	c, err := New(Config{ClientID: "x", Secret: []byte("y"), Transport: s})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.asPerson("t", "ada", backup.Secret("token")).run(context.Background(), Cmdlet{Name: "Get-RoleGroup"})
	if p := backup.AsProblem(err); p.Kind != backup.ProblemUnavailable || p.Temporary || len(s.times) != 1 {
		t.Errorf("%d requests, %v; want one and a lasting problem", len(s.times), err)
	}
}

func TestRoleMatchComparesWhatComesBack(t *testing.T) {
	app := backup.SubApplication{AppID: "app-1", PrincipalID: "sp-1", DisplayName: "Holdfast backup: Exchange"}
	steps := RoleSteps(app)
	byCheck := func(cmdlet string, n int) RoleStep {
		for _, s := range steps {
			if s.Check.Name == cmdlet {
				if n == 0 {
					return s
				}
				n--
			}
		}
		t.Fatalf("no step checks with %s", cmdlet)
		return RoleStep{}
	}
	list := func(names ...string) []any {
		var all []any
		for _, n := range names {
			all = append(all, n)
		}
		return all
	}
	for _, test := range []struct {
		name    string
		step    RoleStep
		objects []map[string]any
		found   bool
		differs string
	}{
		{"all objects for an unknown one", byCheck("Get-ServicePrincipal", 0), []map[string]any{{"AppId": "other"}, {"AppId": "third"}}, false, ""},
		{"the pointer", byCheck("Get-ServicePrincipal", 0), []map[string]any{{"AppId": "other"}, {"AppId": "APP-1", "ObjectId": "sp-1"}}, true, ""},
		{"a pointer of an earlier principal", byCheck("Get-ServicePrincipal", 0), []map[string]any{{"AppId": "app-1", "ObjectId": "sp-0"}}, true, "sp-0"},
		{"the role", byCheck("Get-ManagementRole", 0), []map[string]any{{"Name": roleRecipients, "RoleEntries": list("(Microsoft.Exchange.Management.PowerShell.E2010) Get-Mailbox -Anr -Archive", "Get-Recipient")}}, true, ""},
		{"a wider role", byCheck("Get-ManagementRole", 0), []map[string]any{{"Name": roleRecipients, "RoleEntries": list("(Microsoft.Exchange.Management.PowerShell.E2010) Set-Mailbox -Anr")}}, true, "Set-Mailbox"},
		{"the group", byCheck("Get-RoleGroup", 0), []map[string]any{{"Name": RoleGroup, "Roles": list("contoso.onmicrosoft.com/" + roleRecipients)}}, true, ""},
		{"a wider group", byCheck("Get-RoleGroup", 0), []map[string]any{{"Name": RoleGroup, "Roles": list(roleRecipients, "Mail Recipients")}}, true, "Mail Recipients"},
		{"a group without the role", byCheck("Get-RoleGroup", 1), []map[string]any{{"Name": RoleGroup}}, false, ""},
		{"a group with the role", byCheck("Get-RoleGroup", 1), []map[string]any{{"Name": RoleGroup, "Roles": roleRecipients}}, true, ""},
		{"another member", byCheck("Get-RoleGroupMember", 0), []map[string]any{{"Name": "ada", "ExternalDirectoryObjectId": "u-1"}}, false, ""},
		{"the member", byCheck("Get-RoleGroupMember", 0), []map[string]any{{"Name": "x", "ExternalDirectoryObjectId": "SP-1"}}, true, ""},
	} {
		object := test.step.Match.find(test.objects)
		if (object != nil) != test.found {
			t.Errorf("%s: found %v, want %t", test.name, object, test.found)
			continue
		}
		if object == nil {
			continue
		}
		if how := test.step.Match.differs(object); (how == "") != (test.differs == "") || !strings.Contains(how, test.differs) {
			t.Errorf("%s: differs %q, want %q", test.name, how, test.differs)
		}
	}
}

// Everything that the steps run is on the list that the portal and the wizard
// show, and nothing else is.
func TestRoleStepsUseTheRequiredCmdletsOnly(t *testing.T) {
	var used []string
	for _, s := range RoleSteps(backup.SubApplication{AppID: "a", PrincipalID: "p"}) {
		used = append(used, s.Check.Name, s.Change.Name)
		for _, p := range append(s.Check.Parameters, s.Change.Parameters...) {
			if p.Name == "Name" && len(p.Value.(string)) > 64 {
				t.Errorf("name %q is longer than Exchange allows", p.Value)
			}
		}
	}
	if extra := without(used, append([]string{""}, backup.RequiredCmdlets...)); len(extra) > 0 {
		t.Errorf("steps run %v, which no one was told of", extra)
	}
	if unused := without(backup.RequiredCmdlets, used); len(unused) > 0 {
		t.Errorf("%v are asked for and not used", unused)
	}
}
