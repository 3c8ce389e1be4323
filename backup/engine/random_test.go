package engine_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"holdfast/backup"
)

// random is the same sequence in every run of a test.
func random(t testing.TB) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(1, 2))
}

func folderImage(f backup.Folder) string {
	return fmt.Sprintf("%q in %q, %d items", f.Name, f.ParentID, f.Items)
}
