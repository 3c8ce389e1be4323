package simulator_test

import (
	"bytes"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"testing"

	"holdfast/backup/m365/simulator"
)

const contosoDomain = "contosodental.onmicrosoft.com"

// reader is an application in Contoso with the permissions, and a client that
// signs its requests.
type reader struct {
	t   *testing.T
	sim *simulator.Simulator
	get func(path, prefer string) (int, []byte)
}

func newReader(t *testing.T, permissions ...string) reader {
	t.Helper()
	w := simulator.DefaultWorld()
	for i := range w.Tenants {
		w.Tenants[i].ReplicationDelay = 0
		if w.Tenants[i].Domain == contosoDomain {
			w.Tenants[i].Apps = append(w.Tenants[i].Apps, simulator.WorldApplication{ID: "11111111-2222-3333-4444-555555555555", Name: "Reader", Secret: "reader-secret", Application: permissions, Granted: true})
		}
	}
	sim, err := simulator.New(simulator.Options{World: w, Mail: simulator.SampleMail()})
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: sim.Transport()}
	res, err := client.Post("https://login.microsoftonline.com/"+contosoDomain+"/oauth2/v2.0/token", "application/x-www-form-urlencoded",
		strings.NewReader("grant_type=client_credentials&client_id=11111111-2222-3333-4444-555555555555&client_secret=reader-secret&scope=https%3A%2F%2Fgraph.microsoft.com%2F.default"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var token struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(res.Body).Decode(&token); err != nil || token.AccessToken == "" {
		t.Fatalf("no token: %d %v", res.StatusCode, err)
	}
	return reader{t: t, sim: sim, get: func(path, prefer string) (int, []byte) {
		t.Helper()
		if !strings.HasPrefix(path, "https://") {
			path = "https://graph.microsoft.com/v1.0" + path
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token.AccessToken)
		req.Header.Set("Prefer", prefer)
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, body
	}}
}

type mailItem struct {
	ID        string          `json:"id"`
	Subject   string          `json:"subject"`
	IsRead    bool            `json:"isRead"`
	Removed   json.RawMessage `json:"@removed"`
	ChangeKey string          `json:"changeKey"`
}

// round follows a delta to its end.
func (r reader) round(path string) (items []mailItem, delta string) {
	r.t.Helper()
	for path != "" {
		status, body := r.get(path, `odata.maxpagesize=7, IdType="ImmutableId"`)
		var page struct {
			Value []mailItem `json:"value"`
			Next  string     `json:"@odata.nextLink"`
			Delta string     `json:"@odata.deltaLink"`
		}
		if err := json.Unmarshal(body, &page); err != nil || status != http.StatusOK {
			r.t.Fatalf("%s = %d %s", path, status, body)
		}
		items, path, delta = append(items, page.Value...), page.Next, page.Delta
	}
	return items, delta
}

const megan = "/users/megan.o'neil@contosodental.onmicrosoft.com"

func TestDeltaFollowsWhatHappens(t *testing.T) {
	r := newReader(t, "Mail.Read")
	upn := "megan.o'neil@" + contosoDomain
	all, delta := r.round(megan + "/mailFolders/inbox/messages/delta?$select=subject,isRead,changeKey")
	if len(all) < 10 {
		t.Fatalf("%d messages in the inbox, want more", len(all))
	}
	archive, _ := r.round(megan + "/mailFolders/archive/messages/delta?$select=subject")
	id, err := r.sim.Deliver(contosoDomain, upn, "inbox", []byte("Subject: fresh\r\n\r\nhello"))
	if err != nil {
		t.Fatal(err)
	}
	yes := true
	for _, err := range []error{
		r.sim.Move(contosoDomain, upn, all[0].ID, "archive"),
		r.sim.Remove(contosoDomain, upn, all[1].ID),
		r.sim.Mark(contosoDomain, upn, all[2].ID, simulator.Marks{Read: &yes, Flagged: &yes}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	changes, again := r.round(delta)
	seen := map[string]mailItem{}
	for _, c := range changes {
		seen[c.ID] = c
	}
	if len(changes) != 4 || seen[id].Subject != "fresh" || seen[all[0].ID].Removed == nil || seen[all[1].ID].Removed == nil || !seen[all[2].ID].IsRead {
		t.Errorf("changes = %+v, want one new, two removed and one read", changes)
	}
	if after, _ := r.round(megan + "/mailFolders/archive/messages/delta"); len(after) != len(archive)+1 {
		t.Errorf("%d messages in the archive, want %d", len(after), len(archive)+1)
	}
	if quiet, _ := r.round(again); len(quiet) != 0 {
		t.Errorf("a second round without changes gave %+v", quiet)
	}
	if err := r.sim.ExpireDelta(contosoDomain, upn); err != nil {
		t.Fatal(err)
	}
	if status, body := r.get(again, `IdType="ImmutableId"`); status != http.StatusGone || !strings.Contains(string(body), "SyncStateNotFound") {
		t.Errorf("an expired token = %d %s, want 410 SyncStateNotFound", status, body)
	}
}

func TestContentIsServedByteForByte(t *testing.T) {
	r := newReader(t, "Mail.Read")
	upn := "frontdesk@" + contosoDomain
	list, err := r.sim.Messages(contosoDomain, upn)
	if err != nil || len(list) < 50 {
		t.Fatalf("%d messages, %v", len(list), err)
	}
	for _, m := range list {
		status, body := r.get("/users/"+upn+"/messages/"+m.ID+"/$value", `IdType="ImmutableId"`)
		want, err := r.sim.RawMessage(contosoDomain, upn, m.ID)
		if m.File != "" {
			want, err = fs.ReadFile(simulator.SampleMail(), m.File)
		}
		if err != nil || status != http.StatusOK || !bytes.Equal(body, want) || int64(len(body)) != m.Size {
			t.Errorf("%s: %d, %d bytes, want the %d of the file (%v)", m.File, status, len(body), len(want), err)
		}
	}
}

func TestBasicPermissionReadsNoContent(t *testing.T) {
	r := newReader(t, "Mail.ReadBasic.All")
	list, err := r.sim.Messages(contosoDomain, "frontdesk@"+contosoDomain)
	if err != nil {
		t.Fatal(err)
	}
	path := "/users/frontdesk@" + contosoDomain + "/messages/" + list[0].ID
	if status, body := r.get(path+"/$value", ""); status != http.StatusForbidden {
		t.Errorf("$value = %d %s, want 403", status, body)
	}
	if status, body := r.get(path+"?$select=bodyPreview", ""); status == http.StatusOK {
		t.Errorf("bodyPreview = %d %s, want a refusal", status, body)
	}
	if status, _ := r.get(path, ""); status != http.StatusOK {
		t.Errorf("basic properties = %d, want 200", status)
	}
}

func TestRestIDChangesOnMoveAndTheImmutableOneDoesNot(t *testing.T) {
	r := newReader(t, "Mail.Read")
	upn := "frontdesk@" + contosoDomain
	list, err := r.sim.Messages(contosoDomain, upn)
	if err != nil {
		t.Fatal(err)
	}
	id := func(prefer string) string {
		_, body := r.get("/users/"+upn+"/messages/"+list[0].ID, prefer)
		var m mailItem
		if err := json.Unmarshal(body, &m); err != nil {
			t.Fatal(err)
		}
		return m.ID
	}
	rest, immutable := id(""), id(`IdType="ImmutableId"`)
	if err := r.sim.Move(contosoDomain, upn, list[0].ID, "deleteditems"); err != nil {
		t.Fatal(err)
	}
	if id("") == rest || id(`IdType="ImmutableId"`) != immutable {
		t.Error("want another rest id and the same immutable id after a move")
	}
	if status, _ := r.get("/users/"+upn+"/messages/"+rest, ""); status != http.StatusNotFound {
		t.Errorf("the old rest id = %d, want 404", status)
	}
}

func TestWhoHasNoMailbox(t *testing.T) {
	r := newReader(t, "Mail.Read")
	for upn, code := range map[string]string{"uma": "MailboxNotEnabledForRESTAPI", "paul": "MailboxNotEnabledForRESTAPI", "nobody": "ErrorInvalidUser"} {
		if status, body := r.get("/users/"+upn+"@"+contosoDomain+"/mailFolders/inbox", ""); status != http.StatusNotFound || !strings.Contains(string(body), code) {
			t.Errorf("%s: %d %s, want 404 %s", upn, status, body, code)
		}
	}
}

func TestGeneratedMessagesAreTheSameEachTime(t *testing.T) {
	r := newReader(t, "Mail.Read")
	upn := "xray@" + contosoDomain
	if err := r.sim.Generate(contosoDomain, upn, simulator.Generated{Count: 3, Text: 5000, Attachment: 100 << 10, AttachEvery: 2}); err != nil {
		t.Fatal(err)
	}
	list, err := r.sim.Messages(contosoDomain, upn)
	if err != nil || len(list) != 3 {
		t.Fatalf("%d messages, %v; want 3", len(list), err)
	}
	first, _ := r.sim.RawMessage(contosoDomain, upn, list[0].ID)
	second, _ := r.sim.RawMessage(contosoDomain, upn, list[0].ID)
	if !bytes.Equal(first, second) || int64(len(first)) != list[0].Size || list[0].Size < 130<<10 || list[1].Size > 10<<10 {
		t.Errorf("sizes %d and %d, read %d and %d bytes", list[0].Size, list[1].Size, len(first), len(second))
	}
}

func TestGeneratedLettersAreTheSameEachTimeAndOfManySizes(t *testing.T) {
	r := newReader(t, "Mail.Read")
	upn := "xray@" + contosoDomain
	if err := r.sim.Generate(contosoDomain, upn, simulator.Generated{Count: 200, Letters: true, Text: 16 << 10, Attachment: 72 << 10}); err != nil {
		t.Fatal(err)
	}
	list, err := r.sim.Messages(contosoDomain, upn)
	if err != nil || len(list) != 200 {
		t.Fatalf("%d messages, %v; want 200", len(list), err)
	}
	var sum int64
	attached, html, logos, foreign := 0, 0, 0, 0
	for _, m := range list {
		first, _ := r.sim.RawMessage(contosoDomain, upn, m.ID)
		second, _ := r.sim.RawMessage(contosoDomain, upn, m.ID)
		if !bytes.Equal(first, second) || int64(len(first)) != m.Size {
			t.Fatalf("%s has %d bytes, read %d and %d", m.Subject, m.Size, len(first), len(second))
		}
		sum += m.Size
		if bytes.Contains(first, []byte("attachment.bin")) {
			attached++
		}
		if bytes.Contains(first, []byte("text/html")) {
			html++
		}
		if bytes.Contains(first, []byte("image/png")) {
			logos++
		}
		if bytes.Contains(first, []byte("utf-8\r\nContent-Transfer-Encoding: base64")) {
			foreign++
		}
	}
	if mean := sum / 200; mean < 30<<10 || mean > 80<<10 || attached < 15 || attached > 50 || html+(foreign+1)/2 < 90 || html > 100 || logos < 30 || logos > 70 || foreign < 8 || foreign > 30 {
		t.Errorf("%d bytes on average, %d with an attachment, %d with HTML, %d with a logo, %d foreign; want about 50,000, 30, 92, 50 and 16", mean, attached, html, logos, foreign)
	}
}

func TestUsageReportIsACSVBehindARedirect(t *testing.T) {
	r := newReader(t, "Reports.Read.All")
	status, body := r.get("/reports/getMailboxUsageDetail(period='D7')", "")
	if status != http.StatusOK || !strings.Contains(string(body), "User Principal Name") || !strings.Contains(string(body), "frontdesk@") {
		t.Errorf("report = %d %.200s", status, body)
	}
}
