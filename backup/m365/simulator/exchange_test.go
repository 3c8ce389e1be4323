package simulator_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"holdfast/backup/m365/simulator"
)

const (
	adminAPI     = "https://outlook.office365.com/adminapi/beta/"
	contosoID    = "3c8a5d9e-2b74-4f61-8e0d-6a9b4c7f1e02"
	exchangeApp  = "aaaaaaaa-0000-4000-8000-000000000001" // has Exchange.ManageAsApp
	narrowApp    = "aaaaaaaa-0000-4000-8000-000000000003" // signs people in for EWS
	powerlessApp = "aaaaaaaa-0000-4000-8000-000000000002"
	appSecret    = "app-secret"
)

// withApps adds two applications to Contoso and changes its Exchange.
func withApps(settings simulator.WorldExchange) func(*simulator.Options) {
	return func(o *simulator.Options) {
		for i := range o.World.Tenants {
			t := &o.World.Tenants[i]
			if t.Domain == contoso {
				t.Exchange = &settings
				t.Apps = append(t.Apps,
					simulator.WorldApplication{ID: exchangeApp, Name: "Backup", Secret: appSecret, Application: []string{"Exchange.ManageAsApp"}, Granted: true},
					simulator.WorldApplication{ID: narrowApp, Name: "Narrow", Secret: appSecret, RedirectURIs: []string{redirect}, Delegated: []string{"EWS.AccessAsUser.All"}},
					simulator.WorldApplication{ID: powerlessApp, Name: "Other", Secret: appSecret, Application: []string{"User.Read.All", "EWS.AccessAsApp"}, Granted: true})
			}
		}
	}
}

// exchangeToken signs a person in for Exchange's administration.
func (w *world) exchangeToken(upn string) string {
	w.Helper()
	return w.personToken(upn, simulator.MainClientID, secret, roleScope)
}

// personToken signs a person in to a client, on whose behalf an administrator
// consents for everybody.
func (w *world) personToken(upn, client, secret, scope string) string {
	w.Helper()
	config := oauth2.Config{ClientID: client, ClientSecret: secret, RedirectURL: redirect, Scopes: strings.Fields(scope),
		Endpoint: oauth2.Endpoint{AuthURL: loginURL + "/" + contoso + "/oauth2/v2.0/authorize", TokenURL: loginURL + "/" + contoso + "/oauth2/v2.0/token"}}
	w.client = browserOf(w.sim) // nobody is signed in from before
	address := config.AuthCodeURL("s", oauth2.SetAuthURLParam("prompt", "login"))
	at, r := w.submit(address, w.get(address, ""), "next", "true", url.Values{"login": {upn}, "passwd": {password}})
	if title(r) == "Permissions requested" {
		_, r = w.submit(at, r, "consent", "accept", url.Values{"organization": {"true"}})
	}
	back := w.returned(r)
	token, err := config.Exchange(context.WithValue(w.Context(), oauth2.HTTPClient, w.client), back.Get("code"))
	if err != nil {
		w.Fatalf("exchange: %v", err)
	}
	return token.AccessToken
}

// appToken is a token of an application of Contoso.
func (w *world) appToken(id, resource string) string {
	w.Helper()
	r := w.want(w.token(contoso, url.Values{"grant_type": {"client_credentials"}, "client_id": {id}, "client_secret": {appSecret}, "scope": {resource + "/.default"}}), 200, "token")
	return r.json(w)["access_token"].(string)
}

func (w *world) exoAppToken() string {
	w.Helper()
	return w.appToken(exchangeApp, "https://outlook.office365.com")
}

// principalID is the object id of an application's service principal.
func (w *world) principalID(app string) string {
	w.Helper()
	r := w.want(w.get("/servicePrincipals?$filter="+url.QueryEscape("appId eq '"+app+"'"), w.adminToken(admin)), 200, "service principal")
	return r.json(w)["value"].([]any)[0].(map[string]any)["id"].(string)
}

