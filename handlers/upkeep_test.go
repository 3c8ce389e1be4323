package handlers_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/store"
)

func TestProvenRestoresAndDamageAreShown(t *testing.T) {
	p := newPortal(t)
	boxes := p.connect("Contoso Dental", account{name: "Adele", status: backup.StatusProtected})
	org := p.orgs["Contoso Dental"].ID
	m := boxes["Adele"]
	_, doc := p.as(adeleMail).get("/dashboard")
	says(t, doc, "Last proven restore Not yet")

	ctx := t.Context()
	now := time.Now()
	for kind, counted := range map[backup.UpkeepKind]int64{backup.UpkeepProveItem: 1, backup.UpkeepProveMailbox: 312} {
		if err := p.store.StartUpkeep(ctx, org, kind); err != nil {
			t.Fatal(err)
		}
		ended := now.Add(-3 * time.Hour)
		if kind == backup.UpkeepProveMailbox {
			ended = now.Add(-50 * time.Hour)
		}
		if err := p.store.FinishUpkeep(ctx, backup.Upkeep{OrgID: org, Kind: kind, State: backup.UpkeepOK, MailboxID: m.ID, Counted: counted, EndedAt: ended}); err != nil {
			t.Fatal(err)
		}
	}
	for who, path := range map[string]string{adeleMail: "/dashboard", danaMail: "/partner/organizations/" + string(org)} {
		_, doc = p.as(who).get(path)
		says(t, doc, "Last proven restore 3 hours ago 1 message of "+m.Address+", every byte compared · last whole mailbox 2 days ago with 312 messages")
	}

	if err := p.store.NoteDamage(ctx, backup.Damage{OrgID: org, Object: "t/x/d/00/00", How: "t/x/d/00/00: its bytes are not those that were written"}); err != nil {
		t.Fatal(err)
	}
	_, doc = p.as(adeleMail).get("/dashboard")
	says(t, doc, "1 message or object is damaged See what")
	_, doc = p.as(adeleMail).get("/status")
	says(t, doc, "1 message or object of the backup is damaged Damaged "+backup.ProblemDamage)
	says(t, doc, "t/x/d/00/00")
	for who, path := range map[string]string{adeleMail: "/status/damages.csv", danaMail: "/partner/settings/storage/" + string(org) + "/damages.csv"} {
		res, doc := p.as(who).get(path)
		says(t, doc, "damaged,t/x/d/00/00,its bytes are not those that were written")
		if got := res.Header.Get("Content-Type"); got != "text/csv; charset=utf-8" {
			t.Errorf("GET %s is %s", path, got)
		}
	}
	if _, doc = p.as(nestorMail).get("/status/damages.csv"); strings.Contains(text(doc.Selection), "t/x") {
		t.Error("another organization gets the list of what is damaged")
	}
	if res, _ := p.as(danaMail).get("/partner/settings/storage/NOBODY/damages.csv"); res.StatusCode != http.StatusNotFound {
		t.Errorf("list of an unknown organization = %d, want 404", res.StatusCode)
	}
	_, doc = p.as(danaMail).get("/partner/support")
	says(t, doc, "Backup storage")
	says(t, doc, backup.ProblemDamage)
	_, doc = p.as(nestorMail).get("/status")
	if strings.Contains(text(doc.Selection), "amaged") {
		t.Error("another organization sees the damage")
	}
}

