package simulator_test

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/backup/m365/simulator"
)

func TestMailThrottling(t *testing.T) {
	w, token := newMail(t, func(t *simulator.WorldTenant) { t.MailLimit = 5 })
	for i := range 6 {
		r := w.get(deskPath+"/mailFolders/inbox", token)
		if over := i == 5; (r.Status == 429) != over {
			t.Fatalf("request %d = %d", i+1, r.Status)
		} else if over && (r.code(t) != "ApplicationThrottled" || r.Header.Get("Retry-After") == "") {
			t.Errorf("throttled = %s, Retry-After %q", r.Body, r.Header.Get("Retry-After"))
		}
	}
	w.want(w.get("/users/megan.o'neil@"+contoso+"/mailFolders/inbox", token), 200, "another mailbox")
	w.sim.Advance(10 * time.Minute)
	w.want(w.get(deskPath+"/mailFolders/inbox", w.appToken(mailApp, "https://graph.microsoft.com")), 200, "ten minutes later")
}

// More than four requests of an application for one mailbox at a time are
// refused, over a real connection too.
func TestMailboxConcurrency(t *testing.T) {
	w, token := newMail(t)
	id, err := w.sim.Deliver(contoso, desk, "inbox", []byte(strings.Repeat("x", 8<<20)))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(w.sim)
	defer server.Close()
	open := func(user string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/graph.microsoft.com/v1.0/users/"+user+"/messages/"+url.PathEscape(id)+"/$value", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	var held []*http.Response
	for range 4 { // too big for buffers, so they stay under way
		held = append(held, open(desk))
	}
	fifth := open(desk)
	if fifth.StatusCode != 429 || fifth.Header.Get("Retry-After") == "" {
		t.Errorf("the fifth = %d, Retry-After %q", fifth.StatusCode, fifth.Header.Get("Retry-After"))
	}
	other := open("juergen.gross@" + contoso)
	if other.StatusCode != 404 {
		t.Errorf("another mailbox meanwhile = %d, want 404 for a message that it does not have", other.StatusCode)
	}
	var wg sync.WaitGroup
	for _, res := range append(held, fifth, other) {
		wg.Go(func() { res.Body.Close() })
	}
	wg.Wait()
}

func TestProbesFollowTheLicence(t *testing.T) {
	w, token := newMail(t)
	probe := func(user string) string {
		r := w.get("/users/"+user+"@"+contoso+"/mailFolders/inbox", token)
		if r.Status == 200 {
			return "200"
		}
		return fmt.Sprint(r.Status, " ", r.code(t))
	}
	user := func(name string, change args) {
		w.want(w.control("PATCH", "/tenants/"+contoso+"/users/"+name+"@"+contoso, change), 200, name)
	}
	const inactive = "404 MailboxNotEnabledForRESTAPI"
	check := func(what, name, want string) {
		if got := probe(name); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	check("unlicensed", "uma", inactive)
	check("another product", "paul", inactive)
	check("shared, disabled, without licence", "frontdesk", "200")
	check("disabled with licence", "dora", "200")
	user("uma", args{"licences": []string{"SPE_E3"}})
	check("licensed now", "uma", "200")
	user("megan.o'neil", args{"licences": []string{}})
	check("licence removed", "megan.o'neil", inactive)
	user("megan.o'neil", args{"licences": []string{"SPE_E3"}, "planStatus": "Warning"})
	check("in grace", "megan.o'neil", "200")
	user("megan.o'neil", args{"planStatus": "Suspended"})
	check("suspended", "megan.o'neil", inactive)
	user("juergen.gross", args{"deleted": true})
	check("deleted", "juergen.gross", "404 ErrorInvalidUser")
	user("juergen.gross", args{"deleted": false})
	check("restored", "juergen.gross", "200")
	w.client.Transport = w.sim.Transport() // the description lacks the property's own path
	purpose := w.want(w.get("/users/room1@"+contoso+"/mailboxSettings/userPurpose", token), 200, "purpose").json(t)
	if purpose["value"] != "room" {
		t.Errorf("purpose = %v", purpose)
	}
	if r := w.get("/users/room1@"+contoso+"/mailboxSettings", w.appToken(basicApp, "https://graph.microsoft.com")); r.Status != 403 {
		t.Errorf("settings without MailboxSettings.Read = %d", r.Status)
	}
}

func TestUsageReport(t *testing.T) {
	w, token := newMail(t)
	w.client.Transport = w.sim.Transport() // the answer is a redirect, which is not described
	report := func() [][]string {
		r := w.want(w.get("/reports/getMailboxUsageDetail(period='D30')", token), 302, "report")
		file := w.want(w.get(r.Header.Get("Location"), ""), 200, "CSV") // without a token
		rows, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(string(file.Body), "\ufeff"))).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	rows := report()
	column := func(name string) int { return slices.Index(rows[0], name) }
	for _, name := range []string{"User Principal Name", "Item Count", "Storage Used (Byte)", "Report Period"} {
		if column(name) < 0 {
			t.Errorf("no column %q in %q", name, rows[0])
		}
	}
	list, err := w.sim.Messages(contoso, desk)
	if err != nil {
		t.Fatal(err)
	}
	found := slices.ContainsFunc(rows, func(row []string) bool {
		return row[column("User Principal Name")] == desk && row[column("Item Count")] == fmt.Sprint(len(list))
	})
	if !found {
		t.Errorf("no row for %s with %d items", desk, len(list))
	}
	w.want(w.control("PATCH", "/tenants/"+contoso, args{"concealNames": true}), 200, "conceal")
	if text := fmt.Sprint(report()); strings.Contains(text, desk) {
		t.Error("a concealed report names people")
	}
	at := w.get("/reports/getMailboxUsageDetail(period='D30')", token).Header.Get("Location")
	w.sim.Advance(time.Hour)
	if r := w.get(at, ""); r.Status == 200 {
		t.Error("an old link still works")
	}
}

func TestMailControlPaths(t *testing.T) {
	w, token := newMail(t)
	base := "/tenants/" + contoso + "/mailboxes/new.starter@" + contoso
	raw := "Subject: by control\r\n\r\nhello"
	r, err := w.client.Post("https://graph.microsoft.com/_simulator"+base+"/messages?folder=inbox", "message/rfc822", strings.NewReader(raw))
	if err != nil || r.StatusCode != http.StatusCreated {
		t.Fatalf("deliver: %v, %v", r, err)
	}
	var made struct{ ID string }
	if err := json.NewDecoder(r.Body).Decode(&made); err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	message := base + "/messages/" + url.PathEscape(made.ID)
	if got := w.want(w.control("GET", message+"/raw", nil), 200, "raw"); string(got.Body) != raw {
		t.Errorf("raw = %q", got.Body)
	}
	folder := w.want(w.control("POST", base+"/folders?parent=inbox&name="+url.QueryEscape("A/B "), nil), 201, "folder").json(t)["id"].(string)
	w.want(w.control("POST", message+"/move?folder="+url.QueryEscape(folder), nil), 204, "move")
	w.want(w.control("PATCH", message, args{"read": true, "categories": []string{"Red"}, "importance": "high"}), 204, "marks")
	w.want(w.control("PATCH", base+"/folders/"+url.PathEscape(folder)+"?name=Renamed", nil), 204, "rename")
	list := w.page("/users/new.starter@"+contoso+"/mailFolders/"+url.PathEscape(folder)+"/messages", token, immutID).Value
	if len(list) != 1 || list[0]["isRead"] != true || list[0]["importance"] != "high" || fmt.Sprint(list[0]["categories"]) != "[Red]" {
		t.Errorf("moved message = %v", list)
	}
	w.want(w.control("DELETE", base+"/folders/inbox", nil), 404, "delete the inbox")
	w.want(w.control("DELETE", base+"/folders/Renamed", nil), 204, "delete a folder")
	w.want(w.control("POST", base+"/generate", args{"count": 30, "attachment": 1000, "attachEvery": 3}), 204, "generate")
	if all, _, pages := w.pages("/users/new.starter@"+contoso+"/messages?$select=subject,hasAttachments", token, "odata.maxpagesize=10"); len(all) != 30 || pages != 3 {
		t.Errorf("generated %d messages on %d pages", len(all), pages)
	}
	w.want(w.control("POST", base+"/empty", nil), 204, "empty")
	if n := w.page("/users/new.starter@"+contoso+"/messages", token, "").Value; len(n) != 0 {
		t.Errorf("%d messages after empty", len(n))
	}
}

// What happened in mail and Exchange is there after a restart, delta links too.
func TestMailAndExchangeSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	start := func() *world {
		w := newWorld(t, withApps(simulator.WorldExchange{}), func(o *simulator.Options) {
			o.Dir, o.Mail = dir, simulator.SampleMail()
			for i := range o.World.Tenants {
				if tenant := &o.World.Tenants[i]; tenant.Domain == contoso {
					tenant.Apps = append(tenant.Apps, simulator.WorldApplication{ID: mailApp, Name: "Mail", Secret: appSecret, Application: []string{"Mail.Read"}, Granted: true})
				}
			}
		})
		return w
	}
	w := start()
	token := w.appToken(mailApp, "https://graph.microsoft.com")
	all, delta, _ := w.pages(deskPath+"/mailFolders/inbox/messages/delta?$select=subject", token, immutID)
	id, err := w.sim.Deliver(contoso, desk, "inbox", []byte("Subject: kept\r\n\r\nx"))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.sim.Move(contoso, desk, all[0]["id"].(string), "Trailing blank "); err != nil {
		t.Fatal(err)
	}
	w.makeRole(w.exchangeToken(admin), exchangeApp, w.principalID(exchangeApp))

	w = start()
	changed, _, _ := w.pages(delta, token, immutID)
	if len(changed) != 2 || !slices.Contains(texts(changed, "id"), id) {
		t.Errorf("after the restart the delta tells of %v", changed)
	}
	if raw, err := w.sim.RawMessage(contoso, desk, id); err != nil || string(raw) != "Subject: kept\r\n\r\nx" {
		t.Errorf("message = %q, %v", raw, err)
	}
	if have := w.cmdlets(w.exoAppToken()); len(have) != 2 {
		t.Errorf("the application may run %v", have)
	}
}