type args = map[string]any

func (w *world) invoke(token, tenant, cmdlet string, parameters args, header ...string) reply {
	w.Helper()
	return w.do("POST", adminAPI+tenant+"/InvokeCommand", token, args{"CmdletInput": args{"CmdletName": cmdlet, "Parameters": parameters}}, header...)
}

// run runs a cmdlet that must succeed and returns its objects.
func (w *world) run(token, cmdlet string, parameters args) []map[string]any {
	w.Helper()
	var page struct{ Value []map[string]any }
	r := w.want(w.invoke(token, contoso, cmdlet, parameters), 200, cmdlet)
	if err := json.Unmarshal(r.Body, &page); err != nil {
		w.Fatalf("%s: %v", cmdlet, err)
	}
	return page.Value
}

// failure reads type and text of an error in either shape.
func (r reply) failure(t testing.TB) (kind, text string) {
	t.Helper()
	details, _ := r.json(t)["error"].(map[string]any)["details"].([]any)
	if len(details) == 0 {
		t.Fatalf("no details: %s", r.Body)
	}
	message := details[0].(map[string]any)["message"].(string)
	var o struct{ Message, TypeName string }
	if json.Unmarshal([]byte(message), &o) == nil {
		kind, text = o.TypeName, o.Message
	} else if parts := strings.SplitN(message, "|", 3); len(parts) == 3 {
		kind, text = parts[1], parts[2]
	}
	return kind[strings.LastIndex(kind, ".")+1:], text
}

// fails checks that a cmdlet fails with the type, or a part of the text.
func (w *world) fails(r reply, status int, want, what string) {
	w.Helper()
	if r.Status != status || status == 403 {
		w.Errorf("%s = %d %.300s, want %d %s", what, r.Status, r.Body, status, want)
		return
	}
	if kind, text := r.failure(w); kind != want && !strings.Contains(text, want) {
		w.Errorf("%s failed with %s %q, want %s", what, kind, text, want)
	}
}

// forbidden checks for the 403 with NUL bytes.
func (w *world) forbidden(r reply, what string) {
	w.Helper()
	if r.Status != 403 || r.Header.Get("Content-Encoding") != "gzip" || len(r.Body) == 0 || len(bytes.Trim(r.Body, "\x00")) != 0 {
		w.Errorf("%s = %d %q, want 403 with NUL bytes that claim to be gzip", what, r.Status, r.Body)
	}
}

// cmdlets is what EXOModuleFile lists.
func (w *world) cmdlets(token string) []string {
	w.Helper()
	r := w.want(w.do("GET", "https://outlook.office365.com/adminapi/v1.0/"+contosoID+"/EXOModuleFile?Version=3.9.2", token, nil, "CommandName", "*"), 200, "EXOModuleFile")
	return strings.Split(r.json(w)["value"].([]any)[0].(map[string]any)["exportedCmdlets"].(string), ",")
}

// makeRole does what the wizard does, up to the last step.
func (w *world) makeRole(token, app, principal string) {
	w.Helper()
	w.run(token, "New-ServicePrincipal", args{"AppId": app, "ObjectId": principal, "DisplayName": "Holdfast Exchange"})
	w.run(token, "New-ManagementRole", args{"Name": "Holdfast View", "Parent": "View-Only Recipients", "EnabledCmdlets": []string{"Get-Mailbox", "Get-Recipient"}, "Confirm": false})
	w.run(token, "New-RoleGroup", args{"Name": "Holdfast Exchange", "Roles": []string{"Holdfast View"}})
	w.run(token, "Add-RoleGroupMember", args{"Identity": "Holdfast Exchange", "Member": principal})
}

