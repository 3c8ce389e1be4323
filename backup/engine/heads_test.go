package engine_test

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"

	"holdfast/backup"
	"holdfast/backup/repo"
	"holdfast/store"
	"holdfast/store/storetest"
)

// TestTheEndOfTheRepositoryIsMissed deletes the newest snapshots, or the newest
// entries of the deletion log, which nothing in the storage tells: the database
// knows them, and a repair writes them anew.
func TestTheEndOfTheRepositoryIsMissed(t *testing.T) {
	for name, lose := range map[string]struct {
		folder string
		last   int
	}{"commit": {"c", 1}, "two commits": {"c", 2}, "entry of the log": {"g", 1}, "the log": {"g", 2}, "commit and log": {"", 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, _, storage := mendBench(t)
			if err := b.Expire(t.Context(), org, mailbox, []int64{3}); err != nil {
				t.Fatal(err)
			}
			before := map[int64]map[string]string{}
			for _, seq := range must[[]int64](t)(b.store.SnapshotNumbers(t.Context(), org, mailbox)) {
				before[seq] = b.image(seq)
			}
			var gone []string
			for _, folder := range []string{"c", "g"} {
				if lose.folder == folder || lose.folder == "" {
					keys := keysBelow(t, storage, "t/"+string(org)+"/"+folder+"/")
					gone = append(gone, keys[len(keys)-lose.last:]...)
				}
			}
			for _, key := range gone {
				if err := storage.Delete(t.Context(), key); err != nil {
					t.Fatal(err)
				}
			}
			b = openBench(t, b.store, storage)
			b.misses(t, gone)
			if _, err := b.Collect(t.Context(), org); err == nil {
				t.Error("Collect went on without what is missing")
			}
			if lose.folder != "c" {
				if err := b.Expire(t.Context(), org, mailbox, []int64{1}); err == nil {
					t.Error("Expire wrote over the entry of the log that is missing")
				}
			}
			b.mend()
			again := openBench(t, b.store, storage)
			report, err := again.Verify(t.Context(), org, true)
			if err != nil || len(report.Damaged) > 0 {
				t.Errorf("after the repair Verify says %q, %v", report.Damaged, err)
			}
			if lost, err := again.AcceptLoss(t.Context(), org); err != nil || len(lost) > 0 {
				t.Errorf("the repair left %v, %v", lost, err)
			}
			if err := again.Rebuild(t.Context(), org); err != nil {
				t.Fatal(err)
			}
			for seq, want := range before {
				if got := again.image(seq); !maps.Equal(got, want) {
					t.Errorf("snapshot %d is not what it was", seq)
				}
			}
			if seqs := must[[]int64](t)(b.store.SnapshotNumbers(t.Context(), org, mailbox)); len(seqs) != len(before) {
				t.Errorf("there are snapshots %v, want %v", seqs, slices.Sorted(maps.Keys(before)))
			}
			if _, err := again.Collect(t.Context(), org); err != nil {
				t.Errorf("Collect = %v", err)
			}
		})
	}
}

