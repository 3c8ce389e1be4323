package store_test

import (
	"errors"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/repo"
	"holdfast/store"
	"holdfast/store/storetest"
)

// TestALostSnapshotIsToldWhenARepairHasEnded notes a snapshot as lost: it waits to be
// told until a repair of its organization ends, and not by one that fails, of another
// kind, or of another organization.
func TestALostSnapshotIsToldWhenARepairHasEnded(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w, ctx := storetest.Fill(t, st), t.Context()
		org, other := w.Contoso.ID, w.Fabrikam.ID
		waits := func(of backup.OrgID) bool {
			t.Helper()
			list, err := st.Damages(ctx, of, 10)
			if err != nil || len(list) != 1 || list[0].Object != repo.CommitName(string(of), "box", 7) || list[0].MailboxID != "box" || list[0].How != "how" {
				t.Fatalf("damages = %+v, %v; want the snapshot", list, err)
			}
			return list[0].Fate == backup.DamageTold
		}
		for _, of := range []backup.OrgID{org, other, "nobody"} {
			for range 2 {
				if err := st.NoteLost(ctx, of, "box", 7, "how"); err != nil {
					t.Fatal(err)
				}
			}
		}
		if list, err := st.Damages(ctx, "nobody", 10); err != nil || len(list) > 0 {
			t.Errorf("of an organization that is gone there is %+v, %v", list, err)
		}
		for _, c := range []struct {
			kind  backup.UpkeepKind
			state backup.UpkeepState
			waits bool
		}{
			{backup.UpkeepAll, backup.UpkeepDamaged, true},
			{backup.UpkeepRepair, backup.UpkeepFailed, true},
			{backup.UpkeepRepair, backup.UpkeepDamaged, false},
		} {
			u := backup.Upkeep{OrgID: org, Kind: c.kind, State: c.state, EndedAt: time.Now()}
			if err := errors.Join(st.StartUpkeep(ctx, org, c.kind), st.FinishUpkeep(ctx, u)); err != nil {
				t.Fatal(err)
			}
			if got := waits(org); got != c.waits || !waits(other) {
				t.Errorf("after %s ended as %s it waits: %t, want %t; the other's %t", c.kind, c.state, got, c.waits, waits(other))
			}
		}
	})
}
