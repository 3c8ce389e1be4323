package handlers_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// rolesPage is docs/roles.md as it follows from the table of routes.
func (p *portal) rolesPage() string {
	var b strings.Builder
	b.WriteString(`# Who may do what

Made from the table of routes in ` + "`handlers/routes.go`" + `, which decides for every request; a test keeps both the same
(` + "`HOLDFAST_UPDATE=1 go test ./handlers -run TestRolesAreDocumented`" + ` writes it anew).

| | everybody | partner owner | partner support | admin | viewer |
|---|---|---|---|---|---|
`)
	columns := map[string][5]bool{
		"public": {true, true, true, true, true}, "person": {false, true, true, true, true}, "partner": {false, true, true, false, false},
		"owner": {false, true, false, false, false}, "viewer": {false, false, false, true, true}, "admin": {false, false, false, true, false},
	}
	for _, r := range p.server.Routes() {
		fmt.Fprintf(&b, "| `%s %s` |", r.Method, r.Path)
		for _, may := range columns[r.Who] {
			if may {
				b.WriteString(" yes |")
			} else {
				b.WriteString(" |")
			}
		}
		b.WriteString("\n")
	}
	b.WriteString(`
The partner's people reach an organization's pages while they act for it, with the rights of its admins, for at most
60 minutes and on record. Nobody reaches another organization's rows. API tokens have scopes of their own: see
` + "`/api/v1/openapi.yaml`" + `.
`)
	return b.String()
}

func TestRolesAreDocumented(t *testing.T) {
	const file = "../docs/roles.md"
	want := newPortal(t).rolesPage()
	if os.Getenv("HOLDFAST_UPDATE") != "" {
		if err := os.WriteFile(file, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil || string(got) != want {
		t.Errorf("docs/roles.md is not what the table of routes says (%v): run HOLDFAST_UPDATE=1 go test ./handlers -run TestRolesAreDocumented", err)
	}
}
