package m365_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/m365"
	"holdfast/backup/m365/simulator"
)

const contosoTenant = "3c8a5d9e-2b74-4f61-8e0d-6a9b4c7f1e02"

// keeper is a connection's backup administrator as the store keeps it.
type keeper struct {
	admin backup.Administrator
	saves int
	fail  int // the save of this number fails, counted from 1; 0 none
}

func (k *keeper) save(a backup.Administrator) error {
	if k.saves++; k.saves == k.fail {
		return errDisk
	}
	k.admin = a
	return nil
}

func legacyConnection() backup.Connection {
	return backup.Connection{ID: "c", TenantID: contosoTenant, TenantDomain: "contosodental.onmicrosoft.com", Method: backup.MethodBackupAdministrator}
}

// administrator is one job: what it did not save is lost.
func (w *world) administrator(ctx context.Context, g m365.Grant, k *keeper) error {
	admin := k.admin
	return w.client.EnsureAdministrator(ctx, g.AccessToken, legacyConnection(), &admin, k.save)
}

// tenantUser is an account as the control path shows it.
type tenantUser struct {
	UPN   string `json:"userPrincipalName"`
	Roles []string
	Gone  *string `json:"deletedDateTime"`
}

// users lists the accounts of Contoso that are not deleted.
func (w *world) users() (living []tenantUser) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, "https://graph.microsoft.com/_simulator/tenants/contosodental.onmicrosoft.com/users", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	res, err := w.sim.Transport().RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	var all []tenantUser
	if err := json.NewDecoder(res.Body).Decode(&all); err != nil {
		w.t.Fatal(err)
	}
	for _, u := range all {
		if u.Gone == nil {
			living = append(living, u)
		}
	}
	return living
}

// backupAdmins names the accounts of the tenant with a name like backupadmin, with their roles.
func (w *world) backupAdmins() (names []string) {
	w.t.Helper()
	for _, u := range w.users() {
		if strings.HasPrefix(u.UPN, "backupadmin") {
			names = append(names, u.UPN+" "+strings.Join(u.Roles, ","))
		}
	}
	return names
}

func TestEnsureAdministratorMakesAccountRoleAndGrants(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		w := newWorld(t, nil)
		g := w.signIn("", "admin@contosodental.onmicrosoft.com", backup.SignInAdministrator)
		k := &keeper{}
		if err := w.administrator(t.Context(), g, k); err != nil {
			t.Fatal(err)
		}
		if k.admin.UPN != "backupadmin@contosodental.onmicrosoft.com" || k.admin.ID == "" || len(k.admin.Password) < 20 {
			t.Errorf("administrator: %+v", k.admin)
		}
		if got := w.backupAdmins(); len(got) != 1 || got[0] != k.admin.UPN+" Global Administrator" {
			t.Errorf("in the tenant: %v", got)
		}
		accounts, _, err := w.client.MainApp(contosoTenant).Accounts(t.Context())
		if err != nil || len(accounts) < 10 {
			t.Errorf("the main application lists %d accounts: %v", len(accounts), err)
		}
		if err := w.administrator(t.Context(), g, k); err != nil {
			t.Errorf("once more: %v", err)
		}
		if n := w.calls("POST", "/users", 201); n != 1 {
			t.Errorf("%d accounts made", n)
		}
	})
}

func TestEnsureAdministratorSurvivesCrashesAndLostAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		fail  int
		fault simulator.Fault
	}{
		"before the account": {fail: 1}, "after the account": {fail: 2},
		"answer of the account": {fault: simulator.Fault{Name: "answer_lost", Path: "^/v1.0/users$", Times: 1}},
		"answer of the role":    {fault: simulator.Fault{Name: "answer_lost", Path: "roleAssignments$", Times: 1}},
		"answer of a grant":     {fault: simulator.Fault{Name: "answer_lost", Path: "appRoleAssignedTo$", Times: 1}},
		"role too early":        {fault: simulator.Fault{Name: "role_principal_missing", Times: 3}},
	} {
		inBubble(t, name, func(t *testing.T) {
			w := newWorld(t, nil)
			g := w.signIn("", "admin@contosodental.onmicrosoft.com", backup.SignInAdministrator)
			k := &keeper{fail: test.fail}
			if test.fault.Name != "" {
				w.fault(test.fault)
			}
			err := w.administrator(t.Context(), g, k)
			if test.fail > 0 && !errors.Is(err, errDisk) {
				t.Fatalf("save %d: %v", test.fail, err)
			}
			for try := 0; err != nil && try < 3; try++ {
				if p := backup.AsProblem(err); test.fail == 0 && !p.Temporary {
					t.Fatalf("for good: %v", err)
				}
				err = w.administrator(t.Context(), g, k)
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := w.backupAdmins(); len(got) != 1 || !strings.HasPrefix(got[0], k.admin.UPN) {
				t.Errorf("in the tenant: %v, in the row %s", got, k.admin.UPN)
			}
		})
	}
}

