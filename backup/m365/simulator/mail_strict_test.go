package simulator_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/backup/m365/simulator"
)

const (
	mailApp  = "bbbbbbbb-0000-4000-8000-000000000001"
	basicApp = "bbbbbbbb-0000-4000-8000-000000000002"
	immutID  = `IdType="ImmutableId"`
	desk     = "frontdesk@" + contoso
	deskPath = "/users/" + desk
)

// newMail is a world with mail and two applications that may read it, one of
// them basically. Every answer is held against Microsoft's description.
func newMail(t *testing.T, settings ...func(*simulator.WorldTenant)) (w *world, token string) {
	t.Helper()
	w = newWorld(t, func(o *simulator.Options) {
		o.Mail = simulator.SampleMail()
		for i := range o.World.Tenants {
			tenant := &o.World.Tenants[i]
			if tenant.Domain != contoso {
				continue
			}
			tenant.Apps = append(tenant.Apps,
				simulator.WorldApplication{ID: mailApp, Name: "Mail", Secret: appSecret, Application: []string{"Mail.Read", "MailboxSettings.Read", "Reports.Read.All", "User.Read.All"}, Granted: true},
				simulator.WorldApplication{ID: basicApp, Name: "Basic", Secret: appSecret, Application: []string{"Mail.ReadBasic.All"}, Granted: true})
			for _, change := range settings {
				change(tenant)
			}
		}
	})
	token = w.appToken(mailApp, "https://graph.microsoft.com")
	w.conforming()
	return w, token
}

type mailPage struct {
	Value []map[string]any
	Next  string `json:"@odata.nextLink"`
	Delta string `json:"@odata.deltaLink"`
}

func (w *world) page(path, token, prefer string) mailPage {
	w.Helper()
	var p mailPage
	r := w.want(w.get(path, token, "Prefer", prefer), 200, path)
	if err := json.Unmarshal(r.Body, &p); err != nil {
		w.Fatal(err)
	}
	return p
}

// pages follows next links to the end and returns everything.
func (w *world) pages(path, token, prefer string) (all []map[string]any, delta string, n int) {
	w.Helper()
	for path != "" {
		p := w.page(path, token, prefer)
		all, delta, path, n = append(all, p.Value...), p.Delta, p.Next, n+1
	}
	return all, delta, n
}

func texts(all []map[string]any, name string) []string {
	var list []string
	for _, o := range all {
		v, _ := o[name].(string)
		list = append(list, v)
	}
	return list
}

func TestMailAnswersConform(t *testing.T) {
	w, token := newMail(t)
	m := w.page(deskPath+"/messages?$top=3", token, "").Value[0]
	for _, path := range []string{
		"/mailFolders", "/mailFolders?includeHiddenFolders=true&$top=50&$select=id,displayName,isHidden", "/mailFolders/Inbox", "/mailFolders('SentItems')", "/mailFolders/msgfolderroot/childFolders?$count=true",
		"/mailFolders/delta", "/mailFolders/delta()?$select=displayName", "/mailFolders/inbox/messages?$orderby=receivedDateTime%20asc&$filter=isRead%20eq%20true", "/mailFolders/inbox/messages/delta", "/mailFolders('inbox')/messages/delta()?$select=subject",
		"/messages/" + m["id"].(string), "/messages/" + m["id"].(string) + "?$select=subject,body,internetMessageHeaders", "/messages?$filter=receivedDateTime%20ge%202020-01-01T00:00:00Z", "/mailboxSettings", "/mailboxSettings?$select=userPurpose",
	} {
		w.want(w.get(deskPath+path, token), 200, path)
	}
	w.want(w.get("/users('megan.o''neil@"+contoso+"')/mailFolders('inbox')", token), 200, "a name with an apostrophe")
}