func TestApplicationIsAllowedWhatItsRoleContains(t *testing.T) {
	w := newWorld(t, withApps(simulator.WorldExchange{}))
	token, principal := w.exchangeToken(admin), w.principalID(exchangeApp)
	if have := w.cmdlets(token); !slices.Contains(have, "Enable-OrganizationCustomization") || !slices.Contains(have, "Add-RoleGroupMember") || slices.Contains(have, "New-MailboxExportRequest") {
		t.Errorf("the administrator may run %v", have)
	}
	// 401 without the permission, 403 without the role, 200 with both.
	if r := w.invoke(w.appToken(powerlessApp, "https://outlook.office365.com"), contoso, "Get-Mailbox", nil); r.Status != 401 || len(r.Body) != 0 {
		t.Errorf("without Exchange.ManageAsApp = %d %s, want a bare 401", r.Status, r.Body)
	}
	stale := w.exoAppToken()
	r := w.invoke(stale, contoso, "Get-Mailbox", nil)
	if w.forbidden(r, "without a role"); !strings.Contains(r.Header.Get("x-ms-diagnostics"), "2000003;reason=") {
		t.Errorf("x-ms-diagnostics = %q", r.Header.Get("x-ms-diagnostics"))
	}
	w.sim.Advance(2 * time.Second)
	w.makeRole(token, exchangeApp, principal)
	w.forbidden(w.invoke(stale, contoso, "Get-Mailbox", nil), "a token older than the role")
	fresh := w.exoAppToken()
	if boxes := w.run(fresh, "Get-Mailbox", args{"RecipientTypeDetails": []string{"SharedMailbox"}}); len(boxes) != 2 || boxes[0]["RecipientTypeDetails"] != "SharedMailbox" {
		t.Errorf("shared mailboxes = %v", boxes)
	}
	if have := w.cmdlets(fresh); !slices.Equal(have, []string{"Get-Mailbox", "Get-Recipient"}) {
		t.Errorf("the application may run %v", have)
	}
	for _, cmdlet := range []string{"Get-MailboxStatistics", "New-RoleGroup", "Get-Nonsense"} {
		w.forbidden(w.invoke(fresh, contoso, cmdlet, nil), cmdlet)
	}
	members := w.run(token, "Get-RoleGroupMember", args{"Identity": "holdfast exchange"})
	if len(members) != 1 || members[0]["ExternalDirectoryObjectId"] != principal {
		t.Errorf("members = %v", members)
	}
	// Deleting the group takes the right away.
	w.run(token, "Remove-RoleGroup", args{"Identity": "Holdfast Exchange"})
	w.forbidden(w.invoke(fresh, contoso, "Get-Mailbox", nil), "after the group is gone")
}

func TestRoleDelay(t *testing.T) {
	w := newWorld(t, withApps(simulator.WorldExchange{ExchangeSettings: simulator.ExchangeSettings{RoleDelay: simulator.Duration(10 * time.Minute), ObjectDelay: simulator.Duration(time.Minute)}}))
	token, principal := w.exchangeToken(admin), w.principalID(exchangeApp)
	pointer := args{"AppId": exchangeApp, "ObjectId": principal}
	w.run(token, "New-ServicePrincipal", pointer)
	w.fails(w.invoke(token, contoso, "Get-ServicePrincipal", args{"Identity": exchangeApp}), 404, "ManagementObjectNotFoundException", "the pointer at once")
	w.fails(w.invoke(token, contoso, "New-ServicePrincipal", pointer), 400, "ADObjectAlreadyExistsException", "the pointer again")
	w.fails(w.invoke(token, contoso, "Add-RoleGroupMember", args{"Identity": "View-Only Organization Management", "Member": principal}), 404, "couldn't be found on", "a member at once")
	w.sim.Advance(time.Minute)
	w.run(token, "Add-RoleGroupMember", args{"Identity": "View-Only Organization Management", "Member": principal})
	w.fails(w.invoke(token, contoso, "Add-RoleGroupMember", args{"Identity": "View-Only Organization Management", "Member": principal}), 400, "MemberAlreadyExistsException", "a member again")
	w.forbidden(w.invoke(w.exoAppToken(), contoso, "Get-Mailbox", nil), "before the delay is over")
	w.sim.Advance(10 * time.Minute)
	w.run(w.exoAppToken(), "Get-Mailbox", args{"ResultSize": "1"})
	// An application that names the tenant by its GUID can read, not write.
	w.want(w.invoke(w.exoAppToken(), contosoID, "Get-Mailbox", nil), 200, "read by GUID")
}