func TestEnsureAdministratorRefusals(t *testing.T) {
	for name, test := range map[string]struct {
		upn   string
		fault simulator.Fault
		kind  backup.ProblemKind
		says  string
	}{
		"no administrator":   {upn: "app.admin@contosodental.onmicrosoft.com", kind: backup.ProblemNotAdministrator, says: "Global Administrator"},
		"password rules":     {fault: simulator.Fault{Name: "user_password_refused"}, kind: backup.ProblemPolicy, says: "banned passwords"},
		"sign-in has ended":  {fault: simulator.Fault{Path: "^/v1.0/users$", Method: "POST", Status: 401, Code: "InvalidAuthenticationToken"}, kind: backup.ProblemSignInExpired, says: "again"},
		"Microsoft is busy":  {fault: simulator.Fault{Path: "roleAssignments$", Status: 503, Code: "ServiceUnavailable"}, kind: backup.ProblemUnavailable},
		"an unknown refusal": {fault: simulator.Fault{Path: "^/v1.0/users$", Method: "POST", Status: 400, Code: "Odd"}, kind: backup.ProblemUnknown, says: "Odd"},
	} {
		inBubble(t, name, func(t *testing.T) {
			w := newWorld(t, nil)
			if test.upn == "" {
				test.upn = "admin@contosodental.onmicrosoft.com"
			}
			g := w.signIn("", test.upn, backup.SignInAdministrator)
			if test.fault.Name != "" || test.fault.Status != 0 {
				w.fault(test.fault)
			}
			p := wantKind(t, name, w.administrator(t.Context(), g, &keeper{}), test.kind)
			if !strings.Contains(p.Text, test.says) {
				t.Errorf("text: %s", p.Text)
			}
		})
	}
}

func TestEnsureAdministratorLeavesAnotherAccountOfThatNameAlone(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		w := newWorld(t, func(o *simulator.Options) {
			o.World.Tenants[1].People = append(o.World.Tenants[1].People, simulator.WorldPerson{Name: "Somebody else", UPN: "backupadmin@contosodental.onmicrosoft.com"})
		})
		g := w.signIn("", "admin@contosodental.onmicrosoft.com", backup.SignInAdministrator)
		k := &keeper{}
		if err := w.administrator(t.Context(), g, k); err != nil {
			t.Fatal(err)
		}
		if k.admin.UPN != "backupadmin2@contosodental.onmicrosoft.com" {
			t.Errorf("account %s", k.admin.UPN)
		}
		conn := legacyConnection()
		conn.Administrator = k.admin
		if err := w.client.RemoveAdministrator(t.Context(), g.AccessToken, conn); err != nil {
			t.Fatal(err)
		}
		if got := w.backupAdmins(); len(got) != 1 || got[0] != "backupadmin@contosodental.onmicrosoft.com " {
			t.Errorf("in the tenant after removal: %v", got)
		}
	})
}

func TestRemoveAdministratorTakesAccountAndGrantsAndNothingElse(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		w := newWorld(t, nil)
		g := w.signIn("", "admin@contosodental.onmicrosoft.com", backup.SignInAdministrator)
		k := &keeper{}
		if err := w.administrator(t.Context(), g, k); err != nil {
			t.Fatal(err)
		}
		before := len(w.users())
		conn := legacyConnection()
		conn.Administrator = k.admin
		for range 2 { // the second finds nothing
			if err := w.client.RemoveAdministrator(t.Context(), g.AccessToken, conn); err != nil {
				t.Fatal(err)
			}
		}
		if got := w.backupAdmins(); len(got) != 0 || len(w.users()) != before-1 {
			t.Errorf("in the tenant: %v, %d of %d accounts", got, len(w.users()), before)
		}
		time.Sleep(2 * time.Hour) // tokens from before have ended
		_, _, err := w.client.MainApp(contosoTenant).Accounts(t.Context())
		wantKind(t, "the main application without grants", err, backup.ProblemPermission)
	})
}
