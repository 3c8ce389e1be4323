package handlers_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/PuerkitoBio/goquery"

	"holdfast/backup"
	"holdfast/backup/jobs"
	"holdfast/backup/outmail/outmailtest"
	"holdfast/handlers"
	"holdfast/store"
)

// crews are the pages of people with who manages and who looks on.
func (p *portal) crews() []struct {
	name, path, manager, viewer, top, low, last string
} {
	return []struct{ name, path, manager, viewer, top, low, last string }{
		{"organization by itself", "/settings/users", adeleMail, "", "admin", "viewer", adeleMail},
		{"organization by its partner", "/partner/organizations/" + string(p.orgs["Contoso Dental"].ID) + "/users", danaMail, samMail, "admin", "viewer", adeleMail},
		{"staff", "/partner/staff", danaMail, samMail, "owner", "support", danaMail},
	}
}

func TestPeopleAreInvitedChangedAndRemoved(t *testing.T) {
	p := newPortal(t)
	for _, c := range p.crews() {
		t.Run(c.name, func(t *testing.T) {
			b := p.as(c.manager)
			_, doc := b.get(c.path)
			says(t, doc, "Invite a person")
			if c.viewer != "" {
				if _, doc := p.as(c.viewer).get(c.path); strings.Contains(doc.Text(), "Invite a person") || doc.Find("a[aria-label^=Change]").Length() > 0 {
					t.Error("somebody who may only look is offered changes")
				}
			}
			mail := strings.ReplaceAll(c.name, " ", ".") + "@people.example"
			res, doc := b.post(c.path, url.Values{"name": {"Nora"}, "email": {"not an address"}, "role": {"emperor"}})
			if res.StatusCode != http.StatusUnprocessableEntity || doc.Find("input[name=name]").AttrOr("value", "") != "Nora" {
				t.Errorf("bad input = %d", res.StatusCode)
			}
			says(t, doc, "Choose what this person may do")
			res, _ = b.post(c.path, url.Values{"name": {"Nora"}, "email": {mail}, "role": {c.low}})
			_, doc = b.follow(res)
			says(t, doc, "Invited")
			one := doc.Find("tr:contains('"+mail+"') a").AttrOr("href", "")
			giver, list := b, c.path
			if c.manager == adeleMail { // an organization has the link from its partner
				says(t, doc, "ask Northwind MSP for the set-up link of Nora")
				giver, list = p.as(danaMail), "/partner/organizations/"+string(p.orgs["Contoso Dental"].ID)+"/users"
				res, _ = giver.post(list+strings.TrimPrefix(one, c.path)+"/link", nil)
				_, doc = giver.follow(res)
			}
			link := setUpLink(doc)
			if !strings.Contains(link, "/set-up/") {
				t.Fatalf("no link on the page: %s", text(doc.Find("main")))
			}
			if _, doc := giver.get(list); strings.Contains(doc.Text(), "/set-up/") {
				t.Error("the link is shown twice")
			}

			fresh := p.as("")
			path := strings.TrimPrefix(link, "http://127.0.0.1")
			_, doc = fresh.post(path, url.Values{"password": {"password1234"}, "again": {"password1234"}})
			says(t, doc, "among the first that anybody tries")
			if res, _ := fresh.post(path, url.Values{"password": {portalPassword}, "again": {portalPassword}}); res.StatusCode != http.StatusSeeOther {
				t.Errorf("choosing a password = %d", res.StatusCode)
			}
			if res, _ := p.as("").get(path); res.StatusCode != http.StatusNotFound {
				t.Errorf("the link works twice: %d", res.StatusCode)
			}
			_, doc = b.get(c.path)
			says(t, doc, "Active")

			if res, _ := b.post(one+"/role", url.Values{"role": {c.top}}); res.StatusCode != http.StatusSeeOther {
				t.Errorf("another role = %d", res.StatusCode)
			}
			if _, doc := b.post(one+"/role", url.Values{"role": {"emperor"}}); !strings.Contains(doc.Text(), "Choose what this person may do") {
				t.Error("a role of nowhere is taken")
			}
			if res, _ := b.post(one+"/role", url.Values{"role": {c.low}}); res.StatusCode != http.StatusSeeOther {
				t.Errorf("the old role again = %d", res.StatusCode)
			}
			// The last one who may do everything stays.
			last := c.path + "/" + string(p.people[c.last].ID)
			for action, form := range map[string]url.Values{"/role": {"role": {c.low}}, "/remove": {"confirm": {"yes"}}} {
				if res, doc := b.post(last+action, form); res.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(doc.Text(), "This is the last") {
					t.Errorf("%s of the last one = %d", action, res.StatusCode)
				}
			}

			theirs := p.as(mail)
			if res, _ := b.post(one+"/remove", nil); res.StatusCode != http.StatusUnprocessableEntity {
				t.Errorf("removing without confirmation = %d", res.StatusCode)
			}
			if res, _ := b.post(one+"/remove", url.Values{"confirm": {"yes"}}); res.StatusCode != http.StatusSeeOther {
				t.Errorf("removing = %d", res.StatusCode)
			}
			if res, _ := theirs.get("/account"); !strings.HasPrefix(res.Header.Get("Location"), "/sign-in") {
				t.Errorf("a removed person goes on: %d %s", res.StatusCode, res.Header.Get("Location"))
			}
			if res, _ := p.as("").post("/sign-in", url.Values{"email": {mail}, "password": {portalPassword}}); res.StatusCode != http.StatusUnprocessableEntity {
				t.Errorf("a removed person signs in: %d", res.StatusCode)
			}
			if res, _ := b.post(c.path, url.Values{"name": {"Nora"}, "email": {mail}, "role": {c.low}}); res.StatusCode != http.StatusSeeOther {
				t.Errorf("the address is not free again: %d", res.StatusCode)
			}
		})
	}
}

