package handlers_test

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/PuerkitoBio/goquery"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/repo"
)

// snapshots gives a mailbox one snapshot for each of days, in days before now.
// The message of the first one is in no other.
func (p *portal) snapshots(m backup.Mailbox, days ...int) {
	p.t.Helper()
	for i, day := range days {
		at := time.Now().AddDate(0, 0, -day)
		d := engine.Delta{Seq: int64(i + 1), At: at, NextNumber: 9, Folders: []engine.FolderState{{Folder: engine.Folder{ID: "in", Name: fmt.Sprint("Inbox ", i)}, Node: repo.MetaID{1}}}}
		switch i {
		case 0:
			item := engine.Item{Number: 1, ItemState: engine.ItemState{ID: "p1", FolderID: "in", Subject: "old", Received: at}, Record: engine.Record{Number: 1, Meta: repo.MetaID{5}, Bytes: 2000, HasContent: true}}
			d.Items, d.Totals = []engine.ItemChange{{Item: item, NewItem: true, NewRecord: true}}, engine.Totals{Items: 1, Bytes: 2000}
		case 1:
			d.Removed = []int64{1}
		}
		if err := p.store.ApplyCommit(p.t.Context(), m.OrgID, m.ID, d); err != nil {
			p.t.Fatal(err)
		}
	}
}

func TestRetentionSaysWhatItDeletesBeforeItIsSaved(t *testing.T) {
	p := newPortal(t)
	m := p.connect("Contoso Dental", account{name: "Adele", status: backup.StatusProtected})["Adele"]
	p.snapshots(m, 90, 60, 1, 0)
	b := p.as(adeleMail)
	_, doc := b.get("/settings/retention")
	says(t, doc, "Keep everything.")

	res, doc := b.get("/settings/retention/preview?mode=days&days=1o")
	if res.StatusCode != http.StatusUnprocessableEntity || doc.Find("#days").AttrOr("value", "") != "1o" {
		t.Errorf("a typing error = %d, field %q", res.StatusCode, doc.Find("#days").AttrOr("value", ""))
	}
	_, doc = b.get("/settings/retention/preview?mode=all")
	says(t, doc, "Nothing: every snapshot is kept.")
	_, doc = b.get("/settings/retention/preview?mode=days&days=100")
	says(t, doc, "Nothing now. Snapshots expire from day to day as they get older. Save")
	_, doc = b.get("/settings/retention/preview?mode=days&days=10")
	says(t, doc, "1 snapshot of 1 mailbox, and with them 1 message (2.0 KB) that no other snapshot has")
	says(t, doc, m.Address)
	form := url.Values{"mode": {"days"}, "days": {"10"}}
	res, doc = b.post("/settings/retention", form)
	if res.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("without a confirmation = %d, want 422", res.StatusCode)
	}
	says(t, doc, "Confirm that this is to be deleted.")
	if rule, _, err := p.store.Retention(t.Context(), m.OrgID); err != nil || rule.Mode != backup.RetainAll {
		t.Errorf("it was saved without a confirmation: %+v, %v", rule, err)
	}
	form.Set("confirm", "yes")
	res, _ = b.post("/settings/retention", form)
	_, doc = b.follow(res)
	says(t, doc, "Saved: keep 10 days.")
	_, doc = b.get("/activity")
	says(t, doc, "Changed the retention")

	// Nestor is admin of another organization, and Lee only looks.
	if _, doc = p.as(nestorMail).get("/settings/retention/preview?mode=days&days=10"); doc.Find("td").Length() != 0 {
		t.Error("another organization sees mailboxes in its preview")
	}
	lee := p.as(leeMail)
	_, doc = lee.get("/settings/retention")
	says(t, doc, "Keep 10 days.")
	if doc.Find("main form").Length() != 0 {
		t.Error("a viewer gets a form")
	}
	if res, _ = lee.post("/settings/retention", form); res.StatusCode != http.StatusForbidden {
		t.Errorf("a viewer saves = %d, want 403", res.StatusCode)
	}
}

func TestLegalHoldIsSetWithAReasonAndLifted(t *testing.T) {
	p := newPortal(t)
	b := p.as(adeleMail)
	res, doc := b.post("/settings/retention/hold", url.Values{"reason": {"x"}})
	if res.StatusCode != http.StatusUnprocessableEntity || doc.Find("#reason").AttrOr("value", "") != "x" {
		t.Errorf("too short a reason = %d", res.StatusCode)
	}
	res, _ = b.post("/settings/retention/hold", url.Values{"reason": {"Case 4711"}})
	b.follow(res)
	_, doc = p.as(leeMail).get("/settings/retention")
	says(t, doc, "Nothing expires.")
	says(t, doc, "Case 4711")
	if res, _ = b.post("/settings/retention/hold/lift", nil); res.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("lifting without a confirmation = %d, want 422", res.StatusCode)
	}
	res, _ = b.post("/settings/retention/hold/lift", url.Values{"confirm": {"yes"}})
	_, doc = b.follow(res)
	says(t, doc, "The legal hold is lifted.")
	_, doc = b.get("/activity")
	says(t, doc, "Set a legal hold")
	says(t, doc, "Lifted the legal hold")
}

