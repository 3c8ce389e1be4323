package simulator_test

import (
	"bytes"
	"testing"
	"time"

	"holdfast/backup/m365/simulator"
)

func TestExchangeFaults(t *testing.T) {
	w := newWorld(t, withApps(simulator.WorldExchange{}))
	token := w.exchangeToken(admin)
	ask := func() reply { return w.invoke(token, contoso, "Get-RoleGroup", nil) }
	for name, x := range map[string]struct {
		status int
		body   string
	}{
		"exchange_concurrency":  {400, "maximum number of concurrent requests"},
		"exchange_transient":    {400, "may be transient"},
		"exchange_ad":           {500, "ADTransientException"},
		"exchange_not_found":    {404, "ManagementObjectNotFoundException"},
		"exchange_aad":          {400, "AADServicePrincipalNotFound"},
		"exchange_unrecognized": {400, "is not recognized"},
		"exchange_forbidden":    {403, "\x00\x00"},
	} {
		w.fault(simulator.Fault{Name: name, Cmdlet: "Get-RoleGroup", Times: 1})
		w.want(w.invoke(token, contoso, "Get-ManagementRole", args{"Identity": "Journaling"}), 200, "another cmdlet during "+name)
		if r := ask(); r.Status != x.status || !bytes.Contains(r.Body, []byte(x.body)) {
			t.Errorf("%s = %d %.200q, want %d %q", name, r.Status, r.Body, x.status, x.body)
		}
		w.want(ask(), 200, "after "+name)
	}
	w.fault(simulator.Fault{Host: "exchange", Cmdlet: "Get-RoleGroup", Status: 400, Error: "System.SomeException", Message: "Something else", Times: 1})
	w.fails(ask(), 400, "Something else", "a fault of one's own")
	w.fault(simulator.Fault{Host: "exchange", Status: 429, RetryAfter: "7", Times: 1})
	if r := ask(); r.Status != 429 || r.Header.Get("Retry-After") != "7" {
		t.Errorf("throttled = %d, Retry-After %q", r.Status, r.Header.Get("Retry-After"))
	}
}

// Rights on mailboxes by Exchange's own roles add to those of Entra, for the
// mailboxes in scope, half an hour later.
func TestRBACForApplications(t *testing.T) {
	w := newWorld(t, withApps(simulator.WorldExchange{}))
	token, principal := w.exchangeToken(admin), w.principalID(powerlessApp)
	w.run(token, "New-ServicePrincipal", args{"AppId": powerlessApp, "ObjectId": principal})
	w.run(token, "New-ManagementScope", args{"Name": "Desk", "RecipientRestrictionFilter": "Alias -eq 'frontdesk' -or DisplayName -eq 'Invoices'"})
	w.run(token, "New-ManagementRoleAssignment", args{"App": principal, "Role": "Application Mail.Read", "CustomResourceScope": "Desk"})
	inbox := func(who string) int {
		return w.get("/users/"+who+"@"+contoso+"/mailFolders/inbox", w.appToken(powerlessApp, "https://graph.microsoft.com")).Status
	}
	if got := inbox("frontdesk"); got != 403 {
		t.Errorf("at once = %d, want 403", got)
	}
	shown := w.run(token, "Test-ServicePrincipalAuthorization", args{"Identity": principal, "Resource": "frontdesk@" + contoso})
	if len(shown) != 1 || shown[0]["InScope"] != "True" || shown[0]["GrantedPermissions"] != "Mail.Read" {
		t.Errorf("Test-ServicePrincipalAuthorization = %v", shown)
	}
	w.sim.Advance(31 * time.Minute)
	if in, out := inbox("frontdesk"), inbox("megan.o'neil"); in != 200 || out != 403 {
		t.Errorf("in scope = %d, out of scope = %d; want 200 and 403", in, out)
	}
}
