package store_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"

	"holdfast/backup"
	"holdfast/store"
	"holdfast/store/storetest"
)

// TestVerifyActivityFindsTampering changes the log behind the store's back.
func TestVerifyActivityFindsTampering(t *testing.T) {
	for name, statement := range map[string]string{
		"an entry is changed":        `UPDATE activity SET detail = 'nothing to see' WHERE seq = 3 AND chain = $1`,
		"a time is changed":          `UPDATE activity SET at = at - 1 WHERE seq = 3 AND chain = $1`,
		"a person is changed":        `UPDATE activity SET person_id = 'SOMEBODY' WHERE seq = 2 AND chain = $1`,
		"an entry is removed":        `DELETE FROM activity WHERE seq = 3 AND chain = $1`,
		"the last entry is removed":  `DELETE FROM activity WHERE seq = 6 AND chain = $1`,
		"the first entry is removed": `DELETE FROM activity WHERE seq = 1 AND chain = $1`,
		"all entries are removed":    `DELETE FROM activity WHERE chain = $1`,
		"the head is removed":        `DELETE FROM activity_heads WHERE chain = $1`,
		"head and entries are gone":  `DELETE FROM activity_heads WHERE chain = $1`,
		"the head is moved back":     `UPDATE activity_heads SET seq = 5 WHERE chain = $1`,
		"an entry is inserted": `INSERT INTO activity (id, chain, seq, partner_id, org_id, at, person_id, person, for_person, address, kind, subject, detail, hash)
			SELECT 'FORGED', chain, 7, partner_id, org_id, at, person_id, person, for_person, address, kind, subject, detail, hash FROM activity WHERE seq = 6 AND chain = $1`,
		"two entries are swapped": `UPDATE activity SET subject = CASE seq WHEN 3 THEN 'subject 4' ELSE 'subject 3' END WHERE seq IN (3, 4) AND chain = $1`,
	} {
		t.Run(name, func(t *testing.T) {
			storetest.EachRaw(t, func(t *testing.T, st *store.Store, raw *sql.DB) {
				ctx, w := t.Context(), storetest.Fill(t, st)
				for i := 3; i <= 6; i++ { // the organization and its admin are the first two
					if err := st.RecordBy(ctx, w.Ada, w.Contoso.ID, "item.download", fmt.Sprintf("subject %d", i), "detail"); err != nil {
						t.Fatal(err)
					}
				}
				if n, err := st.VerifyActivity(ctx, "", w.Contoso.ID); err != nil || n != 6 {
					t.Fatalf("VerifyActivity = %d, %v, want 6", n, err)
				}
				if name == "head and entries are gone" {
					if _, err := raw.ExecContext(ctx, `DELETE FROM activity WHERE chain = $1`, "org/"+string(w.Contoso.ID)); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := raw.ExecContext(ctx, statement, "org/"+string(w.Contoso.ID)); err != nil {
					t.Fatal(err)
				}
				if n, err := st.VerifyActivity(ctx, "", w.Contoso.ID); !errors.Is(err, store.ErrBroken) {
					t.Errorf("VerifyActivity = %d, %v, want ErrBroken", n, err)
				}
				if n, err := st.VerifyActivity(ctx, "", w.Fabrikam.ID); err != nil || n != 2 {
					t.Errorf("another organization's chain = %d, %v, want 2", n, err)
				}
				if n, err := st.VerifyActivity(ctx, w.Owner.Partner.ID, ""); err != nil || n != 1 {
					t.Errorf("the partner's chain = %d, %v, want 1", n, err)
				}
			})
		})
	}
}

// TestVerifyActivityFindsAForger gives the log to somebody who can write to the
// database, knows how entries are hashed, and computes everything anew. Only the
// seal of the head is out of reach. Entries that are written afterwards hide nothing.
func TestVerifyActivityFindsAForger(t *testing.T) {
	forgeries := map[string]func(ctx context.Context, raw *sql.DB, chain string) error{
		"an entry is changed": func(ctx context.Context, raw *sql.DB, chain string) error {
			if _, err := raw.ExecContext(ctx, `UPDATE activity SET detail = 'nothing to see' WHERE seq = 3 AND chain = $1`, chain); err != nil {
				return err
			}
			return rehash(ctx, raw, chain)
		},
		"the last entry is removed": func(ctx context.Context, raw *sql.DB, chain string) error {
			if _, err := raw.ExecContext(ctx, `DELETE FROM activity WHERE seq = 6 AND chain = $1`, chain); err != nil {
				return err
			}
			return rehash(ctx, raw, chain)
		},
		"the log begins anew": func(ctx context.Context, raw *sql.DB, chain string) error {
			for _, table := range []string{"activity", "activity_heads"} {
				if _, err := raw.ExecContext(ctx, `DELETE FROM `+table+` WHERE chain = $1`, chain); err != nil {
					return err
				}
			}
			return nil
		},
		"the seal is removed": func(ctx context.Context, raw *sql.DB, chain string) error {
			_, err := raw.ExecContext(ctx, `UPDATE activity_heads SET sealed = NULL WHERE chain = $1`, chain)
			return err
		},
		"the seal is another log's": func(ctx context.Context, raw *sql.DB, chain string) error {
			_, err := raw.ExecContext(ctx, `UPDATE activity_heads SET sealed = (SELECT sealed FROM activity_heads o WHERE o.chain <> $1 LIMIT 1) WHERE chain = $1`, chain)
			return err
		},
	}
	for name, forge := range forgeries {
		t.Run(name, func(t *testing.T) {
			storetest.EachRaw(t, func(t *testing.T, st *store.Store, raw *sql.DB) {
				ctx, w := t.Context(), storetest.Fill(t, st)
				for i := 3; i <= 6; i++ {
					if err := st.RecordBy(ctx, w.Ada, w.Contoso.ID, "item.download", fmt.Sprintf("subject %d", i), "detail"); err != nil {
						t.Fatal(err)
					}
				}
				if err := forge(ctx, raw, "org/"+string(w.Contoso.ID)); err != nil {
					t.Fatal(err)
				}
				for _, when := range []string{"at once", "after another entry"} {
					if n, err := st.VerifyActivity(ctx, "", w.Contoso.ID); !errors.Is(err, store.ErrBroken) {
						t.Errorf("VerifyActivity %s = %d, %v, want ErrBroken", when, n, err)
					}
					if err := st.RecordBy(ctx, w.Ada, w.Contoso.ID, "item.download", "later", ""); err != nil {
						t.Fatal(err)
					}
				}
			})
		})
	}
}

// rehash does what whoever knows the format of the log can do: it computes all
// hashes of a chain, and its head, anew.
func rehash(ctx context.Context, raw *sql.DB, chain string) error {
	rows, err := raw.QueryContext(ctx, `SELECT id, partner_id, org_id, seq, at, person_id, person, for_person, address, kind, subject, detail FROM activity WHERE chain = $1 ORDER BY seq`, chain)
	if err != nil {
		return err
	}
	defer rows.Close()
	previous, seq := make([]byte, sha256.Size), int64(0)
	hashes := map[string][]byte{}
	for rows.Next() {
		var id, partner, org, person, name, acting, address, kind, subject, detail string
		var at int64
		if err := rows.Scan(&id, &partner, &org, &seq, &at, &person, &name, &acting, &address, &kind, &subject, &detail); err != nil {
			return err
		}
		data, err := json.Marshal([]any{id, partner, org, seq, at, person, name, acting, address, kind, subject, detail})
		if err != nil {
			return err
		}
		h := sha256.Sum256(append(previous[:sha256.Size:sha256.Size], data...))
		previous = h[:]
		hashes[id] = previous
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	for id, hash := range hashes {
		if _, err := raw.ExecContext(ctx, `UPDATE activity SET hash = $1 WHERE id = $2`, hash, id); err != nil {
			return err
		}
	}
	_, err = raw.ExecContext(ctx, `UPDATE activity_heads SET seq = $1, hash = $2 WHERE chain = $3`, seq, previous, chain)
	return err
}

// TestActivityNeverForks appends from many sides while it is verified.
func TestActivityNeverForks(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, w := t.Context(), storetest.Fill(t, st)
		const writers, each = 8, 15
		var wg sync.WaitGroup
		for range writers {
			wg.Go(func() {
				for i := range each {
					if err := st.RecordBy(ctx, w.Ada, w.Contoso.ID, "test", fmt.Sprint(i), ""); err != nil {
						t.Errorf("RecordBy = %v", err)
					}
				}
			})
		}
		wg.Go(func() {
			for range each {
				if _, err := st.VerifyActivity(ctx, "", w.Contoso.ID); err != nil {
					t.Errorf("VerifyActivity meanwhile = %v", err)
				}
			}
		})
		wg.Wait()
		if n, err := st.VerifyActivity(ctx, "", w.Contoso.ID); err != nil || n != 2+writers*each {
			t.Errorf("VerifyActivity = %d, %v, want %d", n, err, 2+writers*each)
		}
	})
}

