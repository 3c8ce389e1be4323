package main

import (
	"bytes"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/backup"
	"holdfast/store"
)

// TestAuditVerify checks the logs of organizations and the partner's own, and
// goes on after one that was changed.
func TestAuditVerify(t *testing.T) {
	dir := t.TempDir()
	key := []byte(strings.Repeat("k", 32))
	if err := os.WriteFile(filepath.Join(dir, "root.key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "holdfast.db")
	st, err := store.Open(t.Context(), store.Config{URL: file, RootKey: key})
	if err != nil {
		t.Fatal(err)
	}
	owner, err := st.SetUpPartner(t.Context(), "Northwind", backup.Person{Name: "Dana Ruiz", Email: "dana@northwind.example"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Contoso", "Fabrikam"} {
		if _, err := st.CreateOrganization(t.Context(), backup.Organization{PartnerID: owner.Partner.ID, Name: name}, owner); err != nil {
			t.Fatal(err)
		}
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	verify := func() (string, error) {
		var out, log bytes.Buffer
		err := run(t.Context(), []string{"audit", "verify", "-data", dir}, func(string) string { return "" }, &out, &log)
		return out.String(), err
	}
	if out, err := verify(); err != nil || strings.Count(out, "unbroken") != 3 || !strings.Contains(out, "Northwind (Partner Portal): 1 entries") {
		t.Fatalf("audit verify = %v:\n%s", err, out)
	}
	raw, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := raw.ExecContext(t.Context(), `UPDATE activity SET person = 'Somebody else' WHERE subject = 'Contoso'`); err != nil {
		t.Fatal(err)
	}
	out, err := verify()
	if err == nil || !strings.Contains(err.Error(), "1 of 3") || !strings.Contains(out, "Contoso: BROKEN: entry 1 (organization.create") || strings.Count(out, "unbroken") != 2 {
		t.Errorf("audit verify after a change = %v:\n%s", err, out)
	}
}