func TestApplicationsWriteByDomainOnly(t *testing.T) {
	w := newWorld(t, withApps(simulator.WorldExchange{}))
	token, principal := w.exchangeToken(admin), w.principalID(exchangeApp)
	w.run(token, "New-ServicePrincipal", args{"AppId": exchangeApp, "ObjectId": principal})
	w.run(token, "New-ManagementRoleAssignment", args{"App": principal, "Role": "Role Management"})
	app := w.exoAppToken()
	w.fails(w.invoke(app, contosoID, "New-RoleGroup", args{"Name": "x"}), 400, "write permission to target DC", "write by GUID")
	w.want(w.invoke(app, contoso, "New-RoleGroup", args{"Name": "x"}), 200, "write by domain")
	w.fails(w.invoke(app, contoso, "New-ManagementRoleAssignment", args{"SecurityGroup": "x", "Role": "Mail Recipients"}), 400, "must be assigned a delegating role assignment", "an application that gives itself more")
}

func TestParametersAreThoseOfTheReference(t *testing.T) {
	w := newWorld(t, withApps(simulator.WorldExchange{}))
	token := w.exchangeToken(admin)
	long := strings.Repeat("x", 65)
	for _, x := range []struct {
		cmdlet string
		given  args
		want   string
	}{
		{"New-RoleGroup", args{"Name": "x", "Colour": "red"}, "parameter name 'Colour'"},
		{"Add-RoleGroupMember", args{"Identity": "x", "Member": "y", "DomainController": "z"}, "parameter name 'DomainController'"}, // on-premises only
		{"New-RoleGroup", args{"Roles": []string{"Journaling"}}, "missing mandatory parameters: Name"},
		{"New-ServicePrincipal", args{"AppId": "x"}, "missing mandatory parameters: ObjectId"},
		{"New-ManagementRole", args{"Name": "x"}, "missing mandatory parameters: Parent"},
		{"New-ManagementRoleAssignment", args{"Role": "Journaling"}, "missing mandatory"},
		{"New-ManagementRoleAssignment", args{"Role": "Journaling", "App": "x", "SecurityGroup": "y"}, "Parameter set cannot be resolved"},
		{"New-ManagementRoleAssignment", args{"Role": "Journaling", "App": "x", "CustomRecipientWriteScope": "y"}, "Parameter set cannot be resolved"},
		{"Get-ManagementRole", args{"Identity": "Journaling", "GetChildren": true, "Recurse": true}, "Parameter set cannot be resolved"},
		{"Get-ManagementRole", args{"Identity": "Journaling", "GetChildren": "yes"}, "Cannot process argument transformation"},
		{"New-RoleGroup", args{"Name": []string{"x"}}, "Cannot process argument transformation"},
		{"New-RoleGroup", args{"Name": long}, "length of the property"},
		{"New-ManagementRole", args{"Name": long, "Parent": "Journaling"}, "length of the property"},
		{"New-ManagementRole", args{"Name": "x", "Parent": "View-Only Recipients", "EnabledCmdlets": []string{"Get-Mailbox", "New-Mailbox"}}, "New-Mailbox"},
		{"New-ManagementRole", args{"Name": "x", "Parent": "Application Mail.Read"}, "can't be used as a parent"},
		{"Get-Mailbox", args{"ResultSize": "many"}, "Unlimited"},
		{"Enable-OrganizationCustomization", args{"Force": true}, "parameter name 'Force'"},
		{"Remove-RoleGroup", args{"Identity": "Organization Management"}, "built-in"},
	} {
		w.fails(w.invoke(token, contoso, x.cmdlet, x.given), 400, x.want, fmt.Sprint(x.cmdlet, x.given))
	}
	w.fails(w.invoke(token, contoso, "New-ManagementRole", args{"Name": "x", "Parent": "Nobody"}), 404, "ManagementObjectNotFoundException", "unknown parent")
	// What is allowed: other case, aliases, common parameters, a dry run.
	w.run(token, "new-rolegroup", args{"name": "Dry", "wi": true, "ErrorAction": "Stop"})
	w.fails(w.invoke(token, contoso, "Get-RoleGroup", args{"Identity": "Dry"}), 404, "ManagementObjectNotFoundException", "what a dry run made")
	w.run(token, "New-RoleGroup", args{"Name": strings.Repeat("x", 64), "Roles": []string{"Journaling", "view-only recipients"}})
	w.run(token, "Get-ManagementRole", args{"Identity": "Journaling", "GetChildren": true})
}

