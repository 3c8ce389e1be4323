package handlers_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/PuerkitoBio/goquery"

	"holdfast/backup"
	"holdfast/backup/m365/simulator"
	"holdfast/store"
)

const (
	contosoTenant = "contosodental.onmicrosoft.com"
	megan         = "megan.o'neil@" + contosoTenant
	frontDesk     = "frontdesk@" + contosoTenant
	juergen       = "juergen.gross@" + contosoTenant
	priya         = "priya@" + contosoTenant
)

// connected is an admin of Contoso whose tenant is connected and whose
// accounts with the given addresses had their first backup.
func (o *office) connected(addresses ...string) *visitor {
	o.t.Helper()
	v := o.signIn(adminMail).consent(contosoAdmin, contosoPass).applications()
	v.press("Authorize in this browser").microsoft(contosoAdmin, contosoPass)
	v.until("/setup", func() bool { return v.doc.Find("#accounts").Length() > 0 })
	fill := []string{}
	v.doc.Find("#accounts tbody tr").Each(func(_ int, row *goquery.Selection) {
		for _, a := range addresses {
			if strings.Contains(row.Text(), a) {
				fill = append(fill, "account", row.Find("input").AttrOr("value", ""))
			}
		}
	})
	v.press("Back up the selected accounts", fill...).says("Microsoft 365 is connected")
	return v.until("/dashboard", func() bool { return v.statuses("Protected") == len(addresses) })
}

// statuses counts the mailboxes on the dashboard whose status begins so.
func (v *visitor) statuses(status string) int {
	n := 0
	v.doc.Find("tbody .status").Each(func(_ int, s *goquery.Selection) {
		if strings.HasPrefix(words(s), status) {
			n++
		}
	})
	return n
}

// account is a selected mailbox by its address.
func (o *office) account(address string) backup.Mailbox {
	o.t.Helper()
	page, err := o.store.Mailboxes(o.t.Context(), o.org(adminMail), store.MailboxQuery{Search: address})
	if err != nil || len(page.Mailboxes) != 1 {
		o.t.Fatalf("%s: %d mailboxes, %v", address, len(page.Mailboxes), err)
	}
	return page.Mailboxes[0]
}

// again backs a mailbox up once more, by the button, and waits for the end.
func (o *office) again(v *visitor, address string) {
	o.t.Helper()
	m := o.account(address)
	v.do(http.MethodPost, "/mailboxes/"+string(m.ID)+"/back-up", url.Values{})
	v.until("/dashboard", func() bool {
		now := o.account(address)
		return !now.Running && (now.LastRunAt.After(m.LastRunAt) || now.Problem.Kind != "")
	})
}

// listed has the accounts of the tenant read again.
func (o *office) listed(v *visitor, ready func() bool) {
	o.t.Helper()
	org := o.org(adminMail)
	list, err := o.store.Connections(o.t.Context(), org)
	if err != nil || len(list) != 1 {
		o.t.Fatalf("%d connections, %v", len(list), err)
	}
	v.until("/dashboard", func() bool {
		// While the queue still has the job before, another is not taken.
		if err := o.store.Enqueue(o.t.Context(), backup.ListAccountsJob{OrgID: org, ConnectionID: list[0].ID}); err != nil {
			o.t.Fatal(err)
		}
		return ready()
	})
}

// snapshotItems are the messages of the newest snapshot by provider id.
func (o *office) snapshotItems(address string) (map[string]backup.Item, []backup.Snapshot) {
	o.t.Helper()
	m := o.account(address)
	snapshots, err := o.store.Snapshots(o.t.Context(), m.OrgID, m.ID)
	if err != nil || len(snapshots) == 0 {
		o.t.Fatalf("%s: %d snapshots, %v", address, len(snapshots), err)
	}
	items, _, err := o.store.Items(o.t.Context(), m.OrgID, m.ID, snapshots[0].Seq, store.ItemQuery{PageSize: 10000})
	if err != nil {
		o.t.Fatal(err)
	}
	list := map[string]backup.Item{}
	for _, i := range items {
		list[i.ProviderID] = i
	}
	return list, snapshots
}