// setUpLink is the link that a page shows, "" if none.
func setUpLink(doc *goquery.Document) string {
	return doc.Find("#set-up-link").AttrOr("value", strings.TrimSpace(doc.Find("#set-up-link").Text()))
}

// invited invites somebody, and returns every byte of the answer and of the list
// after it, with the address and what is random taken out, and the person's id.
func (b *browser) invited(path, mail, role string) (answer string, id backup.PersonID) {
	t := b.p.t
	t.Helper()
	res, doc := b.post(path, url.Values{"name": {"Quinn"}, "email": {mail}, "role": {role}})
	page, err := doc.Html()
	if err != nil {
		t.Fatal(err)
	}
	_, doc = b.follow(res)
	list, err := doc.Html()
	if err != nil {
		t.Fatal(err)
	}
	_, change, ok := strings.Cut(doc.Find("a[aria-label='Change Quinn']").AttrOr("href", ""), path+"/")
	if !ok {
		t.Fatalf("nobody was invited: %s", text(doc.Find("main")))
	}
	_, one := b.get(path + "/" + change)
	person, err := one.Html()
	if err != nil {
		t.Fatal(err)
	}
	res.Header.Del("Set-Cookie")
	answer = strings.NewReplacer(mail, "ADDRESS", change, "ID").Replace(fmt.Sprint(res.StatusCode, res.Header, page, list, person))
	return regexp.MustCompile(`/set-up/\w+`).ReplaceAllString(answer, "/set-up/TOKEN"), backup.PersonID(change)
}