func TestDehydratedOrganization(t *testing.T) {
	w := newWorld(t, withApps(simulator.WorldExchange{Dehydrated: true, ExchangeSettings: simulator.ExchangeSettings{HydrateFor: simulator.Duration(60 * time.Minute)}}))
	token, principal := w.exchangeToken(admin), w.principalID(exchangeApp)
	isDehydrated := func() any { return w.run(token, "Get-OrganizationConfig", nil)[0]["IsDehydrated"] }
	create := func() reply { return w.invoke(token, contoso, "New-RoleGroup", args{"Name": "g"}) }
	const kind = "InvalidOperationInDehydratedContextException"
	w.fails(create(), 400, kind, "a create before")
	if isDehydrated() != true {
		t.Error("IsDehydrated is not true before")
	}
	w.run(token, "New-ServicePrincipal", args{"AppId": exchangeApp, "ObjectId": principal}) // needs no customisation
	w.run(token, "Enable-OrganizationCustomization", nil)
	w.fails(w.invoke(token, contoso, "Enable-OrganizationCustomization", nil), 400, "This operation is not required", "the second time")
	if isDehydrated() != true {
		t.Error("IsDehydrated is false at once")
	}
	w.sim.Advance(50 * time.Minute)
	if isDehydrated() != false {
		t.Error("IsDehydrated is true after 50 minutes")
	}
	w.fails(create(), 400, kind, "a create while the flag is false already")
	if state := w.want(w.control("GET", "/tenants/"+contoso+"/exchange", nil), 200, "state").json(t)["state"]; state != "customising" {
		t.Errorf("state = %v", state)
	}
	token = func() string { w.sim.Advance(10 * time.Minute); return w.exchangeToken(admin) }()
	w.want(create(), 200, "a create after an hour")
}

func TestWhoMayNotAdministerExchange(t *testing.T) {
	w := newWorld(t, withApps(simulator.WorldExchange{ExchangeSettings: simulator.ExchangeSettings{NoDelegation: true}}))
	token := w.exchangeToken(admin)
	graph := w.adminToken(admin)
	if r := w.invoke(graph, contoso, "Get-Mailbox", nil); r.Status != 401 {
		t.Errorf("a token for Graph = %d, want 401", r.Status)
	}
	narrow := w.personToken(admin, narrowApp, appSecret, "openid https://outlook.office365.com/EWS.AccessAsUser.All")
	if r := w.invoke(narrow, contoso, "Get-Mailbox", nil); r.Status != 403 || len(r.Body) != 0 {
		t.Errorf("an administrator's token without Exchange.Manage = %d %q, want 403 without a body", r.Status, r.Body)
	}
	w.forbidden(w.invoke(token, "fabrikamlegal.onmicrosoft.com", "Get-Mailbox", nil), "another tenant")
	w.forbidden(w.invoke(w.exchangeToken("app.admin@"+contoso), contoso, "Get-Mailbox", nil), "a person without an Exchange role")
	w.fails(w.invoke(token, contoso, "New-RoleGroup", args{"Name": "g", "Roles": []string{"Journaling"}}), 400, "delegating role assignment", "a Global Administrator without delegation")
	w.run(w.exchangeToken("exchange.admin@"+contoso), "New-RoleGroup", args{"Name": "g", "Roles": []string{"Journaling"}})
	w.want(w.control("PATCH", "/tenants/"+contoso+"/users/"+admin, args{"noPowerShell": true}), 200, "noPowerShell")
	w.fails(w.invoke(token, contoso, "Get-Mailbox", nil), 400, "EXOModuleEnabled", "EXOModuleEnabled off")
	w.sim.Advance(2 * time.Hour)
	if r := w.invoke(token, contoso, "Get-Mailbox", nil); r.Status != 401 {
		t.Errorf("an expired token = %d, want 401", r.Status)
	}
}

