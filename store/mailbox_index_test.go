package store_test

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/store"
	"holdfast/store/storetest"
)

// TestWhatIsKeptInMemoryHolds changes mailboxes in every way and looks at the
// board after each change: it must be what the rows say.
func TestWhatIsKeptInMemoryHolds(t *testing.T) {
	storetest.EachRaw(t, func(t *testing.T, st *store.Store, raw *sql.DB) {
		ctx, w := t.Context(), storetest.Fill(t, st)
		accounts := make([]backup.Mailbox, 12)
		for i := range accounts {
			accounts[i] = storetest.Account(fmt.Sprintf("u%02d", i))
		}
		conn, boxes := storetest.Connect(t, st, w.Ada, "tenant", accounts...)
		rng := rand.New(rand.NewPCG(7, 7)) //nolint:gosec // a replayable order
		queries := []store.MailboxQuery{{}, {Status: backup.StatusFailing}, {Search: "u0"}, {Search: "renamed"}, {Search: "U1", Desc: true, Sort: "name"}, {Sort: "items", Desc: true}}
		for step := range 60 {
			i := rng.IntN(len(accounts))
			id := boxes[accounts[i].ProviderID].ID
			changeSomehow(t, st, w, conn, accounts, i, id, rng.IntN(4))
			for _, q := range queries {
				q.Page, q.PageSize = 1, 50
				counts, page, err := st.MailboxBoard(ctx, w.Contoso.ID, q)
				if err != nil {
					t.Fatal(err)
				}
				direct := q
				direct.Connection = conn.ID // names the connection, so that the rows are asked
				want, err := st.Mailboxes(ctx, w.Contoso.ID, direct)
				if err != nil {
					t.Fatal(err)
				}
				if len(page.Mailboxes) != len(want.Mailboxes) || page.Total != want.Total || len(want.Mailboxes) > 0 && !reflect.DeepEqual(page.Mailboxes, want.Mailboxes) {
					t.Fatalf("step %d, %+v: board has %d of %d, the rows %d of %d", step, q, len(page.Mailboxes), page.Total, len(want.Mailboxes), want.Total)
				}
				for _, status := range backup.Statuses {
					var n int
					if err := raw.QueryRowContext(ctx, `SELECT count(*) FROM mailboxes WHERE org_id = $1 AND selected = TRUE AND status = $2`, w.Contoso.ID, status).Scan(&n); err != nil {
						t.Fatal(err)
					}
					if counts[status] != n {
						t.Fatalf("step %d: %d %s, want %d", step, counts[status], status, n)
					}
				}
			}
		}
	})
}

// changeSomehow changes one mailbox in one of several ways.
func changeSomehow(t *testing.T, st *store.Store, w storetest.World, conn backup.Connection, accounts []backup.Mailbox, i int, id backup.MailboxID, way int) {
	t.Helper()
	ctx, now := t.Context(), time.Now()
	var err error
	switch way {
	case 0: // a run, which may fail
		r := backup.Run{ID: backup.NewID[backup.RunID](), OrgID: w.Contoso.ID, MailboxID: id, State: backup.RunRunning, StartedAt: now, BeatAt: now}
		if err = st.StartRun(ctx, r); err == nil {
			r.State, r.EndedAt = backup.RunSucceeded, now
			err = st.FinishRun(ctx, r, func(m *backup.Mailbox) {
				if i%3 == 0 {
					m.Failures++
					return
				}
				m.Failures, m.LastRunAt, m.Items = 0, now, int64(i)
			})
		}
	case 1:
		err = st.SetMailboxDeactivated(ctx, w.Contoso.ID, id, i%2 == 0, w.Ada)
	case 2: // renamed, or without its licence, at the provider
		a := &accounts[i]
		if strings.HasPrefix(a.Name, "Renamed") {
			a.Name, a.Licence = "Name of "+a.ProviderID, backup.LicenceNone
		} else {
			a.Name, a.Licence = "Renamed "+a.ProviderID, backup.LicenceValid
		}
		err = st.UpsertMailboxes(ctx, w.Contoso.ID, conn.ID, accounts)
	case 3: // gone at the provider, and back
		if err = st.UpsertMailboxes(ctx, w.Contoso.ID, conn.ID, append(append([]backup.Mailbox{}, accounts[:i]...), accounts[i+1:]...)); err == nil && i%2 == 0 {
			err = st.UpsertMailboxes(ctx, w.Contoso.ID, conn.ID, accounts)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}