func TestACollectionIsAskedForAndShown(t *testing.T) {
	p := newPortal(t)
	p.connect("Contoso Dental", account{name: "Adele", status: backup.StatusProtected})
	org := p.orgs["Contoso Dental"].ID
	b, page, ctx := p.as(danaMail), "/partner/settings/storage/"+string(org), t.Context()
	_, doc := b.get(page)
	says(t, doc, "Once a day snapshots expire by their retention")
	for _, want := range []string{"The collection of Contoso Dental starts now.", "That is under way for Contoso Dental already."} {
		res, _ := b.post(page+"/collect", nil)
		_, doc := b.follow(res)
		says(t, doc, want)
		says(t, doc, "Collection starts as soon as a worker is free")
	}
	if res, _ := b.post("/partner/settings/storage/NOBODY/collect", nil); res.StatusCode != http.StatusNotFound {
		t.Errorf("a collection of nobody = %d, want 404", res.StatusCode)
	}
	for _, c := range []struct {
		u    backup.Upkeep
		done int64
		want string
	}{
		{done: 3, want: "Collection: 3 of 7 mailboxes"},
		{u: backup.Upkeep{State: backup.UpkeepOK, Counted: 9}, want: "Space freed just now · nothing to free"},
		{u: backup.Upkeep{State: backup.UpkeepOK, Counted: 9, Bytes: 2 << 20, Retained: 4}, want: "2.1 MB freed, 4 objects are kept by a lock until it ends"},
		{u: backup.Upkeep{State: backup.UpkeepFailed, NextAt: time.Now().Add(24 * time.Hour), Problem: backup.Problem{Kind: backup.ProblemRepository, Text: "The bucket is away."}},
			want: "Collection could not be done. The bucket is away. It is tried again by itself in 23 hours."},
	} {
		if err := p.store.StartUpkeep(ctx, org, backup.UpkeepCollect); err != nil {
			t.Fatal(err)
		}
		err := p.store.BeatUpkeep(ctx, org, backup.UpkeepCollect, c.done, 7)
		if c.u.State != "" {
			c.u.OrgID, c.u.Kind, c.u.EndedAt = org, backup.UpkeepCollect, time.Now()
			err = errors.Join(err, p.store.FinishUpkeep(ctx, c.u))
		}
		if err != nil {
			t.Fatal(err)
		}
		_, doc := b.get(page)
		says(t, doc, c.want)
	}
}

