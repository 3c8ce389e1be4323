package handlers_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
)

func TestErasureIsAskedForWithTheAddressAndEndsWithACertificate(t *testing.T) {
	p := newPortal(t)
	boxes := p.connect("Contoso Dental", account{name: "Adele", status: backup.StatusProtected}, account{name: "Bruno", status: backup.StatusProtected})
	m, ctx := boxes["Adele"], t.Context()
	p.snapshots(m, 3, 0)
	b, page := p.as(adeleMail), "/mailboxes/"+string(m.ID)
	_, doc := b.get(page + "/erase")
	says(t, doc, "becomes unreadable at once and for good")
	form := url.Values{"address": {"adele"}, "reason": {"She has left"}, "requested_by": {"x"}}
	res, doc := b.post(page+"/erase", form)
	if res.StatusCode != http.StatusUnprocessableEntity || doc.Find("#reason").AttrOr("value", "") != "She has left" {
		t.Errorf("a wrong address = %d, reason %q", res.StatusCode, doc.Find("#reason").AttrOr("value", ""))
	}
	says(t, doc, "Type the address of the mailbox as it stands here")
	says(t, doc, "Say who asked for it")

	res, _ = b.post(page+"/hold", url.Values{"reason": {"Case 4711"}})
	b.follow(res)
	form.Set("address", m.Address)
	form.Set("requested_by", "Case 4712")
	res, doc = b.post(page+"/erase", form)
	if res.StatusCode != http.StatusUnprocessableEntity || doc.Find("main form").Length() != 0 {
		t.Errorf("under a hold = %d", res.StatusCode)
	}
	says(t, doc, "A legal hold is in force: Case 4711")
	res, _ = b.post(page+"/hold/lift", url.Values{"confirm": {"yes"}})
	b.follow(res)

	for who, want := range map[string]int{leeMail: http.StatusForbidden, nestorMail: http.StatusNotFound} {
		if res, _ := p.as(who).post(page+"/erase", form); res.StatusCode != want {
			t.Errorf("%s erases = %d, want %d", who, res.StatusCode, want)
		}
	}
	res, _ = b.post(page+"/erase", form)
	_, doc = b.follow(res)
	says(t, doc, "Waiting")
	list, err := p.store.Erasures(ctx, m.OrgID)
	if err != nil || len(list) != 1 {
		t.Fatalf("erasures = %+v, %v", list, err)
	}
	e := list[0]
	address := "/erasures/" + string(e.ID)
	if res, _ := b.get(address + "/certificate.json"); res.StatusCode != http.StatusNotFound {
		t.Errorf("a certificate before it is done = %d, want 404", res.StatusCode)
	}
	if e, err = p.store.BeginErasure(ctx, e, 3, 4096); err != nil {
		t.Fatal(err)
	}
	if err := p.store.EraseMailbox(ctx, e.OrgID, e.MailboxID); err != nil {
		t.Fatal(err)
	}
	org, err := p.store.OrganizationByID(ctx, e.OrgID)
	if err != nil {
		t.Fatal(err)
	}
	e.EndedAt = time.Now()
	if err := p.store.FinishErasure(ctx, e, backup.NewErasureCertificate(org, e, nil, backup.ErasureCopies{FilesAnew: true})); err != nil {
		t.Fatal(err)
	}
	_, doc = p.as(leeMail).get(address)
	says(t, doc, "Certificate of erasure")
	says(t, doc, "Case 4712")
	says(t, doc, "What cannot be reached")
	if strings.Contains(text(doc.Find("main")), "somebody changed it") {
		t.Error("the certificate counts as changed")
	}
	res, _ = b.get(address + "/certificate.json")
	if res.StatusCode != http.StatusOK || !strings.Contains(res.Header.Get("Content-Disposition"), "erasure-") {
		t.Errorf("the file = %d, %q", res.StatusCode, res.Header.Get("Content-Disposition"))
	}
	if res, _ := b.get(page); res.StatusCode != http.StatusNotFound {
		t.Errorf("the erased mailbox = %d, want 404", res.StatusCode)
	}
	_, doc = b.get("/erasures")
	says(t, doc, m.Address)
	for _, path := range []string{address, address + "/live", address + "/certificate.json"} {
		if res, _ := p.as(nestorMail).get(path); res.StatusCode != http.StatusNotFound {
			t.Errorf("another organization's %s = %d, want 404", path, res.StatusCode)
		}
	}
	_, doc = b.get("/activity")
	says(t, doc, "Asked for the erasure of a mailbox")
	says(t, doc, "Erased a mailbox for good")
}