func TestAMailboxHasARuleAndAHoldOfItsOwn(t *testing.T) {
	p := newPortal(t)
	boxes := p.connect("Contoso Dental", account{name: "Adele", status: backup.StatusProtected}, account{name: "Bruno", status: backup.StatusProtected})
	m, other := boxes["Adele"], boxes["Bruno"]
	p.snapshots(m, 90, 60, 1, 0)
	p.snapshots(other, 90, 60, 1, 0)
	b := p.as(adeleMail)
	page := "/mailboxes/" + string(m.ID)
	_, doc := b.get(page)
	says(t, doc, "This is the organization's rule.")

	preview := "/settings/retention/mailboxes/preview?back=" + url.QueryEscape(page) + "&m=" + string(m.ID)
	res, doc := b.get(preview + "&mode=days&days=x")
	if res.StatusCode != http.StatusUnprocessableEntity || doc.Find("#days").AttrOr("value", "") != "x" {
		t.Errorf("a typing error = %d, field %q", res.StatusCode, doc.Find("#days").AttrOr("value", ""))
	}
	_, doc = b.get(preview + "&mode=inherit")
	says(t, doc, "Nothing: every snapshot is kept.")
	_, doc = b.get(preview + "&mode=days&days=10")
	says(t, doc, "1 snapshot of 1 mailbox, and with them 1 message (2.0 KB) that no other snapshot has")
	form := url.Values{"mode": {"days"}, "days": {"10"}, "m": {string(m.ID)}, "back": {page}}
	res, doc = b.post("/settings/retention/mailboxes", form)
	if res.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("without a confirmation = %d, want 422", res.StatusCode)
	}
	says(t, doc, "Confirm that this is to be deleted.")
	form.Set("confirm", "yes")
	res, _ = b.post("/settings/retention/mailboxes", form)
	_, doc = b.follow(res)
	says(t, doc, "Keep 10 days. This is a rule of its own.")

	// The organization's rule concerns the other one only.
	_, doc = b.get("/settings/retention/preview?mode=days&days=5")
	says(t, doc, "1 snapshot of 1 mailbox")
	says(t, doc, "1 mailbox has a rule of its own: this rule does not concern them.")
	says(t, doc, other.Address)

	res, _ = b.post(page+"/hold", url.Values{"reason": {"Case 4711"}})
	_, doc = b.follow(res)
	says(t, doc, "Nothing of this mailbox expires or is erased.")
	_, doc = b.get(preview + "&mode=days&days=1")
	says(t, doc, "1 chosen mailbox is on legal hold")
	_, doc = p.as(leeMail).get("/settings/retention/mailboxes")
	says(t, doc, "Case 4711")
	says(t, doc, "A rule of its own")
	_, doc = p.as(leeMail).get("/dashboard")
	says(t, doc, "Legal hold")
	if res, _ = b.post(page+"/hold/lift", nil); res.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("lifting without a confirmation = %d, want 422", res.StatusCode)
	}
	res, _ = b.post(page+"/hold/lift", url.Values{"confirm": {"yes"}})
	_, doc = b.follow(res)
	says(t, doc, "The legal hold is lifted.")
	_, doc = b.get("/activity")
	says(t, doc, "Changed the retention of a mailbox")
	says(t, doc, "Set a legal hold on a mailbox")

	nestor := p.as(nestorMail)
	for _, path := range []string{page, preview + "&mode=all"} {
		if res, _ = nestor.get(path); res.StatusCode != http.StatusNotFound {
			t.Errorf("another organization's %s = %d, want 404", path, res.StatusCode)
		}
	}
	for path, form := range map[string]url.Values{page + "/hold": {"reason": {"mine now"}}, "/settings/retention/mailboxes": form} {
		if res, _ = nestor.post(path, form); res.StatusCode != http.StatusNotFound {
			t.Errorf("another organization's POST %s = %d, want 404", path, res.StatusCode)
		}
	}
}

func TestChosenMailboxesGetOneRule(t *testing.T) {
	p := newPortal(t)
	boxes := p.connect("Contoso Dental", account{name: "Adele", status: backup.StatusProtected}, account{name: "Bruno", status: backup.StatusProtected}, account{name: "Cleo"})
	p.snapshots(boxes["Adele"], 400, 0)
	b := p.as(adeleMail)
	res, doc := b.get("/settings/retention/mailboxes/preview?mode=days&days=30&q=")
	if res.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("none chosen = %d, want 422", res.StatusCode)
	}
	says(t, doc, "Choose at least one mailbox.")
	_, doc = b.get("/settings/retention/mailboxes/preview?mode=periods&daily=1&all=yes&q=")
	says(t, doc, "Of 1 mailbox only the newest state stays.")
	form := url.Values{"confirm": {"yes"}}
	doc.Find(`main form input[type="hidden"]`).Each(func(_ int, s *goquery.Selection) {
		form.Add(s.AttrOr("name", ""), s.AttrOr("value", ""))
	})
	if len(form["m"]) != 3 {
		t.Fatalf("%d mailboxes are chosen, want 3", len(form["m"]))
	}
	res, _ = b.post("/settings/retention/mailboxes", form)
	_, doc = b.follow(res)
	says(t, doc, "Saved for 3 mailboxes: keep the end of each of the last 1 day.")
	form.Set("mode", "inherit")
	res, _ = b.post("/settings/retention/mailboxes", form)
	b.follow(res)
	if keep, err := p.store.Keepings(t.Context(), boxes["Adele"].OrgID); err != nil || len(keep.Own) != 0 {
		t.Errorf("mailboxes with something of their own: %+v, %v; want none", keep.Own, err)
	}
}