func TestFoldersAreListedLevelByLevel(t *testing.T) {
	w, token := newMail(t)
	top := w.page(deskPath+"/mailFolders", token, "")
	if len(top.Value) != 10 || top.Next == "" {
		t.Errorf("first page has %d folders, next %q; the default is 10", len(top.Value), top.Next)
	}
	visible, _, _ := w.pages(deskPath+"/mailFolders", token, "")
	all, _, _ := w.pages(deskPath+"/mailFolders?includeHiddenFolders=true", token, "odata.maxpagesize=4")
	names := texts(all, "displayName")
	for _, want := range []string{"Inbox", "🦷 Patients", "Projects/2026", "../up and <b>bold</b>", "Hidden by a program", "Sync Issues"} {
		if !slices.Contains(names, want) {
			t.Errorf("no folder %q among %q", want, names)
		}
	}
	if len(all) != len(visible)+2 || slices.Contains(texts(visible, "displayName"), "Sync Issues") {
		t.Errorf("%d folders, %d with hidden ones; want two more", len(visible), len(all))
	}
	if i := slices.IndexFunc(names, func(n string) bool { return len([]rune(n)) == 200 }); i < 0 {
		t.Errorf("no folder has 200 characters: %q", names)
	}
	below := texts(w.page(deskPath+"/mailFolders/INBOX/childFolders", token, "").Value, "displayName")
	for _, want := range []string{"invoices", "Invoices", "Trailing blank "} {
		if !slices.Contains(below, want) {
			t.Errorf("inbox has no folder %q: %q", want, below)
		}
	}
	for _, name := range []string{"clutter", "nowhere"} {
		if r := w.get(deskPath+"/mailFolders/"+name, token); r.Status != 404 || r.code(t) != "ErrorItemNotFound" {
			t.Errorf("%s = %d", name, r.Status)
		}
	}
	flat, _, _ := w.pages(deskPath+"/mailFolders/delta?$select=displayName,isHidden", token, "odata.maxpagesize=5")
	searches := 0
	for _, f := range flat {
		if f["@odata.type"] == "#microsoft.graph.mailSearchFolder" {
			searches++
		}
		if f["isHidden"] == true {
			t.Errorf("the delta lists the hidden folder %v", f)
		}
	}
	if searches != 1 || !slices.Contains(texts(flat, "displayName"), "Level 5") {
		t.Errorf("delta of folders: %d search folders among %q", searches, texts(flat, "displayName"))
	}
}

func TestUnknownQueryOptionsAreRefused(t *testing.T) {
	w, token := newMail(t)
	for _, path := range []string{
		"/messages?$search=x", "/messages?$expand=attachments", "/messages?$orderby=subject", "/messages?$filter=subject%20eq%20'x'", "/messages?$top=1001", "/messages?$top=0", "/messages?$select=subjekt",
		"/mailFolders?$orderby=displayName", "/mailFolders?$select=nonsense",
		"/mailFolders/inbox/messages/delta?$search=x", "/mailFolders/inbox/messages/delta?$filter=isRead%20eq%20true", "/mailFolders/inbox/messages/delta?$filter=receivedDateTime%20le%202020-01-01T00:00:00Z",
		"/mailFolders/inbox/messages/delta?$orderby=receivedDateTime%20asc", "/mailFolders/inbox/messages/delta?changeType=moved", "/mailFolders/inbox/messages/delta?$select=subjekt", "/mailFolders/delta?$top=5",
	} {
		if r := w.get(deskPath+path, token); r.Status != 400 {
			t.Errorf("%s = %d, want 400", path, r.Status)
		}
	}
}

