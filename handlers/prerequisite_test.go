package handlers_test

import (
	"net/http"
	"strings"
	"testing"
)

// met is the mark of a prerequisite on the page: ok, later or wrong.
func (v *visitor) met(title string) string {
	v.t.Helper()
	li := v.doc.Find(".checks li:contains('" + title + "')")
	if li.Length() != 1 {
		v.t.Fatalf("%d prerequisites %q: %s", li.Length(), title, v.text())
	}
	return li.AttrOr("class", "")
}

func TestPrerequisitesShowWhatIsMet(t *testing.T) {
	o := newOffice(t)
	v := o.signIn(adminMail)
	v.get("/add-backup/microsoft365")
	for title, want := range map[string]string{"Mail is among": "ok", "Exchange Online licence": "later", "PowerShell access": "later", "ten Exchange cmdlets": "later"} {
		if got := v.met(title); got != want {
			t.Errorf("before the sign-in %q is %s, want %s", title, got, want)
		}
	}

	t.Run("no Exchange licence", func(t *testing.T) {
		v.t = t
		v.consent("admin@tailspinsites.onmicrosoft.com", "Tailspin-2026").says("no Exchange Online licence")
		if got := v.met("Not met: The tenant has an Exchange Online licence"); got != "wrong" {
			t.Errorf("the licence is %s", got)
		}
		v.get("/add-backup/microsoft365")
		if got := v.met("Exchange Online licence"); got != "wrong" {
			t.Errorf("on the Add Backup page the licence is %s", got)
		}
	})

	t.Run("after the sign-in", func(t *testing.T) {
		v.t = t
		v.get("/setup").press("Try again at Microsoft").microsoft(contosoAdmin, contosoPass).applications()
		for title, want := range map[string]string{"Exchange Online licence": "ok", "No other organization": "ok", "You may create applications": "ok", "PowerShell access": "later"} {
			if got := v.met(title); got != want {
				t.Errorf("in step 2 %q is %s, want %s", title, got, want)
			}
		}
	})

	t.Run("PowerShell is off for the person", func(t *testing.T) {
		v.t = t
		o.change(http.MethodPatch, inContoso+"/users/"+contosoAdmin, `{"noPowerShell":true}`)
		defer o.change(http.MethodPatch, inContoso+"/users/"+contosoAdmin, `{"noPowerShell":false}`)
		v.get("/setup").press("Authorize in this browser").microsoft(contosoAdmin, contosoPass)
		v.until("/setup", func() bool { return v.doc.Find(".problem").Length() > 0 })
		v.says("PowerShell is switched off").says("Set-User")
		if got := v.met("PowerShell access"); got != "wrong" {
			t.Errorf("PowerShell is %s", got)
		}
	})

	t.Run("device codes are blocked", func(t *testing.T) {
		v.t = t
		o.change(http.MethodPatch, inContoso, `{"blockDeviceCode":"poll"}`)
		defer o.change(http.MethodPatch, inContoso, `{"blockDeviceCode":""}`)
		v.get("/setup").press("Get a code")
		code, page := v.code()
		o.enterCode(code, page, contosoAdmin, contosoPass)
		o.passInterval()
		v.get("/setup").press("Verify").says("53003").says("Authorize in this browser").says("Leave the policy as it is")
		if got := v.met("The tenant allows device codes"); got != "wrong" {
			t.Errorf("device codes are %s", got)
		}
		for _, bad := range []string{"disable the policy", "exclude", "turn off the policy"} {
			if strings.Contains(strings.ToLower(v.text()), bad) {
				t.Errorf("the page tells somebody to %s", bad)
			}
		}
	})

	t.Run("then all are met", func(t *testing.T) {
		v.t = t
		v.get("/setup").press("Authorize in this browser").microsoft(contosoAdmin, contosoPass)
		v.until("/setup", func() bool { return v.doc.Find("#accounts").Length() > 0 })
		v.get("/add-backup/microsoft365")
		if got := v.met("PowerShell access"); got != "ok" {
			t.Errorf("PowerShell is %s", got)
		}
	})
}
