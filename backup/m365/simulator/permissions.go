package simulator

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

//go:embed testdata/microsoft/graph-permissions-subset.json
var permissionTable []byte

//go:embed testdata/microsoft/permissions.json
var permissionList []byte

// permit says which permissions allow a call; any one of them does.
type permit struct {
	Application   []string          `json:"application"`
	Delegated     []string          `json:"delegated"`
	AppLeast      []string          `json:"applicationLeast"`
	DelLeast      []string          `json:"delegatedLeast"`
	AppAlso       map[string]string `json:"applicationAlsoRequires"` // permission: comma separated, one of which is needed beside it
	DelegatedAlso map[string]string `json:"delegatedAlsoRequires"`
}

// needs is the permit of a call that Microsoft's table does not list.
func needs(application, delegated string) permit {
	return permit{Application: strings.Fields(application), Delegated: strings.Fields(delegated)}
}

// loadPermits reads Microsoft's permission table
// (microsoft-graph-devx-content, see testdata/microsoft/README.md).
func loadPermits() (map[string]permit, error) {
	var table struct {
		Operations []struct {
			Method, Path string
			permit
		}
	}
	if err := json.Unmarshal(permissionTable, &table); err != nil {
		return nil, fmt.Errorf("permission table: %w", err)
	}
	permits := make(map[string]permit, len(table.Operations))
	for _, op := range table.Operations {
		permits[routeKey(op.Method, op.Path)] = op.permit
	}
	return permits, nil
}

// allows returns the permission of the caller that allows the call, the least
// privileged first, or "".
func (p permit) allows(c *caller) string {
	have, list, least, also := c.Roles, p.Application, p.AppLeast, p.AppAlso
	if c.User != nil {
		have, list, least, also = c.Scopes, p.Delegated, p.DelLeast, p.DelegatedAlso
	}
	for _, name := range append(slices.Clone(least), list...) {
		if slices.Contains(have, name) && alsoHas(have, also[name]) {
			return name
		}
	}
	return ""
}

func alsoHas(have []string, wanted string) bool {
	if wanted == "" {
		return true
	}
	return slices.ContainsFunc(strings.Split(wanted, ","), func(name string) bool {
		// "Directory.Read.All" is contained in "Directory.ReadWrite.All".
		wide := strings.Replace(name, ".Read.", ".ReadWrite.", 1)
		return slices.Contains(have, name) || slices.Contains(have, wide)
	})
}

// scopeOf is one permission of Microsoft's, from testdata/microsoft/permissions.json.
type scopeOf struct {
	Name        string `json:"name"`
	Type        string `json:"type"` // delegated or application
	ID          string `json:"id"`
	Resource    string `json:"resourceAppId"`
	DisplayName string `json:"displayName"`
	Description string `json:"description"`
}

// loadScopes reads the permissions that resource principals expose.
func loadScopes() ([]scopeOf, error) {
	var list []scopeOf
	if err := json.Unmarshal(permissionList, &list); err != nil {
		return nil, fmt.Errorf("list of permissions: %w", err)
	}
	return list, nil
}