// An organization that invites does not learn who has an account, here or in
// another one, and gets no link to find out with; the partner, who sees them all,
// reads where it is if no letter can tell the person.
func TestInvitingTellsNobodyWhoHasAnAccount(t *testing.T) {
	settings := backup.MailSettings{Host: "127.0.0.1", Port: 1, TLS: backup.MailSTARTTLS, From: "backup@northwind.example", FromName: "Northwind"} // nobody sends
	for name, mail := range map[string]bool{"with e-mail": true, "without e-mail": false} {
		p := newPortal(t)
		if mail {
			if err := p.store.SaveMailSettings(t.Context(), settings, p.owner); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range p.crews() {
			t.Run(name+"/"+c.name, func(t *testing.T) {
				b := p.as(c.manager)
				known, knownID := b.invited(c.path, strings.ToUpper(nestorMail), c.low)
				if res, _ := b.post(c.path+"/"+string(knownID)+"/remove", url.Values{"confirm": {"yes"}}); res.StatusCode != http.StatusSeeOther {
					t.Fatalf("removing the invitation = %d", res.StatusCode)
				}
				unknown, id := b.invited(c.path, "NOBODY@fabrikam.example", c.low)
				if told := !mail && c.manager == danaMail; told {
					if strings.Contains(known, "/set-up/") || !strings.Contains(known, "signs in to Fabrikam Legal already") {
						t.Errorf("the partner is not told that the address is in use: %s", known)
					}
					if !strings.Contains(unknown, "/set-up/") {
						t.Error("the link cannot be had")
					}
				} else {
					if known != unknown {
						t.Errorf("the answers differ:\n%s\n%s", known, unknown)
					}
					if strings.Contains(known, "/set-up/") {
						t.Error("the link is shown to whoever invites")
					}
				}
				if res, _ := b.post(c.path+"/"+string(id)+"/remove", url.Values{"confirm": {"yes"}}); res.StatusCode != http.StatusSeeOther {
					t.Fatalf("removing the invitation = %d", res.StatusCode)
				}
			})
		}
		// The person whose address it is has noticed nothing, and is still who they were.
		if a := p.as(nestorMail); a == nil {
			t.Error("the person can't sign in any more")
		}
	}
}

func TestInvitationsToATakenAddressEndInALetter(t *testing.T) {
	server := outmailtest.Start(t, backup.MailSTARTTLS)
	p := newPortal(t)
	b := p.as(adeleMail)
	_, known := b.invited("/settings/users", nestorMail, "viewer") // no e-mail yet, so there is a link
	token, err := p.store.NewSetUpLink(t.Context(), store.SetUpLink{Purpose: store.SetUpPassword, PersonID: known, ExpiresAt: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	path, form := "/set-up/"+token.Reveal(), url.Values{"password": {portalPassword + "!"}, "again": {portalPassword + "!"}}
	if res, _ := p.browser().post(path, form); res.StatusCode != http.StatusNotFound {
		t.Errorf("the link of a taken address = %d, want 404", res.StatusCode)
	}
	if res, _ := p.browser().post("/sign-in", url.Values{"email": {nestorMail}, "password": {portalPassword + "!"}}); res.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("the invitation's password opens the account: %d", res.StatusCode)
	}
	if err := p.store.SaveMailSettings(t.Context(), server.Settings(backup.MailSTARTTLS), p.owner); err != nil {
		t.Fatal(err)
	}
	runner := &jobs.Runner{Store: p.store, Log: slog.New(slog.DiscardHandler), PublicURL: "http://127.0.0.1", MailRoots: server.Roots}
	if err := runner.SendLetter(t.Context(), backup.LetterJob{Letter: backup.LetterInvitation, PersonID: known}); err != nil {
		t.Fatal(err)
	}
	sent := server.Messages(t, 1)
	data := strings.ReplaceAll(sent[0].Data, "=\r\n", "")
	if sent[0].To[0] != nestorMail || !strings.Contains(data, "You sign in with it already") || !strings.Contains(data, "Contoso Dental invited you") || strings.Contains(data, "/set-up/") {
		t.Errorf("the letter to somebody with an account, to %v: %s", sent[0].To, data)
	}
	// Once the address is free, the invitation can be accepted.
	if res, _ := p.as(danaMail).post("/partner/organizations/"+string(p.orgs["Fabrikam Legal"].ID)+"/users", url.Values{"name": {"Ann"}, "email": {"ann@fabrikam.example"}, "role": {"admin"}}); res.StatusCode != http.StatusSeeOther {
		t.Fatalf("another admin = %d", res.StatusCode)
	}
	if res, _ := p.as(danaMail).post("/partner/organizations/"+string(p.orgs["Fabrikam Legal"].ID)+"/users/"+string(p.people[nestorMail].ID)+"/remove", url.Values{"confirm": {"yes"}}); res.StatusCode != http.StatusSeeOther {
		t.Fatalf("removing = %d", res.StatusCode)
	}
	if res, _ := p.browser().post(path, form); res.StatusCode != http.StatusSeeOther {
		t.Errorf("the link of an address that is free = %d", res.StatusCode)
	}
	if a, err := p.store.Actor(t.Context(), backup.Session{PersonID: known}); err != nil || a.Org.Name != "Contoso Dental" {
		t.Errorf("the person belongs to %s, %v", a.Org.Name, err)
	}
	if res, doc := b.post("/settings/users", url.Values{"name": {"Twice"}, "email": {strings.ToUpper(nestorMail)}, "role": {"viewer"}}); res.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(doc.Text(), "in the list already") {
		t.Errorf("an address of the own list = %d", res.StatusCode)
	}
}

// TestASetUpLinkTellsNobodyWhoHasAnAccount has two invitations to one address
// accepted: the link that comes too late is like one that never was, whatever
// is done with it.
func TestASetUpLinkTellsNobodyWhoHasAnAccount(t *testing.T) {
	p := newPortal(t)
	const mail = "twice@litware.example"
	link := func(org string) string {
		b := p.as(danaMail)
		res, _ := b.post("/partner/organizations/"+string(p.orgs[org].ID)+"/users", url.Values{"name": {"Quinn"}, "email": {mail}, "role": {"viewer"}})
		_, doc := b.follow(res)
		return strings.TrimPrefix(setUpLink(doc), "http://127.0.0.1")
	}
	first, late := link("Contoso Dental"), link("Fabrikam Legal")
	form := url.Values{"password": {portalPassword}, "again": {portalPassword}}
	visitor := p.browser()
	if res, _ := visitor.get(late); res.StatusCode != http.StatusOK {
		t.Fatalf("a link before the other is used = %d", res.StatusCode)
	}
	if res, _ := p.browser().post(first, form); res.StatusCode != http.StatusSeeOther {
		t.Fatalf("accepting = %d", res.StatusCode)
	}
	never := "/set-up/" + strings.Repeat("A", len(late)-len("/set-up/"))
	for name, ask := range map[string]func(path string) (*http.Response, *goquery.Document){
		"opened":             visitor.get,
		"used":               func(path string) (*http.Response, *goquery.Document) { return visitor.post(path, form) },
		"used without words": func(path string) (*http.Response, *goquery.Document) { return visitor.post(path, nil) },
		"at an issuer":       func(path string) (*http.Response, *goquery.Document) { return visitor.get(path + "/oidc/x") },
	} {
		if got, want := wholeAnswer(t, ask, late), wholeAnswer(t, ask, never); got != want || !strings.HasPrefix(got, "404") {
			t.Errorf("%s, the link of an address that somebody has differs from one that never was:\n%s\n%s", name, got, want)
		}
	}
	// The organization whose invitation it was sees nobody come, and no more.
	nestor := p.as(nestorMail)
	_, doc := nestor.get("/settings/users")
	says(t, doc, "Quinn "+mail+" Viewer Invited")
	again := doc.Find("a[aria-label='Change Quinn']").AttrOr("href", "")
	res, _ := nestor.post(again+"/link", nil)
	_, doc = nestor.follow(res)
	says(t, doc, "No e-mail goes out from here, so ask Northwind MSP for the set-up link of Quinn.")
	if setUpLink(doc) != "" {
		t.Error("the organization has the link")
	}
}

// wholeAnswer is every byte of an answer but what is random in each.
func wholeAnswer(t *testing.T, ask func(string) (*http.Response, *goquery.Document), path string) string {
	t.Helper()
	res, doc := ask(path)
	page, err := doc.Html()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(res.StatusCode, res.Header, page)
}

func TestPeopleOfOthersAreOutOfReach(t *testing.T) {
	p := newPortal(t)
	nestor, lee := string(p.people[nestorMail].ID), string(p.people[leeMail].ID)
	for mail, path := range map[string]string{
		adeleMail: "/settings/users/" + nestor, danaMail: "/partner/organizations/" + string(p.orgs["Contoso Dental"].ID) + "/users/" + nestor,
	} {
		for _, action := range []string{"/role", "/link", "/factors", "/remove"} {
			if res, _ := p.as(mail).post(path+action, url.Values{"role": {"viewer"}, "confirm": {"yes"}, "reason": {"because"}}); res.StatusCode != http.StatusNotFound {
				t.Errorf("%s POST %s%s = %d", mail, path, action, res.StatusCode)
			}
		}
	}
	if res, _ := p.as(danaMail).post("/partner/staff/"+lee+"/role", url.Values{"role": {"owner"}}); res.StatusCode != http.StatusNotFound {
		t.Errorf("somebody of an organization becomes an owner: %d", res.StatusCode)
	}
	if res, _ := p.as(samMail).post("/partner/staff/"+string(p.people[samMail].ID)+"/role", url.Values{"role": {"owner"}}); res.StatusCode != http.StatusForbidden {
		t.Errorf("support makes itself an owner: %d", res.StatusCode)
	}
}

func TestLostSecondFactorsAreReset(t *testing.T) {
	p := newPortal(t)
	lee := p.as(leeMail)
	appOf(t, lee)
	path := "/settings/users/" + string(p.people[leeMail].ID)
	b := p.as(adeleMail)
	_, doc := b.get(path)
	says(t, doc, "1 second factor")
	if res, doc := b.post(path+"/factors", url.Values{"reason": {" "}}); res.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(doc.Text(), "Say why") {
		t.Errorf("without a reason = %d", res.StatusCode)
	}
	if res, _ := b.post(path+"/factors", url.Values{"reason": {"Lost the telephone; called back at the office"}}); res.StatusCode != http.StatusSeeOther {
		t.Errorf("reset = %d", res.StatusCode)
	}
	if res, _ := lee.get("/dashboard"); !strings.HasPrefix(res.Header.Get("Location"), "/sign-in") {
		t.Error("the sessions did not end")
	}
	if res, _ := p.as("").post("/sign-in", url.Values{"email": {leeMail}, "password": {portalPassword}}); res.Header.Get("Location") == "/sign-in/factor" {
		t.Error("a second factor is still asked for")
	}
	_, doc = b.get("/activity")
	says(t, doc, "called back at the office")
}

func TestForgottenPassword(t *testing.T) {
	server := outmailtest.Start(t, backup.MailSTARTTLS)
	p := newPortal(t, func(s *handlers.Server) { s.MailRoots = server.Roots })
	b := p.as("")
	_, doc := b.get("/forgot")
	says(t, doc, "can’t send e-mail")
	if err := p.store.SaveMailSettings(t.Context(), server.Settings(backup.MailSTARTTLS), p.owner); err != nil {
		t.Fatal(err)
	}
	answers := map[string]string{}
	for _, mail := range []string{adeleMail, "nobody@contoso.example"} {
		res, doc := b.post("/forgot", url.Values{"email": {mail}})
		if res.StatusCode != http.StatusOK {
			t.Fatalf("asking = %d", res.StatusCode)
		}
		answers[mail] = strings.ReplaceAll(text(doc.Find("main")), mail, "")
	}
	if answers[adeleMail] != answers["nobody@contoso.example"] {
		t.Error("the answer says whether somebody has the address")
	}
	runner := &jobs.Runner{Store: p.store, Log: slog.New(slog.DiscardHandler), PublicURL: "http://127.0.0.1", MailRoots: server.Roots}
	for _, mail := range []string{adeleMail, "nobody@contoso.example"} {
		if err := runner.SendLetter(t.Context(), backup.LetterJob{Letter: backup.LetterReset, Email: mail}); err != nil {
			t.Fatal(err)
		}
	}
	sent := server.Messages(t, 1)
	if len(sent) != 1 || sent[0].To[0] != adeleMail {
		t.Fatalf("%d messages, the first to %v", len(sent), sent[0].To)
	}
	data := strings.ReplaceAll(strings.ReplaceAll(sent[0].Data, "=\r\n", ""), "=3D", "=")
	_, rest, _ := strings.Cut(data, "http://127.0.0.1/set-up/")
	token := rest[:strings.IndexAny(rest, " \r\n\"<")]
	adele := p.as(adeleMail)
	if res, _ := p.as("").post("/set-up/"+token, url.Values{"password": {"another few words"}, "again": {"another few words"}}); res.StatusCode != http.StatusSeeOther {
		t.Fatalf("a new password = %d", res.StatusCode)
	}
	if res, _ := adele.get("/dashboard"); !strings.HasPrefix(res.Header.Get("Location"), "/sign-in") {
		t.Error("other browsers are still signed in")
	}
	if res, _ := p.as("").get("/set-up/" + token); res.StatusCode != http.StatusNotFound {
		t.Errorf("the link works twice: %d", res.StatusCode)
	}
	for range 2 {
		b.post("/forgot", url.Values{"email": {adeleMail}})
	}
	if res, _ := b.post("/forgot", url.Values{"email": {adeleMail}}); res.StatusCode != http.StatusTooManyRequests || res.Header.Get("Retry-After") == "" {
		t.Errorf("asking again and again = %d", res.StatusCode)
	}
}

func TestSuspendedOrganization(t *testing.T) {
	p := newPortal(t)
	p.connect("Contoso Dental", account{name: "Megan", status: backup.StatusPending})
	org := p.orgs["Contoso Dental"].ID
	path := "/partner/organizations/" + string(org)
	b, adele := p.as(danaMail), p.as(adeleMail)
	due := func() int {
		t.Helper()
		list, err := p.store.DueMailboxes(t.Context(), time.Now().Add(time.Hour), 10)
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	if due() != 1 {
		t.Fatal("nothing is due")
	}
	if res, doc := b.post(path+"/suspend", url.Values{"reason": {""}}); res.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(doc.Text(), "Say why") {
		t.Errorf("without a reason = %d", res.StatusCode)
	}
	if res, _ := p.as(samMail).post(path+"/suspend", url.Values{"reason": {"Because I can"}}); res.StatusCode != http.StatusForbidden {
		t.Errorf("support suspends: %d", res.StatusCode)
	}
	if res, _ := b.post(path+"/suspend", url.Values{"reason": {"Contract ended"}}); res.StatusCode != http.StatusSeeOther {
		t.Fatalf("suspend = %d", res.StatusCode)
	}
	if res, doc := adele.get("/dashboard"); res.StatusCode != http.StatusForbidden || !strings.Contains(doc.Text(), "Organization suspended") {
		t.Errorf("its admin gets %d", res.StatusCode)
	}
	if due() != 0 {
		t.Error("its backups go on")
	}
	_, doc := b.get("/partner/organizations")
	says(t, doc, "Suspended")
	_, doc = b.get(path)
	says(t, doc, "What is backed up is kept")
	b.post(path+"/resume", nil)
	if res, _ := adele.get("/dashboard"); res.StatusCode != http.StatusOK || due() != 1 {
		t.Errorf("resumed: %d, %d due", res.StatusCode, due())
	}
	_, doc = adele.get("/activity")
	says(t, doc, "Contract ended")
}