func TestDamagedMessageSaysSinceWhen(t *testing.T) {
	o := newOffice(t)
	m := o.backUp(newShelf(t))
	v := o.signIn(adminMail)
	packs, err := filepath.Glob(filepath.Join(o.folder, "t", string(m.OrgID), "d", "*", "*"))
	if err != nil || len(packs) == 0 {
		t.Fatalf("packs of content: %v, %v", packs, err)
	}
	for _, name := range packs {
		if err := os.Truncate(name, 40); err != nil {
			t.Fatal(err)
		}
	}
	snapshots, err := o.store.Snapshots(t.Context(), m.OrgID, m.ID)
	if err != nil {
		t.Fatal(err)
	}
	items, _, err := o.store.Items(t.Context(), m.OrgID, m.ID, snapshots[0].Seq, store.ItemQuery{Search: "From the start"})
	if err != nil || len(items) != 1 {
		t.Fatalf("items = %v, %v", items, err)
	}
	page := "/browse/" + string(m.ID) + "/items/" + string(items[0].ID)
	v.get(page).says("should run holdfast verify")
	record, _ := engine.RecordNumber(items[0].ID)
	if err := o.store.NoteDamage(t.Context(), backup.Damage{OrgID: m.OrgID, Object: "item/" + string(m.ID) + "/" + string(items[0].ID), MailboxID: m.ID, Record: record, How: "torn"}); err != nil {
		t.Fatal(err)
	}
	damage, err := o.store.ItemDamage(t.Context(), m.OrgID, m.ID, items[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	v.get(page).says("The content of this message is damaged in the backup since " + damage.FoundAt.UTC().Format("2 January 2006")).says("Other messages are fine.")
	v.get("/browse/" + string(m.ID) + "?folder=*").says("Damaged in the backup")
	o.signIn(adminMail).get("/status").says("“From the start”").says("received ")
	for fate, want := range map[backup.DamageFate]string{backup.DamageWanted: "reads it again from the provider", backup.DamageDiffers: "has another text of it now", backup.DamageGone: "does not have it any more"} {
		if err := o.store.SaveFate(t.Context(), m.OrgID, "item/"+string(m.ID)+"/"+string(items[0].ID), fate); err != nil {
			t.Fatal(err)
		}
		v.get(page).says(want)
		o.signIn(adminMail).get("/status").says(want)
	}
}

func TestChecksAreAskedForOnTheStoragePage(t *testing.T) {
	p := newPortal(t)
	p.connect("Contoso Dental", account{name: "Adele", status: backup.StatusProtected})
	org := p.orgs["Contoso Dental"].ID
	_, doc := p.as(danaMail).get("/partner/settings/storage")
	says(t, doc, "Contoso Dental 1 48,211 6.2 GB 0 B Not checked yet")
	own := "/partner/settings/storage/" + string(org)
	path := own + "/check"
	_, doc = p.as(danaMail).get(own)
	says(t, doc, "Not checked yet Everything is there Not checked yet")
	if res, _ := p.as(danaMail).post(path, nil); res.StatusCode != http.StatusSeeOther {
		t.Fatalf("POST %s = %d", path, res.StatusCode)
	}
	_, doc = p.as(danaMail).get("/partner/settings/storage")
	says(t, doc, "Check of everything starts as soon as a worker is free")
	if trigger := doc.Find("#checks").AttrOr("hx-trigger", ""); trigger == "" {
		t.Error("the page does not ask how far the check is")
	}
	_, doc = p.as(danaMail).get(own)
	if doc.Find("#organization-checks[hx-trigger]").Length() != 1 || doc.Find("#organization-checks button").Length() != 0 {
		t.Error("a check that is under way can be asked for again")
	}
	if err := p.store.StartUpkeep(t.Context(), org, backup.UpkeepAll); err != nil {
		t.Fatal(err)
	}
	if err := p.store.BeatUpkeep(t.Context(), org, backup.UpkeepAll, 7, 20); err != nil {
		t.Fatal(err)
	}
	_, doc = p.as(danaMail).get("/partner/settings/storage/checks")
	says(t, doc, "Check of everything: 7 of 20")
	_, doc = p.as(danaMail).get(own + "/live")
	says(t, doc, "Check of everything: 7 of 20")
	if res, _ := p.as(danaMail).post(path, nil); res.StatusCode != http.StatusSeeOther {
		t.Errorf("a second POST = %d, want a redirect", res.StatusCode)
	}
	if res, _ := p.as(danaMail).post("/partner/settings/storage/NOBODY/check", nil); res.StatusCode != http.StatusNotFound {
		t.Errorf("check of an unknown organization = %d, want 404", res.StatusCode)
	}
	if res, _ := p.as(samMail).post(path, nil); res.StatusCode != http.StatusForbidden {
		t.Errorf("check asked for by support = %d, want 403", res.StatusCode)
	}
}

// TestRepairAndRebuildAreAskedFor walks both buttons of the storage page, and
// what it says after them.
func TestRepairAndRebuildAreAskedFor(t *testing.T) {
	p := newPortal(t)
	p.connect("Contoso Dental", account{name: "Adele", status: backup.StatusProtected})
	org, ctx := p.orgs["Contoso Dental"].ID, t.Context()
	const all = "/partner/settings/storage"
	page := all + "/" + string(org)
	_, doc := p.as(danaMail).get(page)
	if doc.Find(`form[action$="/repair"]`).Length() != 0 {
		t.Error("repair is offered where nothing is damaged")
	}
	if err := p.store.NoteDamage(ctx, backup.Damage{OrgID: org, Object: "t/x/d/00/00", How: "t/x/d/00/00: its bytes are not those that were written"}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		kind                 backup.UpkeepKind
		waits, runs, problem string
		ended                backup.Upkeep
		after                string
	}{
		{backup.UpkeepRepair, "Repair starts as soon as a worker is free", "Repair: 2 of 7", "Repair could not be done. No copy.",
			backup.Upkeep{State: backup.UpkeepDamaged, Counted: 6, Damaged: 1}, "6 objects put back or written anew; 1 message or object was damaged after it"},
		{backup.UpkeepRebuild, "Rebuild of the catalog starts as soon as a worker is free", "Rebuild of the catalog: 2 of 7 mailboxes", "Rebuild of the catalog could not be done. No copy.",
			backup.Upkeep{State: backup.UpkeepOK, Counted: 7}, "Catalog made anew"},
	} {
		path := page + "/" + string(c.kind)
		if _, doc = p.as(danaMail).get(page); doc.Find(`form[action="`+path+`"] button`).Length() != 1 {
			t.Errorf("%s is not offered", c.kind)
		}
		if res, _ := p.as(samMail).post(path, nil); res.StatusCode != http.StatusForbidden {
			t.Errorf("%s asked for by support = %d, want 403", c.kind, res.StatusCode)
		}
		if res, _ := p.as(danaMail).post(all+"/NOBODY/"+string(c.kind), nil); res.StatusCode != http.StatusNotFound {
			t.Errorf("%s of an unknown organization = %d, want 404", c.kind, res.StatusCode)
		}
		if res, _ := p.as(danaMail).post(path, nil); res.StatusCode != http.StatusSeeOther {
			t.Fatalf("POST %s = %d", path, res.StatusCode)
		}
		_, doc = p.as(danaMail).get(page)
		says(t, doc, c.waits)
		finish := func(u backup.Upkeep) {
			t.Helper()
			u.OrgID, u.Kind, u.EndedAt = org, c.kind, time.Now()
			if err := errors.Join(p.store.StartUpkeep(ctx, org, c.kind), p.store.BeatUpkeep(ctx, org, c.kind, 2, 7)); err != nil {
				t.Fatal(err)
			}
			_, doc = p.as(danaMail).get(page + "/live")
			says(t, doc, c.runs)
			if err := p.store.FinishUpkeep(ctx, u); err != nil {
				t.Fatal(err)
			}
			_, doc = p.as(danaMail).get(page)
		}
		finish(backup.Upkeep{State: backup.UpkeepFailed, Problem: backup.Problem{Kind: backup.ProblemRepository, Text: "No copy."}})
		says(t, doc, c.problem)
		_, status := p.as(adeleMail).get("/status")
		if strings.Contains(text(status.Selection), "No copy.") {
			t.Errorf("the organization reads why %s could not be done", c.kind)
		}
		finish(c.ended)
		says(t, doc, c.after)
	}
}

// What needs somebody comes first, and 500 organizations are found, filtered
// and paged.
func TestTheStoragePageFindsOrganizations(t *testing.T) {
	p := newPortal(t)
	for i := range 60 {
		if _, err := p.store.CreateOrganization(t.Context(), backup.Organization{PartnerID: p.owner.Partner.ID, Name: fmt.Sprintf("Client %02d", i)}, p.owner); err != nil {
			t.Fatal(err)
		}
	}
	damaged := p.orgs["Fabrikam Legal"].ID
	if err := p.store.NoteDamage(t.Context(), backup.Damage{OrgID: damaged, Object: "t/x/d/00/00", How: "torn"}); err != nil {
		t.Fatal(err)
	}
	b := p.as(danaMail)
	for query, want := range map[string]struct {
		rows  int
		first string
	}{"": {50, "Fabrikam Legal"}, "?page=2": {12, ""}, "?page=99": {0, ""}, "?q=CLIENT+0": {10, "Client 00"}, "?q=nobody": {0, ""}, "?only=damaged": {1, "Fabrikam Legal"},
		"?only=unchecked&q=client": {50, "Client 00"}, "?only=nonsense": {50, "Fabrikam Legal"}} {
		_, doc := b.get("/partner/settings/storage" + query)
		rows := doc.Find("#checks tbody tr")
		if rows.Length() != want.rows || !strings.HasPrefix(text(rows.First()), want.first) {
			t.Errorf("%s lists %d, the first %q; want %d, %s", query, rows.Length(), text(rows.First()), want.rows, want.first)
		}
	}
	_, doc := b.get("/partner/settings/storage/" + string(damaged))
	says(t, doc, "t/x/d/00/00")
	if res, _ := b.get("/partner/settings/storage/NOBODY"); res.StatusCode != http.StatusNotFound {
		t.Errorf("an unknown organization = %d", res.StatusCode)
	}
}
