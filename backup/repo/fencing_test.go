package repo_test

import (
	"testing"
	"testing/synctest"

	"holdfast/backup/repo"
	"holdfast/backup/repo/storagetest"
)

// TestCollectorThatSleptIsFenced: the right to delete is a number of the
// deletion log, which one collector gets and which holds for the packs that
// stand in its entry only; no lease that could end is needed.
func TestCollectorThatSleptIsFenced(t *testing.T) {
	for _, alone := range []bool{false, true} {
		slept := true
		for at := 1; slept; at++ {
			synctest.Test(t, func(t *testing.T) { slept = storagetest.Fencing(t, repo.NewMemory(), at, alone) })
			if !slept && at < 5 {
				t.Errorf("the collector has only %d operations", at-1)
			}
		}
	}
}
