package store

import (
	"database/sql"
	"path/filepath"
	"testing"
)

// TestKeysAreOnTheDiskBeforeTheyAreUsed looks at how far SQLite waits for the
// disk: all the way for a key of the repository, and not afterwards.
func TestKeysAreOnTheDiskBeforeTheyAreUsed(t *testing.T) {
	st, err := Open(t.Context(), Config{URL: filepath.Join(t.TempDir(), "holdfast.db"), RootKey: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	const normal, full = 1, 2 // https://sqlite.org/pragma.html#pragma_synchronous
	level := func(q querier) (n int) {
		if n, err = one(t.Context(), q, scanValue[int], `PRAGMA synchronous`); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := level(st.db); n != normal {
		t.Errorf("synchronous = %d at first, want %d", n, normal)
	}
	if err := st.durably(t.Context(), func(tx *sql.Tx) error {
		if n := level(tx); n != full {
			t.Errorf("synchronous = %d for a key, want %d", n, full)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if n := level(st.db); n != normal {
		t.Errorf("synchronous = %d afterwards, want %d", n, normal)
	}
}
