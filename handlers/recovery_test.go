package handlers_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"filippo.io/age"
)

func TestThePortalRemindsUntilSomethingRecoversIt(t *testing.T) {
	p := newPortal(t)
	const reminder = "If this server were lost, nobody could read the backups"
	dana, sam := p.as(danaMail), p.as(samMail)
	for _, path := range []string{"/partner/organizations", "/partner/settings/storage"} {
		if _, doc := dana.get(path); !strings.Contains(doc.Text(), reminder) {
			t.Errorf("%s does not remind the owner", path)
		}
	}
	if _, doc := sam.get("/partner/organizations"); strings.Contains(doc.Text(), reminder) {
		t.Error("support is reminded of what it can't change")
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	res, doc := dana.post("/partner/settings/storage", url.Values{"recipient": {"age1nonsense"}})
	if res.StatusCode != http.StatusUnprocessableEntity || doc.Find("#recipient").AttrOr("value", "") != "age1nonsense" || doc.Find("#recipient-error").Length() != 1 {
		t.Errorf("a wrong key = %d", res.StatusCode)
	}
	res, doc = dana.post("/partner/settings/storage", url.Values{"recipient": {identity.String()}})
	if html, _ := doc.Html(); res.StatusCode != http.StatusUnprocessableEntity || strings.Contains(html, identity.String()) {
		t.Errorf("a secret key = %d, and must not come back", res.StatusCode)
	}
	if res, _ := dana.post("/partner/settings/storage", url.Values{"recipient": {identity.Recipient().String()}}); res.StatusCode != http.StatusSeeOther {
		t.Errorf("the public half = %d, want 303", res.StatusCode)
	}
	for _, path := range []string{"/partner/organizations", "/partner/settings/storage"} {
		if _, doc := dana.get(path); strings.Contains(doc.Text(), reminder) {
			t.Errorf("%s still reminds", path)
		}
	}
	if _, doc := dana.get("/partner/activity"); !strings.Contains(doc.Text(), "Changed the offline recovery key") {
		t.Error("the change is not in the activity")
	}
}
