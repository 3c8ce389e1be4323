package handlers_test

import (
	"net/http"
	"net/url"
	"strconv"
	"testing"
	"time"

	"holdfast/backup"
)

// windowForm is the form of a schedule with a window each day, which begins in
// two hours.
func windowForm() url.Values {
	from := time.Now().UTC().Add(2 * time.Hour)
	form := url.Values{"every": {"240"}, "when": {"windows"}, "zone": {"UTC"}, "limit": {"50,5"}}
	for d := range 7 {
		n := "_" + strconv.Itoa(d)
		form.Set("on"+n, "yes")
		form.Set("from"+n, from.Format("15:04"))
		form.Set("to"+n, from.Add(time.Hour).Format("15:04"))
	}
	return form
}

func TestScheduleIsSavedAndSaysWhatWaits(t *testing.T) {
	p := newPortal(t)
	p.connect("Contoso Dental", account{name: "Adele", status: backup.StatusProtected}, account{name: "Nora", status: backup.StatusPending})
	b := p.as(adeleMail)
	_, doc := b.get("/settings/schedule")
	says(t, doc, "Automatic backups run at any time.")

	form := windowForm()
	form.Set("zone", "Atlantis")
	form.Set("limit", "fast")
	form.Set("from_2", "25:99")
	res, doc := b.post("/settings/schedule", form)
	if res.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("what is wrong = %d, want 422", res.StatusCode)
	}
	for id, want := range map[string]string{"zone": "Atlantis", "limit": "fast"} {
		if got := doc.Find("#"+id).AttrOr("value", ""); got != want || doc.Find("#"+id+"-error").Length() != 1 {
			t.Errorf("%s comes back as %q", id, got)
		}
	}
	says(t, doc, "Enter the times of each day")
	none := url.Values{"every": {"0"}, "when": {"windows"}, "zone": {""}, "limit": {""}}
	if res, doc = b.post("/settings/schedule", none); res.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("no day = %d, want 422", res.StatusCode)
	}
	says(t, doc, "Choose at least one day")

	if res, _ = b.post("/settings/schedule", windowForm()); res.StatusCode != http.StatusSeeOther {
		t.Fatalf("save = %d", res.StatusCode)
	}
	plan, err := p.store.Schedule(t.Context(), p.orgs["Contoso Dental"].ID)
	if err != nil || plan.Every != 4*time.Hour || len(plan.Windows) != 7 || plan.BytesPerSecond != 50.5*backup.Mbit {
		t.Errorf("saved %+v, %v", plan, err)
	}
	_, doc = b.get("/settings/schedule")
	says(t, doc, "No window is open now.")
	if got := doc.Find("#limit").AttrOr("value", ""); got != "50.5" {
		t.Errorf("the limit is shown as %q", got)
	}
	for _, page := range []string{"/dashboard", "/status"} {
		_, doc = b.get(page)
		says(t, doc, "No backup window is open.")
		says(t, doc, "waits for its window at ")
	}
	if doc.Find(".status.failing").Length() != 0 {
		t.Error("something is red because of a window")
	}
}

func TestPauseIsSeenAndEnds(t *testing.T) {
	p := newPortal(t)
	box := p.connect("Contoso Dental", account{name: "Adele", status: backup.StatusPending})["Adele"]
	b := p.as(adeleMail)
	if res, _ := b.post("/settings/schedule/pause", url.Values{"reason": {""}}); res.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("a pause without a reason = %d, want 422", res.StatusCode)
	}
	if res, _ := b.post("/settings/schedule/pause", url.Values{"reason": {"Exchange is moved"}}); res.StatusCode != http.StatusSeeOther {
		t.Fatal(res.Status)
	}
	_, doc := b.get("/dashboard")
	says(t, doc, "Automatic backups are paused.")
	says(t, doc, "Exchange is moved")
	says(t, doc, "Adele")
	says(t, doc, "Pending: waits until automatic backups are resumed")
	_, doc = b.get("/settings/schedule")
	says(t, doc, "Automatic backups are paused")
	_, doc = p.as(danaMail).get("/partner/organizations/" + string(box.OrgID))
	says(t, doc, "waits until automatic backups are resumed")

	// What a person asks for is no automatic backup.
	if res, _ := b.post("/mailboxes/"+string(box.ID)+"/back-up", nil); res.StatusCode != http.StatusSeeOther {
		t.Fatal(res.Status)
	}
	if due, err := p.store.DueMailboxes(t.Context(), time.Now(), 10); err != nil || len(due) != 1 {
		t.Errorf("%d are due, %v, want the one that was asked for", len(due), err)
	}
	if res, _ := b.post("/settings/schedule/resume", nil); res.StatusCode != http.StatusSeeOther {
		t.Fatal(res.Status)
	}
	_, doc = b.get("/dashboard")
	if doc.Find(".banner").Length() != 0 {
		t.Error("the dashboard still says that backups are paused")
	}
}
