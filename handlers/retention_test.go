package handlers_test

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

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