// TestActivityPages reads pages newest first.
func TestActivityPages(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, w := t.Context(), storetest.Fill(t, st)
		for i := range 10 {
			if err := st.RecordBy(ctx, w.Ada, w.Contoso.ID, "test", fmt.Sprint(i), ""); err != nil {
				t.Fatal(err)
			}
		}
		for page, want := range map[int][]string{0: {"9", "8", "7", "6", "5"}, 1: {"9", "8", "7", "6", "5"}, 2: {"4", "3", "2", "1", "0"}, 4: nil, 1 << 62: nil} {
			entries, total, err := st.Activity(ctx, "", w.Contoso.ID, store.ActivityQuery{Page: page, Size: 5})
			if err != nil || total != 12 || len(entries) != len(want) {
				t.Errorf("page %d: %d entries of %d, %v; want %d of 12", page, len(entries), total, err, len(want))
				continue
			}
			for i, e := range entries {
				if e.Subject != want[i] {
					t.Errorf("page %d: entry %d is %q, want %q", page, i, e.Subject, want[i])
				}
			}
		}
	})
}

// TestEveryChangeLeavesAnEntry makes each change that a person can make and
// looks at who is named.
func TestEveryChangeLeavesAnEntry(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, w := t.Context(), storetest.Fill(t, st)
		_, boxes := storetest.Connect(t, st, w.Ada, "tenant-1", storetest.Account("a"))
		by := w.Owner
		by.Org, by.Acting, by.Address = w.Contoso, backup.Acting{ID: "ACT"}, "192.0.2.7"
		changes := []struct {
			kind   string
			change func() error
		}{
			{"organization.manual_role", func() error { return st.SetManualRole(ctx, w.Owner.Partner.ID, w.Contoso.ID, true, by) }},
			{"organization.rename", func() error { return st.RenameOrganization(ctx, w.Contoso.ID, "Contoso Dental", by) }},
			{"mailbox.back_up_now", func() error { return st.BackUpNow(ctx, w.Contoso.ID, boxes["a"].ID, by) }},
			{"mailbox.deactivate", func() error { return st.SetMailboxDeactivated(ctx, w.Contoso.ID, boxes["a"].ID, true, by) }},
			{"mailbox.reactivate", func() error { return st.SetMailboxDeactivated(ctx, w.Contoso.ID, boxes["a"].ID, false, by) }},
			{"person.create", func() error {
				return st.CreatePerson(ctx, backup.Person{ID: "V", Name: "Vera", Email: "vera@contoso.example"}, backup.Membership{OrgID: w.Contoso.ID, Role: backup.RoleViewer}, by)
			}},
		}
		for _, c := range changes {
			if err := c.change(); err != nil {
				t.Fatalf("%s: %v", c.kind, err)
			}
			entries, _, err := st.Activity(ctx, "", w.Contoso.ID, store.ActivityQuery{Page: 1, Size: 1})
			if err != nil {
				t.Fatal(err)
			}
			if e := entries[0]; e.Kind != c.kind || e.Person != "Dana Ruiz (Northwind) <dana@northwind.example>" || e.ForPerson != "for Contoso" || e.Address != "192.0.2.7" {
				t.Errorf("%s: entry = %+v", c.kind, e)
			}
		}
		_, before, _ := st.Activity(ctx, "", w.Contoso.ID, store.ActivityQuery{Page: 1, Size: 1})
		if err := st.SetMailboxDeactivated(ctx, w.Contoso.ID, boxes["a"].ID, false, by); err != nil {
			t.Fatal(err)
		}
		if err := st.CreatePerson(ctx, backup.Person{ID: "V2", Name: "Vera", Email: "vera@contoso.example"}, backup.Membership{OrgID: w.Contoso.ID, Role: backup.RoleViewer}, by); err == nil {
			t.Fatal("a taken address was accepted")
		}
		if _, after, _ := st.Activity(ctx, "", w.Contoso.ID, store.ActivityQuery{Page: 1, Size: 1}); after != before {
			t.Errorf("%d entries for changes that were none", after-before)
		}
	})
}
