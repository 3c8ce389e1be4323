package m365

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/backup"
)

// fakeOrganization is an Exchange organization of a few lines: objects by cmdlet
// noun, and what the documents say of its moods.
type fakeOrganization struct {
	ready     time.Time // creates are refused before
	lag       time.Duration
	cmdlets   []string
	objects   map[string][]map[string]any // by noun
	made      map[string]time.Time        // when, by noun and name
	ran       []string
	refuse    map[string]*http.Response // by cmdlet, once
	customize bool
}

func newOrganization() *fakeOrganization {
	return &fakeOrganization{cmdlets: backup.RequiredCmdlets, objects: map[string][]map[string]any{}, made: map[string]time.Time{}, refuse: map[string]*http.Response{}}
}

func refusedCmdlet(status int, kind, text string) *http.Response {
	detail, _ := json.Marshal(map[string]string{"Message": text, "TypeName": "Microsoft.Exchange." + kind})
	body, _ := json.Marshal(map[string]any{"error": map[string]any{"code": "BadRequest", "message": "Error executing cmdlet",
		"details": []any{map[string]string{"code": "Context", "message": string(detail)}}}})
	return respond(status, string(body))
}

func (o *fakeOrganization) answer(_ int, r *http.Request) (*http.Response, error) {
	if strings.Contains(r.URL.Path, "EXOModuleFile") {
		body, _ := json.Marshal(map[string]any{"value": []any{map[string]string{"exportedCmdlets": strings.Join(o.cmdlets, ",")}}})
		return respond(200, string(body)), nil
	}
	data, _ := io.ReadAll(r.Body)
	var in struct {
		CmdletInput struct {
			CmdletName string
			Parameters map[string]any
		}
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, err
	}
	name, p := in.CmdletInput.CmdletName, in.CmdletInput.Parameters
	o.ran = append(o.ran, name)
	if res := o.refuse[name]; res != nil {
		delete(o.refuse, name)
		return res, nil
	}
	verb, noun, _ := strings.Cut(name, "-")
	switch {
	case name == "Enable-OrganizationCustomization" && o.customize:
		return refusedCmdlet(400, "InvalidOperationException", "This operation is not required. Organization is already enabled for customization."), nil
	case name == "Enable-OrganizationCustomization":
		o.customize = true
		return respond(204, ""), nil
	case verb == "Get":
		return o.get(noun, fmt.Sprint(p["Identity"])), nil
	case time.Now().Before(o.ready):
		return refusedCmdlet(400, "InvalidOperationInDehydratedContextException", "The command you tried to run isn't currently allowed in your organization."), nil
	case name == "Add-RoleGroupMember":
		o.add("RoleGroupMember", map[string]any{"Name": "sp", "ExternalDirectoryObjectId": p["Member"]})
	case name == "New-ManagementRoleAssignment":
		group := o.objects["RoleGroup"][0]
		group["Roles"] = append(group["Roles"].([]any), p["Role"])
	case name == "New-ManagementRole":
		p["RoleEntries"] = p["EnabledCmdlets"]
		o.add(noun, p)
	default:
		o.add(noun, p)
	}
	return respond(200, `{"value":[]}`), nil
}

func (o *fakeOrganization) add(noun string, object map[string]any) {
	o.objects[noun] = append(o.objects[noun], object)
	o.made[noun] = time.Now()
}

// get answers with all objects if it does not know the one asked for, which is
// Microsoft's own warning; and with not found if there are none.
func (o *fakeOrganization) get(noun, _ string) *http.Response {
	list := o.objects[noun]
	if time.Since(o.made[noun]) < o.lag || len(list) == 0 && noun != "RoleGroupMember" {
		return refusedCmdlet(404, "ManagementObjectNotFoundException", "The operation couldn't be performed because object 'x' couldn't be found on 'dc'.")
	}
	body, _ := json.Marshal(map[string]any{"value": list})
	return respond(200, string(body))
}

func (o *fakeOrganization) count(verb string) (n int) {
	for _, name := range o.ran {
		if strings.HasPrefix(name, verb) {
			n++
		}
	}
	return n
}

var exchangeSub = backup.SubApplication{AppID: "app-1", PrincipalID: "sp-1", DisplayName: "Holdfast backup: Exchange"}

