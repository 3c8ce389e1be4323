package handlers_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/m365"
)

// role is the custom role of the first organization.
func (o *office) role() backup.CustomRole {
	o.t.Helper()
	role, err := o.store.CustomRole(o.t.Context(), o.org(adminMail), o.conn().ID)
	if err != nil {
		o.t.Fatal(err)
	}
	return role
}

// roleBecomes has the role checked, again and again, as somebody does who waits
// for Exchange Online, until its card says what is wanted.
func (v *visitor) roleBecomes(o *office, want string) *visitor {
	v.t.Helper()
	return v.until("/settings/credentials", func() bool {
		if strings.Contains(v.text(), want) {
			return true
		}
		for _, button := range []string{"Try now", "Check now"} {
			if v.doc.Find("button:contains('"+button+"')").Length() > 0 {
				v.press(button)
				o.idle()
			}
		}
		return false
	})
}

func TestCustomRoleIsFoundDisconnectedAndRepaired(t *testing.T) {
	o, v := connected(t)
	group, role := url.PathEscape(m365.RoleGroup), url.PathEscape("Holdfast View-Only Recipients")
	exchange := inContoso + "/exchange"
	for _, damage := range []struct {
		name, says, made string
		change           func()
	}{
		{"role group deleted", "The custom role in Exchange Online is gone", "Create the role group",
			func() { o.change(http.MethodDelete, exchange+"/groups/"+group, "") }},
		{"member removed", "The custom role in Exchange Online is gone", "Add Holdfast's application to the role group",
			func() { o.change(http.MethodDelete, exchange+"/groups/"+group+"/members", "") }},
		{"role deleted", "The custom role in Exchange Online is gone", "Create the role Holdfast View-Only Recipients",
			func() { o.change(http.MethodDelete, exchange+"/roles/"+role, "") }},
		{"entry removed", "The custom role in Exchange Online is gone", "Make Holdfast's application known",
			func() {
				o.change(http.MethodDelete, exchange+"/servicePrincipals/"+o.apps()[backup.WorkloadExchange].AppID, "")
			}},
	} {
		t.Run(damage.name, func(t *testing.T) {
			damage.change()
			v.roleBecomes(o, "Disconnected").says(damage.says).says("Get-Mailbox should be allowed, and is not")
			if r := o.role(); r.State != backup.RoleDisconnected || r.NextTryAt.Sub(r.CheckedAt) < 20*time.Hour {
				t.Errorf("role is %s, next try %s after the check", r.State, r.NextTryAt.Sub(r.CheckedAt))
			}
			v.get("/dashboard").says("custom role Disconnected")
			before := o.applicationsInTenant()
			v.get("/settings/credentials").press("Repair the custom role").says("Repair")
			v.press("Authorize in this browser").microsoft(contosoAdmin, contosoPass)
			v.until("/setup", func() bool { return v.at.Path == "/settings/credentials" })
			v.roleBecomes(o, "Custom Role StatusConnected")
			o.noTokensLeft(v)
			if n := o.applicationsInTenant(); n != before {
				t.Errorf("%d applications, before %d", n, before)
			}
			v.get("/activity").says(damage.made)
		})
	}
}

// A role whose cmdlets somebody changed is left alone until the role is deleted.
func TestChangedCustomRoleIsNamed(t *testing.T) {
	o, v := connected(t)
	role := inContoso + "/exchange/roles/" + url.PathEscape("Holdfast View-Only Recipients")
	o.change(http.MethodPatch, role, `{"cmdlets":["Get-Mailbox"]}`)
	v.roleBecomes(o, "Disconnected").says("Somebody changed the custom role")
	if lines := v.doc.Find(".differences li").Length(); lines != len(backup.RoleCmdlets)-1 {
		t.Errorf("%d lines differ, want %d: %s", lines, len(backup.RoleCmdlets)-1, v.text())
	}
	o.change(http.MethodDelete, role, "")
	v.get("/settings/credentials").press("Repair the custom role")
	v.press("Authorize in this browser").microsoft(contosoAdmin, contosoPass)
	v.until("/setup", func() bool { return v.at.Path == "/settings/credentials" })
	v.roleBecomes(o, "Custom Role StatusConnected")
}

// A role that stays pending is tried until three days are over with the
// administrator's token, then daily without it, and connects by itself.
func TestCustomRolePendingForDays(t *testing.T) {
	o := newOffice(t)
	v := o.signIn(adminMail)
	o.change(http.MethodPatch, inContoso+"/exchange", `{"roleDelay":"100h"}`)
	v.consent(contosoAdmin, contosoPass).applications()
	v.press("Authorize in this browser").microsoft(contosoAdmin, contosoPass)
	v.until("/setup", func() bool { return v.doc.Find("#accounts").Length() > 0 })
	v.says("Pending")
	id := v.doc.Find("#accounts tr:contains('New Starter') input").AttrOr("value", "")
	v.press("Back up the selected accounts", "account", id).says("Microsoft 365 is connected")
	role := o.role()
	if role.State != backup.RolePending || len(role.Token) == 0 || role.NextTryAt.IsZero() {
		t.Fatalf("role is %s with a token of %d bytes, next try %s", role.State, len(role.Token), role.NextTryAt)
	}
	secret := string(role.Token)
	v.get("/settings/credentials").says("Pending, next try").says("Try now").says("Paused until it is Connected: public folder backup and restore, and journaling")
	if strings.Contains(v.text(), "Repair the custom role") {
		t.Error("a repair is offered while the tries go on")
	}

	// Three days later nothing has come of it.
	role.PendingSince = role.PendingSince.Add(-backup.RoleGiveUp)
	if err := o.store.SaveCustomRole(t.Context(), &role); err != nil {
		t.Fatal(err)
	}
	v.roleBecomes(o, "Repair the custom role").says("Pending, next try in").says("more than three days").says("Repair the custom role")
	role = o.role()
	if len(role.Token)+len(role.RefreshToken) > 0 || role.NextTryAt.Sub(role.CheckedAt) < 20*time.Hour {
		t.Errorf("given up with a token of %d bytes, next try after %s", len(role.Token), role.NextTryAt.Sub(role.CheckedAt))
	}
	o.nowhere(secret)

	// Exchange is ready at last: the application finds it out alone.
	o.change(http.MethodPatch, inContoso+"/exchange", `{"roleDelay":"0s"}`)
	v.roleBecomes(o, "Custom Role StatusConnected")
}

// nowhere fails the test if a secret stands in the files of the database.
func (o *office) nowhere(secret string) {
	o.t.Helper()
	for name, data := range o.databaseFiles() {
		if strings.Contains(string(data), secret) {
			o.t.Errorf("%s holds the administrator's token", name)
		}
	}
}