func TestErrorShapes(t *testing.T) {
	w := newWorld(t, withApps(simulator.WorldExchange{}))
	token := w.exchangeToken(admin)
	detail := func(r reply) string {
		return r.json(t)["error"].(map[string]any)["details"].([]any)[0].(map[string]any)["message"].(string)
	}
	missing := func() reply { return w.invoke(token, contoso, "Get-RoleGroup", args{"Identity": "x"}) }
	if r := missing(); r.Status != 404 || r.code(t) != "NotFound" || !strings.HasPrefix(detail(r), "Ex") || strings.Count(detail(r), "|") != 2 {
		t.Errorf("missing = %d %s", r.Status, r.Body)
	}
	taken := w.invoke(token, contoso, "New-RoleGroup", args{"Name": "Recipient Management"})
	if !strings.HasPrefix(detail(taken), `{"Message":"The object 'CN=Recipient Management`) || taken.Status != 400 {
		t.Errorf("taken = %d %s", taken.Status, taken.Body)
	}
	w.want(w.control("PATCH", "/tenants/"+contoso+"/exchange", args{"details": "object", "findAll": true}), 200, "settings")
	if all := w.run(token, "Get-RoleGroup", args{"Identity": "x"}); len(all) != 6 {
		t.Errorf("with findAll an unknown group gives %d objects, want all 6", len(all))
	}
	w.want(w.control("PATCH", "/tenants/"+contoso+"/exchange", args{"findAll": false}), 200, "settings")
	if !strings.HasPrefix(detail(missing()), `{"Message"`) {
		t.Errorf("missing as object = %s", missing().Body)
	}
}

func TestPagesOfExchangeAreReadByPost(t *testing.T) {
	w := newWorld(t, withApps(simulator.WorldExchange{}))
	token := w.exchangeToken(admin)
	body := args{"CmdletInput": args{"CmdletName": "Get-Mailbox", "Parameters": args{"ResultSize": "Unlimited"}}}
	names := map[any]bool{}
	pages, next := 0, adminAPI+contoso+"/InvokeCommand?$select=Name,UserPrincipalName"
	var second string
	for next != "" {
		r := w.want(w.do("POST", next, token, body, "Prefer", "odata.maxpagesize=5"), 200, "page").json(t)
		for _, o := range r["value"].([]any) {
			names[o.(map[string]any)["UserPrincipalName"]] = true
			if pages == 0 && len(o.(map[string]any)) != 2 {
				t.Errorf("$select gave %v", o)
			}
		}
		next, _ = r["@odata.nextLink"].(string)
		if pages++; pages == 1 {
			second = next
		}
	}
	if pages != 3 || len(names) != 13 || names["uma@"+contoso] {
		t.Errorf("%d pages with %d mailboxes %v, want 3 with the 13 that have one", pages, len(names), names)
	}
	if r := w.do("GET", second, token, nil); r.Status != 405 {
		t.Errorf("GET of a next page = %d, want 405", r.Status)
	}
	other := args{"CmdletInput": args{"CmdletName": "Get-Recipient"}}
	if r := w.do("POST", second, token, other); r.Status != 400 {
		t.Errorf("another body = %d, want 400", r.Status)
	}
	w.sim.Advance(6 * time.Minute)
	if r := w.do("POST", second, token, body); r.Status != 400 {
		t.Errorf("an old link = %d, want 400", r.Status)
	}
	r := w.invoke(token, contoso, "Get-Mailbox", args{"ResultSize": 2}).json(t)
	if len(r["value"].([]any)) != 2 || len(r["@adminapi.warnings"].([]any)) != 1 {
		t.Errorf("ResultSize 2 = %d objects, warnings %v", len(r["value"].([]any)), r["@adminapi.warnings"])
	}
}

