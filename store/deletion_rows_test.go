package store

import (
	"strings"
	"testing"
)

// TestEveryTableIsForgotten holds the list of what a deletion removes against the
// schema: a table that is added later, and has rows of organizations, is there.
func TestEveryTableIsForgotten(t *testing.T) {
	s := openCatalog(t)
	tables, err := collect(t.Context(), s.read, scanValue[string], `SELECT m.name FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' AND c.name = 'org_id' ORDER BY m.name`)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(organizationRows, "; ")
	for _, table := range tables {
		if table != "deletions" && table != "memberships" && !strings.Contains(all, "DELETE FROM "+table+" WHERE ") {
			t.Errorf("rows of %s stay when an organization is deleted", table)
		}
	}
	if len(tables) < 25 {
		t.Errorf("%d tables have rows of organizations, want more", len(tables))
	}
}
