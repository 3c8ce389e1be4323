package store_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/backup"
	"holdfast/store/storetest"
)

func TestReplicasAreCopiedByOneProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		ctx := t.Context()
		const place, life = "s3://copy/", 2 * time.Minute
		if _, err := st.Replica(ctx, place); !errors.Is(err, backup.ErrNotFound) {
			t.Errorf("Replica = %v, want ErrNotFound", err)
		}
		began := time.Now()
		if err := st.StartReplica(ctx, place, life); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if err := st.BeatReplica(ctx, backup.Replica{Place: place, Objects: 10, There: 4, Copied: 3, Bytes: 300}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(90 * time.Second)
		if err := st.StartReplica(ctx, place, life); !errors.Is(err, backup.ErrConflict) {
			t.Errorf("the second one starts: %v, want ErrConflict", err)
		}
		r, err := st.Replica(ctx, place)
		if err != nil || !r.Running || r.Objects != 10 || r.There != 4 || !r.OKAt.IsZero() {
			t.Errorf("Replica = %+v, %v; want it running with 4 of 10", r, err)
		}
		if err := st.FinishReplica(ctx, backup.Replica{Place: place, Objects: 10, There: 10, Copied: 9, Bytes: 900, Damaged: 1}); err != nil {
			t.Fatal(err)
		}
		r, err = st.Replica(ctx, place)
		if err != nil || r.Running || r.Damaged != 1 || !r.OKAt.Equal(began) {
			t.Errorf("Replica = %+v, %v; want it done as of its start", r, err)
		}
		// One that failed leaves the time of the last good one.
		if err := st.StartReplica(ctx, place, life); err != nil {
			t.Fatal(err)
		}
		if err := st.FinishReplica(ctx, backup.Replica{Place: place, Problem: backup.Problem{Kind: backup.ProblemRepository, Text: "No.", At: time.Now()}}); err != nil {
			t.Fatal(err)
		}
		if r, err = st.Replica(ctx, place); err != nil || r.Problem.Text != "No." || !r.OKAt.Equal(began) {
			t.Errorf("Replica = %+v, %v; want its problem, and the last good one", r, err)
		}
		// One whose process died is taken over.
		if err := st.StartReplica(ctx, place, life); err != nil {
			t.Fatal(err)
		}
		time.Sleep(life + time.Second)
		if err := st.StartReplica(ctx, place, life); err != nil {
			t.Errorf("taking over from a dead process: %v", err)
		}
	})
}