func TestServicePrincipalMustBeKnownToEntra(t *testing.T) {
	w := newWorld(t, withApps(simulator.WorldExchange{}))
	token, principal := w.exchangeToken(admin), w.principalID(exchangeApp)
	for name, given := range map[string]args{
		"unknown object": {"AppId": exchangeApp, "ObjectId": contosoID}, "other application": {"AppId": powerlessApp, "ObjectId": principal}, "client id as object id": {"AppId": exchangeApp, "ObjectId": exchangeApp},
	} {
		w.fails(w.invoke(token, contoso, "New-ServicePrincipal", given), 400, "AADServicePrincipalNotFound", name)
	}
	made := w.run(token, "New-ServicePrincipal", args{"AppId": exchangeApp, "ObjectId": principal, "ServiceId": principal})
	if made[0]["AppId"] != exchangeApp || made[0]["ObjectId"] != principal {
		t.Errorf("pointer = %v", made)
	}
	w.want(w.control("DELETE", "/tenants/"+contoso+"/servicePrincipals/"+exchangeApp, nil), 204, "delete in Entra")
	w.fails(w.invoke(token, contoso, "Get-ServicePrincipal", args{"Identity": exchangeApp}), 404, "ManagementObjectNotFoundException", "after Entra's object is gone")
}

func TestRoleEntriesCanBeListedAndRemoved(t *testing.T) {
	w := newWorld(t, withApps(simulator.WorldExchange{}))
	token := w.exchangeToken(admin)
	role := w.run(token, "New-ManagementRole", args{"Name": "Mine", "Parent": "View-Only Recipients"})[0]
	if entries := role["RoleEntries"].([]any); len(entries) != 6 || !strings.HasPrefix(entries[0].(string), "(Microsoft.Exchange.Management.PowerShell.E2010) Get-Mailbox -") {
		t.Errorf("entries = %v", entries)
	}
	w.run(token, "Remove-ManagementRoleEntry", args{"Identity": `Mine\Get-User`, "Confirm": false})
	if list := w.run(token, "Get-ManagementRoleEntry", args{"Identity": `Mine\*`}); len(list) != 5 {
		t.Errorf("%d entries are left, want 5", len(list))
	}
	w.fails(w.invoke(token, contoso, "Remove-ManagementRoleEntry", args{"Identity": `Journaling\Get-JournalRule`}), 400, "built-in", "an entry of a built-in role")
	w.run(token, "New-RoleGroup", args{"Name": "g", "Roles": []string{"Mine"}})
	w.fails(w.invoke(token, contoso, "Remove-ManagementRole", args{"Identity": "Mine"}), 400, "has role assignments", "a role in use")
	assigned := w.run(token, "Get-ManagementRoleAssignment", args{"RoleAssignee": "g"})
	if len(assigned) != 1 || assigned[0]["Name"] != "Mine-g" || assigned[0]["Role"] != "Mine" {
		t.Errorf("assignments = %v", assigned)
	}
	w.run(token, "Remove-ManagementRoleAssignment", args{"Identity": "Mine-g"})
	w.run(token, "Remove-ManagementRole", args{"Identity": "Mine"})
}