func TestMessageShowsWhatItsTextSays(t *testing.T) {
	w, token := newMail(t)
	raw := "From: =?utf-8?q?J=C3=BCrgen?= <j@example.org>\r\nTo: a@example.org, \"B, C\" <b@example.org>\r\nCc: c@example.org\r\nReply-To: d@example.org\r\nSubject: =?utf-8?b?8J+mtw==?= hello\r\nMessage-ID: <1@example.org>\r\nX-Folded: one\r\n two\r\n" +
		"MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=\"boundary-1\"\r\n\r\n--boundary-1\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=FC=DFe\r\n--boundary-1\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<style>p{}</style><p>Grüße &amp; more</p>\r\n--boundary-1--\r\n"
	id, err := w.sim.Deliver(contoso, desk, "Projects/2026", []byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	path := deskPath + "/messages/" + url.PathEscape(id)
	m := w.want(w.get(path+"?$select=subject,from,toRecipients,ccRecipients,replyTo,body,bodyPreview,internetMessageId,internetMessageHeaders,changeKey", token, "Prefer", immutID), 200, "message").json(t)
	address := func(v any) string {
		a := v.(map[string]any)["emailAddress"].(map[string]any)
		return fmt.Sprint(a["name"], "|", a["address"])
	}
	if m["id"] != id || m["subject"] != "🦷 hello" || address(m["from"]) != "Jürgen|j@example.org" || address(m["toRecipients"].([]any)[1]) != "B, C|b@example.org" ||
		address(m["ccRecipients"].([]any)[0]) != "c@example.org|c@example.org" || address(m["replyTo"].([]any)[0]) != "d@example.org|d@example.org" {
		t.Errorf("message = %v", m)
	}
	if body := m["body"].(map[string]any); body["contentType"] != "html" || !strings.Contains(body["content"].(string), "Grüße") || m["bodyPreview"] != "Grüße &amp; more" {
		t.Errorf("body = %v, preview %q", body, m["bodyPreview"])
	}
	folded := false
	for _, h := range m["internetMessageHeaders"].([]any) {
		folded = folded || h.(map[string]any)["name"] == "X-Folded" && h.(map[string]any)["value"] == "one two"
	}
	if !folded || m["@odata.etag"] != `W/"`+m["changeKey"].(string)+`"` {
		t.Errorf("headers = %v, etag %v", m["internetMessageHeaders"], m["@odata.etag"])
	}
	r := w.get(path+"/$value", token, "Prefer", immutID)
	if string(r.Body) != raw || !strings.HasPrefix(r.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("$value = %q as %s", r.Body, r.Header.Get("Content-Type"))
	}
	if r := w.get(deskPath+"/mailFolders/inbox/messages/"+url.PathEscape(id), token); r.Status != 404 {
		t.Errorf("through a folder it is not in = %d, want 404", r.Status)
	}
	// Mail.ReadBasic.All sees neither text nor headers, whatever it selects.
	basic := w.appToken(basicApp, "https://graph.microsoft.com")
	for _, field := range []string{"body", "bodyPreview", "internetMessageHeaders"} {
		if r := w.get(path+"?$select="+field, basic, "Prefer", immutID); r.Status == 200 {
			t.Errorf("basic, %s = %s", field, r.Body)
		}
	}
	if r := w.get(path+"/$value", basic); r.Status != 403 || r.code(t) != "ErrorAccessDenied" {
		t.Errorf("basic, $value = %d", r.Status)
	}
	list := w.want(w.get(deskPath+"/mailFolders/inbox/messages/delta", basic), 200, "basic delta")
	if strings.Contains(string(list.Body), `"body`) {
		t.Error("a delta shows bodies to Mail.ReadBasic.All")
	}
}

func TestEveryTestMessageCanBeShown(t *testing.T) {
	w, token := newMail(t)
	for _, u := range []string{"megan.o'neil", "frontdesk", "juergen.gross", "noa.cohen"} {
		all, _, _ := w.pages("/users/"+u+"@"+contoso+"/messages", token, "odata.maxpagesize=50, "+immutID)
		if len(all) < 60 {
			t.Errorf("%s has %d messages", u, len(all))
		}
		seen := map[string]bool{}
		for _, m := range all {
			seen[m["id"].(string)] = true
		}
		if len(seen) != len(all) {
			t.Errorf("%s: ids come twice", u)
		}
	}
}

func TestDeltaOptionsStickToTheRound(t *testing.T) {
	w, token := newMail(t)
	base := deskPath + "/mailFolders/inbox/messages"
	all, _, _ := w.pages(base, token, immutID)
	page := w.page(base+"/delta?$select=subject", token, "odata.maxpagesize=2, "+immutID)
	if len(page.Value) != 2 || page.Next == "" || page.Delta != "" || page.Value[0]["isRead"] != nil || page.Value[0]["id"] == nil || page.Value[0]["@odata.etag"] == nil {
		t.Errorf("first page = %+v", page)
	}
	r := w.get(page.Next, token, "Prefer", "odata.maxpagesize=2, "+immutID)
	if r.Header.Get("Preference-Applied") != "odata.maxpagesize=2" {
		t.Errorf("Preference-Applied = %q", r.Header.Get("Preference-Applied"))
	}
	if r := w.get(page.Next, token, "Prefer", "odata.maxpagesize=2"); r.Status != 400 {
		t.Errorf("the other kind of id = %d, want 400", r.Status)
	}
	other := strings.Replace(page.Next, "/mailFolders/inbox/", "/mailFolders/archive/", 1)
	if r := w.get(other, token, "Prefer", immutID); r.Status != 410 {
		t.Errorf("the token of another folder = %d, want 410", r.Status)
	}
	// $top caps the whole round, for good.
	few, delta, _ := w.pages(base+"/delta?$select=subject&$top=3", token, immutID)
	if later, _, _ := w.pages(delta, token, immutID); len(few) != 3 || len(later) != 0 {
		t.Errorf("$top=3 gave %d of %d messages, then %d", len(few), len(all), len(later))
	}
	since := all[len(all)/2]["receivedDateTime"].(string)
	some, _, _ := w.pages(base+"/delta?$select=receivedDateTime&$filter="+url.QueryEscape("receivedDateTime ge "+since), token, immutID)
	if len(some) == 0 || len(some) >= len(all) || slices.ContainsFunc(texts(some, "receivedDateTime"), func(at string) bool { return at < since }) {
		t.Errorf("since %s: %d of %d messages", since, len(some), len(all))
	}
	_, created, _ := w.pages(base+"/delta?$select=subject&changeType=created", token, immutID)
	_, deleted, _ := w.pages(base+"/delta?$select=subject&changeType=deleted", token, immutID)
	w.want(w.control("PATCH", "/tenants/"+contoso+"/mailboxes/"+desk+"/messages/"+url.PathEscape(all[0]["id"].(string)), args{"flagged": true}), 204, "flag")
	w.want(w.control("DELETE", "/tenants/"+contoso+"/mailboxes/"+desk+"/messages/"+url.PathEscape(all[1]["id"].(string)), nil), 204, "delete")
	if got, _, _ := w.pages(created, token, immutID); len(got) != 0 {
		t.Errorf("changeType=created told of %v", got)
	}
	if got, _, _ := w.pages(deleted, token, immutID); len(got) != 1 || got[0]["id"] != all[1]["id"] || got[0]["@removed"] == nil {
		t.Errorf("changeType=deleted told of %v", got)
	}
}

func TestQuietReads(t *testing.T) {
	w, token := newMail(t, func(t *simulator.WorldTenant) { t.QuietReads = true })
	base := deskPath + "/mailFolders/inbox/messages"
	first := w.page(base, token, immutID).Value[0]
	_, loud, _ := w.pages(base+"/delta?$select=isRead,lastModifiedDateTime", token, immutID)
	_, quiet, _ := w.pages(base+"/delta?$select=lastModifiedDateTime", token, immutID)
	read := first["isRead"] != true
	w.sim.Advance(30 * time.Minute)
	if err := w.sim.Mark(contoso, desk, first["id"].(string), simulator.Marks{Read: &read}); err != nil {
		t.Fatal(err)
	}
	if got, _, _ := w.pages(loud, token, immutID); len(got) != 1 || got[0]["isRead"] != read || got[0]["lastModifiedDateTime"] != first["lastModifiedDateTime"] {
		t.Errorf("with isRead: %v", got)
	}
	if got, _, _ := w.pages(quiet, token, immutID); len(got) != 0 {
		t.Errorf("without isRead: %v", got)
	}
}

func TestDeltaFaults(t *testing.T) {
	w, token := newMail(t)
	base := deskPath + "/mailFolders/inbox/messages/delta?$select=subject"
	all, delta, _ := w.pages(base, token, immutID)
	for name, x := range map[string]struct {
		path   string
		status int
		code   string
	}{
		"delta_expired": {delta, 410, "SyncStateNotFound"}, "delta_expired_40x": {delta, 404, "syncStateNotFound"}, "delta_resync": {delta, 410, "resyncRequired"}, "delta_unsupported": {delta, 400, "ErrorInvalidParameter"},
		"delta_untracked": {base, 400, "ErrorInvalidRequest"}, "delta_quota": {base, 403, "ErrorQuotaExceeded"},
	} {
		w.fault(simulator.Fault{Name: name, Times: 1})
		r := w.get(x.path, token, "Prefer", immutID)
		if r.Status != x.status || r.code(t) != x.code {
			t.Errorf("%s = %d %s, want %d %s", name, r.Status, r.code(t), x.status, x.code)
		}
		if at := r.Header.Get("Location"); name == "delta_resync" && w.page(at, token, immutID).Value == nil {
			t.Errorf("Location %q begins no round", at)
		}
		w.want(w.get(x.path, token, "Prefer", immutID), 200, "after "+name)
	}
	w.fault(simulator.Fault{Name: "delta_replay", Times: 1})
	w.fault(simulator.Fault{Name: "delta_overlap"})
	again, _, _ := w.pages(base, token, "odata.maxpagesize=5, "+immutID)
	once := map[string]bool{}
	for _, m := range again {
		once[m["id"].(string)] = true
	}
	if len(once) != len(all) || len(again) < len(all)+5 {
		t.Errorf("replayed %d of %d messages; want all, and some twice", len(again), len(all))
	}
	w.sim.ClearFaults()
	w.fault(simulator.Fault{Name: "delta_since_always", Times: 1})
	if anew, _, _ := w.pages(delta, token, immutID); len(anew) != len(all) {
		t.Errorf("a replay of everything gave %d of %d", len(anew), len(all))
	}
	w.fault(simulator.Fault{Name: "delta_bad_link", Times: 1})
	if p := w.page(base, token, immutID); !strings.Contains(p.Next+p.Delta, "users//") {
		t.Errorf("links %q, %q; want users//", p.Next, p.Delta)
	}
}

func TestContentFaults(t *testing.T) {
	w, token := newMail(t)
	id, err := w.sim.Deliver(contoso, desk, "inbox", []byte("Content-Type: multipart/mixed; boundary=\"0123456789abcdef\"\r\n\r\n--0123456789abcdef\r\n\r\nx\r\n--0123456789abcdef--\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	path := deskPath + "/messages/" + url.PathEscape(id) + "/$value"
	get := func() reply { return w.get(path, token, "Prefer", immutID) }
	w.fault(simulator.Fault{Name: "mime_boundaries", Times: 2})
	first, second, third := get(), get(), get()
	if string(first.Body) == string(second.Body) || len(first.Body) != len(third.Body) || string(third.Body) == string(second.Body) {
		t.Errorf("with other boundaries: %q, %q", first.Body, second.Body)
	}
	damage := "ErrorCorruptData"
	if err := w.sim.Mark(contoso, desk, id, simulator.Marks{Damage: &damage}); err != nil {
		t.Fatal(err)
	}
	if r := get(); r.Status != 500 || r.code(t) != "ErrorCorruptData" {
		t.Errorf("damaged = %d %s", r.Status, r.Body)
	}
	w.want(w.get(deskPath+"/messages/"+url.PathEscape(id), token, "Prefer", immutID), 200, "its properties")
	damage = ""
	if err := w.sim.Mark(contoso, desk, id, simulator.Marks{Damage: &damage}); err != nil {
		t.Fatal(err)
	}
	w.want(get(), 200, "repaired")
	w.client.Transport = w.sim.Transport() // what follows conforms to nothing
	w.fault(simulator.Fault{Host: "graph", Path: `\$value$`, Status: 503, NoBody: true, Times: 1})
	if r := get(); r.Status != 503 || len(r.Body) != 0 {
		t.Errorf("503 = %d %q, want no body", r.Status, r.Body)
	}
	w.fault(simulator.Fault{Host: "graph", Path: `\$value$`, Cut: new(10), Times: 1})
	if r := get(); !strings.Contains(string(r.Body), "unexpected EOF") {
		t.Errorf("cut = %d %q", r.Status, r.Body)
	}
	w.fault(simulator.Fault{Name: "mail_odd_json", Times: 1})
	if r := w.get(deskPath+"/mailFolders/inbox/messages/delta", token); !strings.Contains(string(r.Body), "\"subject\":\"\t") || !strings.Contains(string(r.Body), "notInAnyDocument") {
		t.Errorf("odd JSON = %.300s", r.Body)
	}
}