func TestMailboxesFollowWhatHappensInTheTenant(t *testing.T) {
	o := newOffice(t)
	v := o.connected(megan, frontDesk, juergen, priya)
	sim := o.microsoft

	// New, moved, deleted and read mail: one incremental run.
	before, first := o.snapshotItems(megan)
	list, err := sim.Messages(contosoTenant, megan)
	if err != nil {
		t.Fatal(err)
	}
	moved, deleted, read := list[0], list[1], list[2]
	fresh, err := sim.Deliver(contosoTenant, megan, "inbox", []byte("Subject: a new one\r\n\r\nhello\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	unread := !read.Read
	for _, err := range []error{
		sim.Move(contosoTenant, megan, moved.ID, "archive"), sim.Remove(contosoTenant, megan, deleted.ID),
		sim.Mark(contosoTenant, megan, read.ID, simulator.Marks{Read: &unread}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	sim.ClearRequests()
	o.again(v, megan)
	contents := 0
	for _, r := range sim.Requests() {
		if strings.HasSuffix(r.Path, "/$value") {
			contents++
		}
	}
	if contents != 1 {
		t.Errorf("%d messages were read, want only the new one", contents)
	}
	after, snapshots := o.snapshotItems(megan)
	if len(after) != len(before) || after[fresh].Subject != "a new one" || after[moved.ID].FolderID == before[moved.ID].FolderID || after[read.ID].Read != unread {
		t.Errorf("%d messages after the run, %d before; fresh %q, moved from %s to %s", len(after), len(before), after[fresh].Subject, before[moved.ID].FolderID, after[moved.ID].FolderID)
	}
	if _, there := after[deleted.ID]; there {
		t.Error("the deleted message is still in the newest snapshot")
	}
	// It can be had from the time before.
	m := o.account(megan)
	v.get("/browse/" + string(m.ID) + "/items/" + string(before[deleted.ID].ID) + "/download?at=" + first[0].At.Add(1).Format("2006-01-02T15:04:05.999Z"))
	if v.status != http.StatusOK || int64(len(v.body)) != deleted.Size {
		t.Errorf("the deleted message from earlier = %d, %d bytes, want its %d (%d snapshots)", v.status, len(v.body), deleted.Size, len(snapshots))
	}

	// Emptied, without licence, deleted: each has its status.
	if err := sim.Empty(contosoTenant, frontDesk); err != nil {
		t.Fatal(err)
	}
	o.again(v, frontDesk)
	o.change(http.MethodPatch, "/tenants/"+contosoTenant+"/users/"+juergen, `{"licences":[]}`)
	o.change(http.MethodPatch, "/tenants/"+contosoTenant+"/users/"+priya, `{"deleted":true}`)
	o.listed(v, func() bool { return v.statuses("Inactive") == 1 && v.statuses("Deactivated") == 1 })
	if v.statuses("Protected") != 1 || v.statuses("Empty") != 1 {
		t.Errorf("the dashboard says %s", v.text())
	}
	v.says("No valid e-mail licence").says("The account was deleted at Microsoft").says("becomes active by itself")

	// They come back by themselves.
	o.change(http.MethodPatch, "/tenants/"+contosoTenant+"/users/"+juergen, `{"licences":["SPE_E3"]}`)
	o.change(http.MethodPatch, "/tenants/"+contosoTenant+"/users/"+priya, `{"deleted":false}`)
	o.listed(v, func() bool { return v.statuses("Inactive") == 0 && v.statuses("Deactivated") == 0 })
	if _, err := sim.Deliver(contosoTenant, frontDesk, "inbox", []byte("Subject: mail again\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	o.again(v, frontDesk)
	v.until("/dashboard", func() bool { return v.statuses("Protected") == 4 })
}