// misses checks that both kinds of check name the newest object of each kind.
func (b *bench) misses(t *testing.T, gone []string) {
	t.Helper()
	quick, err := b.Verify(t.Context(), org, false)
	if err != nil {
		t.Fatal(err)
	}
	daily, err := b.Check(t.Context(), org, repo.Watch{Level: func(repo.Pack) repo.VerifyLevel { return repo.VerifyLengths },
		Checked: func(string, repo.Pack, repo.VerifyLevel, error) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	want := gone[len(gone)-1]
	if strings.Contains(want, "/g/") {
		want = gone[slices.IndexFunc(gone, func(key string) bool { return strings.Contains(key, "/g/") })]
	}
	for _, report := range [][]string{quick.Damaged, daily.Damaged} {
		if !slices.ContainsFunc(report, func(line string) bool { return strings.HasPrefix(line, want+": ") && strings.Contains(line, "missing") }) {
			t.Errorf("the check says %q, want %s missed", report, want)
		}
	}
}

// TestTheEndIsMissedAfterTheDatabaseIsLost deletes the newest snapshot and the
// newest entry of the log together with the database: the kit that was written
// before knows them. What nobody can write anew is accepted once.
func TestTheEndIsMissedAfterTheDatabaseIsLost(t *testing.T) {
	b, p, storage := mendBench(t)
	var kit bytes.Buffer
	if _, err := b.store.WriteKit(t.Context(), &kit); err != nil {
		t.Fatal(err)
	}
	commits, log := keysBelow(t, storage, "t/"+string(org)+"/c/"), keysBelow(t, storage, "t/"+string(org)+"/g/")
	gone := []string{commits[len(commits)-1], log[len(log)-1]}
	for _, key := range gone {
		if err := storage.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	st := storetest.Open(t)
	if _, err := st.ReadKit(t.Context(), make([]byte, 32), &kit); err != nil {
		t.Fatal(err)
	}
	again := openBench(t, st, storage)
	if err := again.Rebuild(t.Context(), org); err == nil {
		t.Error("the rebuild says nothing of the log")
	}
	again.misses(t, gone[:1])
	again.misses(t, gone[1:])
	again.mend() // the log
	again = openBench(t, st, storage)
	again.misses(t, gone[:1])
	if _, err := again.Collect(t.Context(), org); err == nil {
		t.Error("Collect went on without what is missing")
	}
	lost, err := again.AcceptLoss(t.Context(), org)
	if err != nil || len(lost) != 1 || lost[0].Seq != 4 || lost[0].Last != 3 || lost[0].Mailbox != mailbox {
		t.Errorf("AcceptLoss = %+v, %v; want snapshot 4", lost, err)
	}
	report, err := again.Verify(t.Context(), org, true)
	if err != nil || len(report.Damaged) > 0 {
		t.Errorf("after it was accepted Verify says %q, %v", report.Damaged, err)
	}
	again.run(p)
	if _, err := again.Collect(t.Context(), org); err != nil {
		t.Errorf("Collect = %v", err)
	}
}

// TestHeadsAreEachOrganizationsOwn looks at them from another one.
func TestHeadsAreEachOrganizationsOwn(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx := t.Context()
		b, p := openBench(t, st, repo.NewMemory()), newProvider()
		p.add("inbox", "hello", []byte("Subject: hello\r\n\r\n"))
		b.run(p)
		for _, seq := range []int64{3, 2} {
			if err := st.SawLog(ctx, string(org), seq); err != nil {
				t.Fatal(err)
			}
		}
		if err := st.ClearCatalog(ctx, org); err != nil {
			t.Fatal(err)
		}
		if seq, err := st.LogSeen(ctx, string(org)); err != nil || seq != 3 {
			t.Errorf("LogSeen = %d, %v; want the newest", seq, err)
		}
		if err := st.SetHead(ctx, "ORG2", mailbox, 0); err != nil {
			t.Fatal(err)
		}
		if heads, err := st.KnownHeads(ctx, org); err != nil || len(heads) != 1 || heads[0].Mailbox != mailbox || heads[0].Seq != 1 {
			t.Errorf("KnownHeads of a cleared catalog = %v, %v", heads, err)
		}
		if err := st.EraseMailbox(ctx, org, mailbox); err != nil {
			t.Fatal(err)
		}
		if heads, err := st.KnownHeads(ctx, org); err != nil || len(heads) > 0 {
			t.Errorf("KnownHeads of an erased mailbox = %v, %v", heads, err)
		}
		for _, other := range []backup.OrgID{"ORG2", ""} {
			if heads, err := st.KnownHeads(ctx, other); err != nil || len(heads) > 0 {
				t.Errorf("KnownHeads of %q = %v, %v; want none", other, heads, err)
			}
			if seq, err := st.LogSeen(ctx, string(other)); err != nil || seq != 0 {
				t.Errorf("LogSeen of %q = %d, %v; want none", other, seq, err)
			}
		}
	})
}
