package store_test

import (
	"bytes"
	"database/sql"
	"errors"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/repo"
	"holdfast/store"
	"holdfast/store/storetest"
)

// TestRekeyIsBegunOnceAndEndsWithTheOldKeysGone is what a move to new keys asks of
// the database.
func TestRekeyIsBegunOnceAndEndsWithTheOldKeysGone(t *testing.T) {
	storetest.EachRaw(t, func(t *testing.T, st *store.Store, raw *sql.DB) {
		w, ctx := storetest.Fill(t, st), t.Context()
		org, partner := w.Contoso.ID, w.Owner.Partner.ID
		first, err := st.TenantKey(ctx, string(org), 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.SourceKey(ctx, string(org), "box", 0); err != nil {
			t.Fatal(err)
		}
		if _, err := st.TenantKey(ctx, string(w.Fabrikam.ID), 0); err != nil {
			t.Fatal(err)
		}
		if _, err := st.BeginRekey(ctx, "another partner", org, w.Owner); !isNotFound(err) {
			t.Errorf("BeginRekey by another partner = %v, want ErrNotFound", err)
		}
		if epoch, err := st.BeginRekey(ctx, partner, org, w.Owner); err != nil || epoch != 1 {
			t.Fatalf("BeginRekey = %d, %v; want epoch 1", epoch, err)
		}
		goesOn := func(when string) {
			t.Helper()
			if _, err := st.BeginRekey(ctx, partner, org, w.Owner); !errors.Is(err, backup.ErrConflict) {
				t.Errorf("BeginRekey while one %s = %v, want ErrConflict", when, err)
			}
			if epoch, err := st.Epoch(ctx, string(org)); err != nil || epoch != 1 {
				t.Errorf("the epoch is %d, %v; want 1", epoch, err)
			}
		}
		goesOn("waits for a worker")
		u := backup.Upkeep{OrgID: org, Kind: backup.UpkeepRekey, State: backup.UpkeepOK, EndedAt: time.Now(), NextAt: time.Now().Add(time.Hour)}
		if err := errors.Join(st.StartUpkeep(ctx, org, u.Kind), st.FinishUpkeep(ctx, u)); err != nil {
			t.Fatal(err)
		}
		goesOn("waits for its time")
		for now, want := range map[time.Time]int{time.Now(): 0, u.NextAt: 1} {
			if due, err := st.DueAgain(ctx, now); err != nil || len(due) != want || want > 0 && (due[0] != backup.UpkeepJob{OrgID: org, Work: u.Kind}) {
				t.Errorf("due at %s are %v, %v; want %d", now, due, err, want)
			}
		}
		if n, err := st.DestroyOldKeys(ctx, org); !errors.Is(err, backup.ErrConflict) || n != 0 {
			t.Errorf("DestroyOldKeys while runs may commit under them = %d, %v; want ErrConflict", n, err)
		}
		if _, err := raw.ExecContext(ctx, `UPDATE repository_keys SET created_at = $1 WHERE org_id = $2 AND epoch = 1`, time.Now().Add(-2*repo.WriterLife).UnixMilli(), org); err != nil {
			t.Fatal(err)
		}
		for _, want := range []int{2, 0} {
			if n, err := st.DestroyOldKeys(ctx, org); err != nil || n != want {
				t.Errorf("DestroyOldKeys = %d, %v; want %d", n, err, want)
			}
		}
		if _, err := st.TenantKey(ctx, string(org), 0); !errors.Is(err, repo.ErrNoKey) {
			t.Errorf("the old key = %v, want ErrNoKey", err)
		}
		if kept, err := st.Secrets(ctx, string(org)); err != nil || !bytes.Equal(kept, repo.SecretsOf(first)) {
			t.Errorf("what all epochs share is not what it was: %v", err)
		}
		if _, err := st.TenantKey(ctx, string(w.Fabrikam.ID), 0); err != nil {
			t.Errorf("the key of another organization = %v", err)
		}
		for kind, want := range map[string]int{"key.rekey": 1, "key.destroy": 1} {
			if list, _, err := st.Activity(ctx, "", org, store.ActivityQuery{Kind: kind, Page: 1, Size: 9}); err != nil || len(list) != want {
				t.Errorf("%d entries %s, %v; want %d", len(list), kind, err, want)
			}
		}
	})
}
