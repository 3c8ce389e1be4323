package handlers_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestNewAccountIsProtected follows a user who is hired after the tenant was
// connected, without a rule and with one.
func TestNewAccountIsProtected(t *testing.T) {
	o := newOffice(t)
	hired := func(address, deleted string) {
		o.change(http.MethodPatch, inContoso+"/users/"+url.PathEscape(address), `{"deleted":`+deleted+`}`)
	}
	hired(priya, "true")
	hired(juergen, "true")
	v := o.connected(megan)
	if v.get("/dashboard"); strings.Contains(v.text(), "not backed up") {
		t.Error("accounts that were left out are called new")
	}

	hired(priya, "false")
	o.listed(v, func() bool { return strings.Contains(v.text(), "1 new account is not backed up.") })
	v.follow("protected automatically").says("Automatic protection")
	if v.do(http.MethodPost, "/settings/protection", url.Values{}); v.status != http.StatusUnprocessableEntity {
		t.Errorf("no answer = %d, want 422", v.status)
	}
	v.says("Choose one of the answers.")
	v.do(http.MethodPost, "/settings/protection", url.Values{"protection": {"users"}}).says("Saved.")
	hired(juergen, "false")
	o.listed(v, func() bool { return v.statuses("Protected") == 2 })
	v.says("Jürgen Groß").says("1 new account is not backed up.")
	v.press("Leave out on purpose").says("They are left out.")
	if v.get("/dashboard"); strings.Contains(v.text(), "not backed up") {
		t.Error("what is left out on purpose is still spoken of")
	}
	v.get("/activity").says("Protected new accounts by itself").says(juergen).says("Changed the automatic protection")
	o.signIn(viewerMail).get("/settings").says("Users with a mailbox")
}
