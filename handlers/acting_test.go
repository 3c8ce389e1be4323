package handlers_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/PuerkitoBio/goquery"
)

// actionOf is where the form with a button of these words goes.
func actionOf(doc *goquery.Document, button string) string {
	return doc.Find("button").FilterFunction(func(_ int, s *goquery.Selection) bool { return text(s) == button }).Closest("form").AttrOr("action", "")
}

func TestActingNeedsLeaveWhereItIsForbidden(t *testing.T) {
	p := newPortal(t)
	adele, path := p.as(adeleMail), "/partner/organizations/"+string(p.orgs["Contoso Dental"].ID)
	acting := p.acting(samMail, "Contoso Dental")
	if res, _ := acting.get("/dashboard"); res.StatusCode != http.StatusOK {
		t.Fatalf("acting = %d", res.StatusCode)
	}
	if res, _ := acting.post("/settings/acting", url.Values{"forbid_acting": {"on"}}); res.StatusCode != http.StatusForbidden {
		t.Errorf("somebody who acts changes who may act: %d", res.StatusCode)
	}

	adele.post("/settings/acting", url.Values{"forbid_acting": {"on"}})
	if res, _ := acting.get("/dashboard"); res.StatusCode == http.StatusOK {
		t.Error("the acting goes on although it is forbidden")
	}
	sam := p.as(samMail)
	_, doc := sam.get(path)
	says(t, doc, "lets nobody act for it without being asked")
	reason := url.Values{"reason": {"The weekly report does not come"}}
	res, _ := sam.post(path+"/act", reason)
	if _, doc = sam.follow(res); !strings.Contains(doc.Text(), "was asked") {
		t.Errorf("asking = %d: %s", res.StatusCode, text(doc.Find("main")))
	}
	res, _ = sam.post(path+"/act", reason)
	_, doc = sam.follow(res)
	says(t, doc, "nobody has answered yet")
	if res, _ := sam.get("/dashboard"); res.StatusCode == http.StatusOK {
		t.Error("asking is enough")
	}

	_, doc = adele.get("/dashboard")
	says(t, doc, "asks to act for your organization")
	if _, doc := p.as(leeMail).get("/settings"); actionOf(doc, "Grant for a day") != "" {
		t.Error("a viewer may grant it")
	}
	_, doc = adele.get("/settings")
	says(t, doc, "The weekly report does not come")
	grant, decline := actionOf(doc, "Grant for a day"), actionOf(doc, "Decline")
	if res, _ := p.as(nestorMail).post(grant, nil); res.StatusCode != http.StatusNotFound {
		t.Errorf("another organization grants it: %d", res.StatusCode)
	}
	adele.post(decline, nil)
	if res, _ := adele.post(grant, nil); res.StatusCode != http.StatusNotFound {
		t.Errorf("answered twice: %d", res.StatusCode)
	}
	if res, _ := sam.post(path+"/act", reason); res.Header.Get("Location") == "/dashboard" {
		t.Error("a declined request lets in")
	}
	_, doc = adele.get("/settings")
	adele.post(actionOf(doc, "Grant for a day"), nil)
	if res, _ := p.as(danaMail).post(path+"/act", reason); res.Header.Get("Location") == "/dashboard" {
		t.Error("leave for one person lets another in")
	}
	if res, _ := sam.post(path+"/act", reason); res.Header.Get("Location") != "/dashboard" {
		t.Errorf("with leave = %d %s", res.StatusCode, res.Header.Get("Location"))
	}
	_, doc = adele.get("/activity")
	for _, want := range []string{"Granted acting for a day", "Declined acting", "Asked for leave to act"} {
		says(t, doc, want)
	}
	// Forbidding it anew takes leave back.
	adele.post("/settings/acting", nil)
	adele.post("/settings/acting", url.Values{"forbid_acting": {"on"}})
	if res, _ := sam.get("/dashboard"); res.StatusCode == http.StatusOK {
		t.Error("leave outlasts the prohibition")
	}
}

func TestPagesOfAnOrganizationAskAPartnerToChooseOne(t *testing.T) {
	p := newPortal(t)
	for _, path := range []string{"/dashboard", "/settings/retention"} {
		sam := p.as(samMail)
		res, _ := sam.get(path)
		_, doc := sam.follow(res)
		warns(t, doc, "Choose an organization and act for it to see its pages.")
	}
}
