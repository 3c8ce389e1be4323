package handlers_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
)

// TestMoveToNewKeysIsAskedFor walks a move to new keys on the organization's storage
// page, from the button to what it says in the end.
func TestMoveToNewKeysIsAskedFor(t *testing.T) {
	p := newPortal(t)
	dana := p.as(danaMail)
	p.connect("Contoso Dental", account{name: "Adele", status: backup.StatusProtected})
	org, ctx := p.orgs["Contoso Dental"].ID, t.Context()
	const all = "/partner/settings/storage"
	page := all + "/" + string(org)
	if err := p.store.NoteKit(ctx, time.Now()); err != nil {
		t.Fatal(err)
	}
	if res, _ := p.as(samMail).post(page+"/rekey", nil); res.StatusCode != http.StatusForbidden {
		t.Errorf("asked for by support = %d, want 403", res.StatusCode)
	}
	if res, _ := dana.post(all+"/NOBODY/rekey", nil); res.StatusCode != http.StatusNotFound {
		t.Errorf("of an unknown organization = %d, want 404", res.StatusCode)
	}
	if epoch, err := p.store.Epoch(ctx, string(org)); err != nil || epoch != 0 {
		t.Fatalf("epoch is %d, %v before anybody asked", epoch, err)
	}
	if _, doc := dana.get(page); doc.Find(`form[action="`+page+`/rekey"] button`).Text() != "Move to new keys" {
		t.Error("the move is not offered")
	}
	ask := func(answer string) {
		t.Helper()
		if res, _ := dana.post(page+"/rekey", nil); res.StatusCode != http.StatusSeeOther {
			t.Fatalf("POST = %d", res.StatusCode)
		}
		_, doc := dana.get(page)
		says(t, doc, answer)
	}
	ask("Contoso Dental has new keys, and everything is moved to them now. Write a new recovery kit")
	ask("That is under way for Contoso Dental already.")
	_, doc := dana.get(page)
	says(t, doc, "Move to new keys starts as soon as a worker is free")
	if epoch, err := p.store.Epoch(ctx, string(org)); err != nil || epoch != 1 {
		t.Errorf("epoch is %d, %v; want 1", epoch, err)
	}
	_, doc = dana.get(all)
	says(t, doc, "The newest recovery kit is older than the newest keys.")
	if err := p.store.NoteKit(ctx, time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	_, doc = dana.get(all)
	if strings.Contains(text(doc.Selection), "The newest recovery kit is older") {
		t.Error("a kit that was written since is called older")
	}

	finish := func(u backup.Upkeep, next time.Duration, want string) {
		t.Helper()
		u.OrgID, u.Kind, u.EndedAt = org, backup.UpkeepRekey, time.Now()
		if next > 0 {
			u.NextAt = time.Now().Add(next)
		}
		if err := p.store.StartUpkeep(ctx, org, u.Kind); err != nil {
			t.Fatal(err)
		}
		if err := p.store.BeatUpkeep(ctx, org, u.Kind, 2, 7); err != nil {
			t.Fatal(err)
		}
		_, doc := dana.get(page + "/live")
		says(t, doc, "Move to new keys: 2 of 7 packs written anew")
		if err := p.store.BeatUpkeep(ctx, org, u.Kind, u.Done, u.Total); err != nil {
			t.Fatal(err)
		}
		if err := p.store.FinishUpkeep(ctx, u); err != nil {
			t.Fatal(err)
		}
		_, doc = dana.get(page)
		says(t, doc, want)
	}
	finish(backup.Upkeep{State: backup.UpkeepOK, Done: 9, Total: 14}, 23*time.Hour, "9 of 14 objects are under the new keys alone; what is under the old ones is deleted two days after it was written anew · goes on by itself in ")
	if _, doc := dana.get(page); doc.Find(`form[action="`+page+`/rekey"] button`).Text() != "Go on now" {
		t.Error("going on is not offered")
	}
	ask("The move of Contoso Dental to new keys goes on now.")
	if epoch, err := p.store.Epoch(ctx, string(org)); err != nil || epoch != 1 {
		t.Errorf("going on began epoch %d, %v", epoch, err)
	}
	finish(backup.Upkeep{State: backup.UpkeepDamaged, Damaged: 2, Done: 9, Total: 14}, time.Hour, "2 objects are damaged and can't be moved: repair the storage first · goes on by itself in ")
	finish(backup.Upkeep{State: backup.UpkeepFailed, Problem: backup.Problem{Kind: backup.ProblemRepository, Text: "No storage."}}, time.Hour, "Move to new keys could not be done. No storage. It is tried again by itself in ")
	finish(backup.Upkeep{State: backup.UpkeepOK, Done: 14, Total: 14}, time.Hour, "nothing needs the old keys any more; they are destroyed when the backups that began before have ended · goes on")
	until := time.Date(2026, 12, 12, 9, 0, 0, 0, time.UTC)
	finish(backup.Upkeep{State: backup.UpkeepOK, Done: 9, Total: 14, Retained: 1, RetainedUntil: until}, time.Hour,
		"two days after it was written anew; 1 object under them is locked until 12 Dec 2026 at the latest, and deleted within a day after that · goes on")
	finish(backup.Upkeep{State: backup.UpkeepOK, Done: 14, Total: 14, Retained: 3}, time.Hour, "3 objects under them are locked, and the storage does not say until when · goes on")
	finish(backup.Upkeep{State: backup.UpkeepOK, Done: 14, Total: 14, Retained: 1200, RetainedUntil: until}, time.Hour,
		"nothing needs the old keys any more; 1,200 objects under them are locked until 12 Dec 2026 at the latest, and deleted within a day after that · goes on by itself in ")
	finish(backup.Upkeep{State: backup.UpkeepOK, Done: 14, Total: 14}, 0, "everything is under new keys, and the old ones are destroyed")
	_, doc = dana.get(page)
	if doc.Find(`form[action="`+page+`/rekey"] button`).Text() != "Move to new keys" {
		t.Error("another move is not offered")
	}
	_, doc = dana.get("/partner/organizations/" + string(org) + "/activity")
	says(t, doc, "Began to move to new keys of the repository")
}