func ensureIn(t *testing.T, o *fakeOrganization) error {
	t.Helper()
	c, err := New(Config{ClientID: "x", Secret: []byte("y"), Transport: &server{answer: o.answer}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.EnsureRole(t.Context(), "contoso.onmicrosoft.com", "ada@contoso.example", backup.Secret("token"), exchangeSub)
	return err
}

func TestEnsureRoleMakesEverythingOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrganization()
		o.objects["ServicePrincipal"] = []map[string]any{{"AppId": "other", "ObjectId": "other"}}
		if err := ensureIn(t, o); err != nil {
			t.Fatal(err)
		}
		if o.count("New-") != 3 || o.count("Add-") != 1 {
			t.Errorf("ran %v", o.ran)
		}
		o.ran = nil
		if err := ensureIn(t, o); err != nil {
			t.Fatal(err)
		}
		if o.count("New-")+o.count("Add-") != 0 {
			t.Errorf("the second time it ran %v", o.ran)
		}
	})
}

func TestEnsureRolePendingWhileDehydrated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrganization()
		o.ready = time.Now().Add(time.Hour)
		err := ensureIn(t, o)
		if p := backup.AsProblem(err); p.Kind != backup.ProblemRolePending || !p.Temporary {
			t.Fatalf("dehydrated: %v", err)
		}
		time.Sleep(61 * time.Minute)
		if err := ensureIn(t, o); err != nil {
			t.Errorf("ready: %v", err)
		}
	})
}

func TestEnsureRoleWaitsForReplication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrganization()
		o.lag = 20 * time.Second
		o.refuse["New-ServicePrincipal"] = refusedCmdlet(400, "AADServicePrincipalNotFound", "No ServicePrincipal with Object Id 'sp-1' is registered")
		o.refuse["Add-RoleGroupMember"] = refusedCmdlet(404, "ManagementObjectNotFoundException", "couldn't be found on 'dc'")
		if err := ensureIn(t, o); err != nil {
			t.Fatal(err)
		}
		if n := o.count("New-ServicePrincipal"); n != 2 {
			t.Errorf("New-ServicePrincipal ran %d times, want 2", n)
		}
	})
}

func TestEnsureRoleRepairsAndRefusesChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrganization()
		if err := ensureIn(t, o); err != nil {
			t.Fatal(err)
		}
		group := o.objects["RoleGroup"][0]
		group["Roles"] = []any{} // somebody took the role out of the group
		if err := ensureIn(t, o); err != nil || !slices.Contains(values(group["Roles"]), roleRecipients) {
			t.Errorf("repaired: %v, roles %v", err, group["Roles"])
		}
		group["Roles"] = []any{roleRecipients, "Mail Recipients"}
		o.ran = nil
		err := ensureIn(t, o)
		if p := backup.AsProblem(err); p.Kind != backup.ProblemRoleChanged || !strings.Contains(p.Text, "Mail Recipients") || o.count("New-")+o.count("Add-") != 0 {
			t.Errorf("a wider group: %v, ran %v", err, o.ran)
		}
	})
}

func TestEnsureRoleOfAPersonWhoMayNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrganization()
		o.cmdlets = []string{"Get-RoleGroup", "Get-ManagementRole"}
		p := backup.AsProblem(ensureIn(t, o))
		if p.Kind != backup.ProblemMissingCmdlets || !strings.Contains(p.Text, "New-RoleGroup") || !strings.Contains(p.Text, "ada@contoso.example") || len(o.ran) != 0 {
			t.Errorf("%+v, ran %v", p, o.ran)
		}
		o = newOrganization()
		o.refuse["New-ManagementRole"] = refusedCmdlet(400, "CmdletAccessDeniedException", "The cmdlet New-ManagementRole is not present in the role definition of the current user")
		if p := backup.AsProblem(ensureIn(t, o)); p.Kind != backup.ProblemRolePending {
			t.Errorf("refused after it was listed: %v", p)
		}
		o = newOrganization()
		o.refuse["New-RoleGroup"] = refusedCmdlet(400, "Exception", "You must be assigned a delegating role assignment to the management role")
		if p := backup.AsProblem(ensureIn(t, o)); p.Kind != backup.ProblemNotAdministrator {
			t.Errorf("may not delegate: %v", p)
		}
	})
}
