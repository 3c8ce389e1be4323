package simulator_test

import (
	"net/url"
	"testing"
)

const administrators = "openid profile https://graph.microsoft.com/User.ReadWrite.All https://graph.microsoft.com/RoleManagement.ReadWrite.Directory"

func account(upn, password string) map[string]any {
	return map[string]any{"accountEnabled": true, "displayName": "New", "mailNickname": "new", "userPrincipalName": upn, "department": "d",
		"passwordProfile": map[string]any{"password": password, "forceChangePasswordNextSignIn": false}}
}

func TestAccountsAreMadeStrictly(t *testing.T) {
	w := newWorld(t)
	w.conforming()
	token := w.scopedToken(admin, administrators)
	const good = "Good-enough-26"
	for name, body := range map[string]map[string]any{
		"no password":       {"accountEnabled": true, "displayName": "x", "mailNickname": "x", "userPrincipalName": "x@" + contoso},
		"nothing but name":  {"userPrincipalName": "x@" + contoso},
		"foreign domain":    account("x@other.example", good),
		"no domain":         account("x", good),
		"weak password":     account("x@"+contoso, "weakpassword"),
		"short password":    account("x@"+contoso, "Ab-1"),
		"name of an other":  account(admin, good),
		"name in capitals":  account("ADMIN@"+contoso, good),
		"letters of others": account("jürgen@"+contoso, good),
	} {
		if r := w.post("/users", token, body); r.Status != 400 || r.code(t) != "Request_BadRequest" {
			t.Errorf("%s = %d %.200s", name, r.Status, r.Body)
		}
	}
	made := w.want(w.post("/users", token, account("new@"+contoso, good)), 201, "POST /users").json(t)
	if got := w.want(w.get("/users/new@"+contoso+"?$select=id,department", token), 200, "GET").json(t); got["id"] != made["id"] || got["department"] != "d" {
		t.Errorf("read back %v", got)
	}
	if back := w.signIn(authorizeURL(url.Values{"scope": {"openid profile"}}), "new@"+contoso, good); back.Get("code") == "" {
		t.Errorf("the new account cannot sign in: %v", back)
	}
}

func TestRolesAreGivenAndTaken(t *testing.T) {
	w := newWorld(t)
	w.conforming()
	token := w.scopedToken(admin, administrators)
	id := w.want(w.post("/users", token, account("new@"+contoso, "Good-enough-26")), 201, "POST /users").json(t)["id"].(string)
	const path = "/roleManagement/directory/roleAssignments"
	role := map[string]any{"principalId": id, "roleDefinitionId": "62e90394-69f5-4237-9190-012177145e10", "directoryScopeId": "/"}
	for name, body := range map[string]map[string]any{
		"an unknown role":   {"principalId": id, "roleDefinitionId": "00000000-0000-0000-0000-000000000001", "directoryScopeId": "/"},
		"an unknown person": {"principalId": "00000000-0000-0000-0000-000000000001", "roleDefinitionId": role["roleDefinitionId"], "directoryScopeId": "/"},
	} {
		w.want(w.post(path, token, body), 404, name)
	}
	w.want(w.post(path, token, map[string]any{"principalId": id, "roleDefinitionId": role["roleDefinitionId"]}), 400, "no scope")
	given := w.want(w.post(path, token, role), 201, "POST").json(t)
	w.want(w.post(path, token, role), 400, "again")
	w.want(w.do("DELETE", graphURL+"/users/"+id, token, nil), 403, "deleting an administrator")

	list := w.want(w.get(path+"?$filter="+url.QueryEscape("principalId eq '"+id+"'"), token), 200, "list").json(t)["value"].([]any)
	if len(list) != 1 || list[0].(map[string]any)["id"] != given["id"] {
		t.Errorf("assignments: %v", list)
	}
	w.want(w.do("DELETE", graphURL+path+"/"+given["id"].(string), token, nil), 204, "DELETE of the role")
	w.want(w.do("DELETE", graphURL+path+"/"+given["id"].(string), token, nil), 404, "again")
	w.want(w.do("DELETE", graphURL+"/users/"+id, token, nil), 204, "DELETE of the account")
	w.want(w.get("/users/"+id, token), 404, "the deleted account")
	w.want(w.get("/directory/deletedItems/"+id, token), 200, "among the deleted")
}

func TestAccountsAndRolesNeedPermissionAndRole(t *testing.T) {
	w := newWorld(t)
	w.conforming()
	apps := w.adminToken(admin) // may make applications, not accounts
	w.want(w.post("/users", apps, account("new@"+contoso, "Good-enough-26")), 403, "without the scope")
	w.want(w.get("/roleManagement/directory/roleAssignments", apps), 403, "roles without the scope")

	w.want(w.control("PATCH", "/tenants/"+contoso+"/users/priya@"+contoso, map[string]any{"roles": []string{"Cloud Application Administrator"}}), 200, "role for Priya")
	token := w.scopedToken("priya@"+contoso, administrators)
	w.want(w.post("/users", token, account("new@"+contoso, "Good-enough-26")), 403, "without the role")
	role := map[string]any{"principalId": "x", "roleDefinitionId": "62e90394-69f5-4237-9190-012177145e10", "directoryScopeId": "/"}
	w.want(w.post("/roleManagement/directory/roleAssignments", token, role), 403, "role without the role")
	w.want(w.do("DELETE", graphURL+"/users/megan.o'neil@"+contoso, token, nil), 403, "deletion without the role")
}
