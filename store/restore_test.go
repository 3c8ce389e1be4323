package store_test

import (
	"errors"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/store"
	"holdfast/store/storetest"
)

// restorable is Contoso with two mailboxes, the first of which has a snapshot.
func restorable(t *testing.T, st *store.Store) (storetest.World, backup.Connection, backup.Restore) {
	t.Helper()
	w := storetest.Fill(t, st)
	conn, boxes := storetest.Connect(t, st, w.Ada, "tenant-1", storetest.Account("a"), storetest.Account("b"))
	if err := st.ApplyCommit(t.Context(), w.Contoso.ID, boxes["a"].ID, engine.Delta{Seq: 1, At: time.Now(), NextNumber: 1}); err != nil {
		t.Fatal(err)
	}
	return w, conn, backup.Restore{OrgID: w.Contoso.ID, MailboxID: boxes["a"].ID, Snapshot: 1, Scope: backup.RestoreFolder, FolderID: "F", What: "Inbox",
		TargetID: boxes["b"].ID, Place: backup.PlaceFolder, FolderName: " Restored ", State: backup.RestoreWaiting, ItemsTotal: 7}
}

func TestARestoreFromItsStartToItsEnd(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx := t.Context()
		w, conn, want := restorable(t, st)
		org := w.Contoso.ID
		r, err := st.StartRestore(ctx, want, w.Ada)
		if err != nil {
			t.Fatal(err)
		}
		got, err := st.Restore(ctx, org, r.ID)
		if err != nil || got.FolderName != "Restored" || got.FromAddress != "a@contoso.example" || got.ToAddress != "b@contoso.example" || got.StartedName != "Ada Lovelace" || got.SnapshotAt.IsZero() || got.ItemsTotal != 7 {
			t.Errorf("restore = %+v, %v", got, err)
		}
		if _, err := st.BeginRestore(ctx, org, r.ID); !isNotFound(err) {
			t.Errorf("a restore without permission began: %v", err)
		}
		auth, err := st.StartAuthorization(ctx, backup.Authorization{OrgID: org, ConnectionID: conn.ID, Provider: backup.ProviderMicrosoft365, Method: conn.Method,
			Purpose: backup.PurposeRestore, Step: backup.StepCreateApplications, Workloads: []backup.Workload{backup.WorkloadRestore}, SetupToken: backup.Secret("t")}, w.Ada)
		if err != nil {
			t.Fatal(err)
		}
		grant := backup.RestoreGrant{OrgID: org, ConnectionID: conn.ID, AdminUPN: "admin@contoso.example", GrantedAt: time.Now().UTC().Truncate(time.Second),
			EndsAt: time.Now().UTC().Add(time.Hour).Truncate(time.Second), Token: backup.Secret("token"), RefreshToken: backup.Secret("refresh"), TokenExpiresAt: time.Now()}
		if err := st.GrantRestore(ctx, &auth, grant); err != nil {
			t.Fatal(err)
		}
		if held, err := st.RestoreGrant(ctx, org, conn.ID); err != nil || held.Token.Reveal() != "token" || held.RefreshToken.Reveal() != "refresh" || !held.EndsAt.Equal(grant.EndsAt) {
			t.Errorf("grant = %+v, %v", held, err)
		}
		if due, err := st.DueRestores(ctx, time.Now()); err != nil || len(due) != 1 || due[0].State != backup.RestoreQueued {
			t.Errorf("due = %+v, %v, want the restore that waited", due, err)
		}
		if again, err := st.Connection(ctx, org, conn.ID); err != nil || len(again.Workloads) != 1 {
			t.Errorf("connection = %+v, %v, want no workload more", again, err)
		}
		r, err = st.BeginRestore(ctx, org, r.ID)
		if err != nil || r.State != backup.RestoreRunning || r.StartedAt.IsZero() {
			t.Fatalf("begun = %+v, %v", r, err)
		}
		for _, n := range []backup.RestoreNote{{ItemID: "I1", Subject: "S\x00", Reason: "no"}, {ItemID: "I2", Altered: true, Reason: "other"}, {ItemID: "I1", Subject: "S", Reason: "still no"}} {
			if err := st.AddRestoreNote(ctx, org, r.ID, n); err != nil {
				t.Fatal(err)
			}
		}
		notes, err := st.RestoreNotes(ctx, org, r.ID, 0)
		if err != nil || len(notes) != 2 || notes[0].Reason != "still no" || !notes[1].Altered {
			t.Errorf("notes = %+v, %v", notes, err)
		}
		if cancel, err := st.BeatRestore(ctx, r); err != nil || cancel {
			t.Errorf("beat = %v, %v", cancel, err)
		}
		if err := st.CancelRestore(ctx, org, r.ID, w.Ada); err != nil {
			t.Fatal(err)
		}
		r.ItemsDone, r.Restored = 3, 2
		if cancel, err := st.BeatRestore(ctx, r); err != nil || !cancel {
			t.Errorf("beat after a cancel = %v, %v, want to end", cancel, err)
		}
		r.State, r.Failed = backup.RestoreCancelled, 1
		if err := st.FinishRestore(ctx, r, backup.ReturnRestoreJob{OrgID: org, ConnectionID: conn.ID}); err != nil {
			t.Fatal(err)
		}
		if err := st.FinishRestore(ctx, r); !isNotFound(err) {
			t.Errorf("finishing twice = %v, want not found", err)
		}
		if open, err := st.OpenRestores(ctx, org, conn.ID); err != nil || len(open) != 0 {
			t.Errorf("open = %+v, %v", open, err)
		}
		if err := st.ReturnRestoreGrant(ctx, grant); err != nil {
			t.Fatal(err)
		}
		if _, err := st.RestoreGrant(ctx, org, conn.ID); !isNotFound(err) {
			t.Errorf("grant after it was given back: %v", err)
		}
		kinds := map[string]int{}
		log, _, err := st.Activity(ctx, w.Owner.Partner.ID, org, store.ActivityQuery{Page: 1, Size: 100})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range log {
			kinds[e.Kind]++
		}
		for _, kind := range []string{"restore.start", "restore.permission_given", "restore.cancel", "restore.end", "restore.permission_returned"} {
			if kinds[kind] != 1 {
				t.Errorf("the activity log has %d of %s, want one", kinds[kind], kind)
			}
		}
		if err := st.RetryRestore(ctx, org, r.ID, backup.RestoreQueued, w.Ada); err != nil {
			t.Fatal(err)
		}
		if r, err = st.BeginRestore(ctx, org, r.ID); err != nil || r.CancelAsked {
			t.Errorf("begun again = %+v, %v", r, err)
		}
		if notes, err := st.RestoreNotes(ctx, org, r.ID, 0); err != nil || len(notes) != 1 || !notes[0].Altered {
			t.Errorf("notes of the next try = %+v, %v, want only what was altered", notes, err)
		}
		r.NextTryAt = time.Now().Add(time.Hour)
		if err := st.PauseRestore(ctx, r); err != nil {
			t.Fatal(err)
		}
		if due, err := st.DueRestores(ctx, time.Now()); err != nil || len(due) != 0 {
			t.Errorf("due while it is paused = %+v, %v", due, err)
		}
		if due, err := st.DueRestores(ctx, r.NextTryAt.Add(time.Second)); err != nil || len(due) != 1 {
			t.Errorf("due after the pause = %+v, %v", due, err)
		}
	})
}

func TestStartRestoreRefusesWhatIsNotThere(t *testing.T) {
	st := storetest.Open(t)
	w, _, r := restorable(t, st)
	_, theirs := storetest.Connect(t, st, w.Otto, "tenant-2", storetest.Account("c"))
	for name, change := range map[string]func(*backup.Restore){
		"another organization's target": func(r *backup.Restore) { r.TargetID = theirs["c"].ID },
		"another organization's source": func(r *backup.Restore) { r.MailboxID = theirs["c"].ID },
		"no such snapshot":              func(r *backup.Restore) { r.Snapshot = 9 },
	} {
		bad := r
		change(&bad)
		if _, err := st.StartRestore(t.Context(), bad, w.Ada); !isNotFound(err) {
			t.Errorf("%s = %v, want not found", name, err)
		}
	}
	r.FolderName = "a/b"
	if _, err := st.StartRestore(t.Context(), r, w.Ada); !errors.As(err, new(backup.FieldErrors)) {
		t.Errorf("a folder name with a slash = %v, want FieldErrors", err)
	}
	if list, err := st.Restores(t.Context(), w.Contoso.ID, 10); err != nil || len(list) != 0 {
		t.Errorf("restores = %+v, %v, want none", list, err)
	}
}

func TestCancellingBeforeItRuns(t *testing.T) {
	st := storetest.Open(t)
	w, _, r := restorable(t, st)
	r, err := st.StartRestore(t.Context(), r, w.Ada)
	if err != nil {
		t.Fatal(err)
	}
	if old, err := st.RestoresWaitingSince(t.Context(), time.Now().Add(time.Minute)); err != nil || len(old) != 1 {
		t.Errorf("waiting = %+v, %v", old, err)
	}
	if err := st.CancelRestore(t.Context(), r.OrgID, r.ID, w.Ada); err != nil {
		t.Fatal(err)
	}
	if got, err := st.Restore(t.Context(), r.OrgID, r.ID); err != nil || got.State != backup.RestoreCancelled || got.EndedAt.IsZero() {
		t.Errorf("restore = %+v, %v", got, err)
	}
	if err := st.CancelRestore(t.Context(), r.OrgID, r.ID, w.Ada); !isNotFound(err) {
		t.Errorf("cancelling twice = %v, want not found", err)
	}
}
