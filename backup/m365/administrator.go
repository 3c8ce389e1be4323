package m365

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	abs "github.com/microsoft/kiota-abstractions-go"
	"github.com/microsoft/kiota-abstractions-go/serialization"
	"github.com/microsoftgraph/msgraph-sdk-go/models"

	"holdfast/backup"
)

// globalAdministrator is the template of the role
// (https://learn.microsoft.com/entra/identity/role-based-access-control/permissions-reference).
const globalAdministrator = "62e90394-69f5-4237-9190-012177145e10"

// administratorNames is how many names are tried if other accounts have them.
const administratorNames = 9

// EnsureAdministrator makes the backup administrator of a connection by the
// legacy method, with the token of a SignInAdministrator, or goes on where an
// earlier call was interrupted: the account, its role, and the permissions of
// the main application itself. admin is changed as it goes on, and save is
// called before the account is made and after. An error of save ends it and is
// returned as it is.
func (c *Client) EnsureAdministrator(ctx context.Context, token backup.Secret, conn backup.Connection, admin *backup.Administrator, save func(backup.Administrator) error) error {
	d, err := c.directory(token, string(conn.ID))
	if err != nil {
		return err
	}
	m := &administratorMaker{directory: d, client: c, conn: conn, admin: admin, save: save}
	if err := m.account(ctx); err != nil {
		return err
	}
	if err := m.role(ctx); err != nil {
		return err
	}
	// The grants are those of a sub-application, for another principal.
	g := &applicationMaker{directory: d, client: c, tenant: conn.TenantID}
	if err := m.grant(ctx, g); err != nil {
		return err
	}
	source := c.mainTokens(conn.TenantID)
	source.forget()
	return source.prove(ctx, backup.MainPermissions())
}

// administratorMaker makes or removes one backup administrator.
type administratorMaker struct {
	*directory
	client *Client
	conn   backup.Connection
	admin  *backup.Administrator
	save   func(backup.Administrator) error
}

// account makes the account, or finds the one that a call without an answer
// made. A name that another account has is left alone; the next is tried. One
// that was deleted in the tenant is made anew, with another password.
func (m *administratorMaker) account(ctx context.Context) error {
	if m.admin.ID != "" {
		_, r, err := m.user(ctx, m.admin.ID, replicationPause)
		switch {
		case r != nil && !notYet(*r):
			return administratorProblem(*r, err)
		case r == nil:
			return err
		}
		*m.admin = backup.Administrator{}
	}
	for n := 1; n <= administratorNames; n++ {
		if err := m.named(ctx, administratorName(n, m.conn.TenantDomain)); err != nil || m.admin.ID != "" {
			return err
		}
	}
	return &backup.Problem{Kind: backup.ProblemPolicy, At: time.Now(),
		Text: "Accounts named backupadmin to backupadmin" + strconv.Itoa(administratorNames) + " exist in the tenant already, and Holdfast made none of them. Rename or delete one that is not used, then try again."}
}

func administratorName(n int, domain string) string {
	if n == 1 {
		return "backupadmin@" + domain
	}
	return "backupadmin" + strconv.Itoa(n) + "@" + domain
}

// replicationPause is how long an account that was made a moment ago is looked for.
const replicationPause = 20 * time.Second

// named makes the account upn. The row has no id after that if somebody else has the name.
func (m *administratorMaker) named(ctx context.Context, upn string) error {
	found, r, err := m.user(ctx, upn, 0)
	switch {
	case r == nil && err != nil:
		return err
	case r != nil && !notYet(*r):
		return administratorProblem(*r, err)
	case r == nil && text(found.GetDepartment()) == m.conn.AdministratorMarker():
		return m.made(found)
	case r == nil:
		return nil // somebody else's
	}
	if m.admin.UPN != upn || len(m.admin.Password) == 0 {
		m.admin.UPN, m.admin.Password = upn, newPassword()
		if err := m.save(*m.admin); err != nil {
			return fmt.Errorf("save the backup administrator: %w", err)
		}
	}
	var user models.Userable
	r, err = m.do(ctx, false, func(ctx context.Context) error {
		got, err := m.post(ctx, "/users", m.body(), models.CreateUserFromDiscriminatorValue)
		user, _ = got.(models.Userable)
		return err
	})
	switch {
	case r == nil && err == nil:
		return m.made(user)
	case r != nil && r.says("userPrincipalName already exists", "same value for property"), r == nil && ctx.Err() == nil, r != nil && r.status >= 500:
		// It may be ours, made by a call without an answer: servers that lag
		// behind do not know it yet.
		if found, lost, _ := m.user(ctx, upn, lostAnswerWait); lost == nil && found != nil && text(found.GetDepartment()) == m.conn.AdministratorMarker() {
			return m.made(found)
		}
		if r != nil && r.status < 500 {
			return nil // somebody else's
		}
	}
	if r != nil {
		return administratorProblem(*r, err)
	}
	return err
}

// body is the account as it is asked for.
func (m *administratorMaker) body() models.Userable {
	password := models.NewPasswordProfile()
	password.SetPassword(new(m.admin.Password.Reveal()))
	password.SetForceChangePasswordNextSignIn(new(false))
	user := models.NewUser()
	user.SetAccountEnabled(new(true))
	user.SetDisplayName(new("Backup administrator (Holdfast)"))
	name, _, _ := strings.Cut(m.admin.UPN, "@")
	user.SetMailNickname(&name)
	user.SetUserPrincipalName(&m.admin.UPN)
	user.SetJobTitle(new("Made by Holdfast, which backs up this tenant"))
	user.SetDepartment(new(m.conn.AdministratorMarker()))
	user.SetPasswordProfile(password)
	return user
}

// made notes the account.
func (m *administratorMaker) made(user models.Userable) error {
	if user == nil || text(user.GetId()) == "" {
		return garbage("user", errors.New("no id in the answer"))
	}
	m.admin.ID = *user.GetId()
	if upn := text(user.GetUserPrincipalName()); upn != "" {
		m.admin.UPN = upn
	}
	if err := m.save(*m.admin); err != nil {
		return fmt.Errorf("save the backup administrator: %w", err)
	}
	return nil
}

// newPassword is 120 random bits in three of the four kinds of characters that
// Microsoft's rule asks for.
func newPassword() backup.Secret {
	return backup.Secret(rand.Text()[:12] + "-" + strings.ToLower(rand.Text()[:12]))
}

// user reads an account by its id or name, again for wait while nobody knows it.
func (m *administratorMaker) user(ctx context.Context, id string, wait time.Duration) (models.Userable, *refusal, error) {
	var user models.Userable
	r, err := m.retry(ctx, wait, notYet, func(ctx context.Context) error {
		got, err := m.get(ctx, "/users/{id}{?%24select}", map[string]string{"id": id, "%24select": "id,userPrincipalName,department"}, models.CreateUserFromDiscriminatorValue)
		user, _ = got.(models.Userable)
		return err
	})
	if r == nil && err == nil && user == nil {
		err = garbage("user", errors.New("empty answer"))
	}
	return user, r, err
}

// role makes the account a Global Administrator. That it is one is as good.
func (m *administratorMaker) role(ctx context.Context) error {
	body := models.NewUnifiedRoleAssignment()
	body.SetPrincipalId(&m.admin.ID)
	body.SetRoleDefinitionId(new(globalAdministrator))
	body.SetDirectoryScopeId(new("/"))
	r, err := m.retry(ctx, replicationLimit, notYet, func(ctx context.Context) error {
		_, err := m.post(ctx, "/roleManagement/directory/roleAssignments", body, models.CreateUnifiedRoleAssignmentFromDiscriminatorValue)
		return err
	})
	if r != nil && (r.says("conflicting object", "already exists") || r.has("RoleAssignmentExists")) {
		return nil
	}
	if r != nil {
		return administratorProblem(*r, err)
	}
	return err
}

// grant gives the main application its permissions in the tenant.
func (m *administratorMaker) grant(ctx context.Context, g *applicationMaker) error {
	principal, err := m.principal(ctx, g)
	if err != nil {
		return err
	}
	g.app = &backup.SubApplication{PrincipalID: principal}
	graph, err := g.resource(ctx, backup.ResourceGraph)
	if err != nil {
		return err
	}
	for _, p := range backup.MainPermissions() {
		if err := g.grantOne(ctx, p, graph); err != nil {
			return err
		}
	}
	return nil
}

// principal returns the main application's service principal in the tenant,
// which consent has made.
func (m *administratorMaker) principal(ctx context.Context, g *applicationMaker) (string, error) {
	var sp models.ServicePrincipalable
	r, err := m.retry(ctx, replicationLimit, notYet, func(ctx context.Context) (err error) {
		sp, err = g.principalOf(ctx, m.client.id, "id", "appId")
		return err
	})
	switch {
	case r != nil:
		return "", administratorProblem(*r, err)
	case err != nil:
		return "", err
	case sp == nil || text(sp.GetId()) == "":
		return "", garbage("service principal", errors.New("no id in the answer"))
	}
	return *sp.GetId(), nil
}

// administratorProblem reads Graph's refusal of the calls of the legacy method,
// which need more of the person than making applications does.
func administratorProblem(r refusal, cause error) *backup.Problem {
	switch {
	case r.status == http.StatusForbidden || r.has("Authorization_RequestDenied"):
		return r.problem(meaning{backup.ProblemNotAdministrator,
			"The person who signed in may not create or delete administrators. Sign in as a Global Administrator; if the role is assigned by Privileged Identity Management, activate it first.", false}, cause)
	case r.says("password complexity", "password does not comply", "passwordProfile"):
		return r.problem(meaning{backup.ProblemPolicy,
			"The tenant's password rules refused the random password of the new account. Look at the custom banned passwords under Entra admin center, Authentication methods, Password protection, then try again.", false}, cause)
	}
	return directoryProblem(r, cause)
}

// get, post and delete are calls whose request builders would make the program
// larger by all that Graph can do with a user.
func (m *administratorMaker) get(ctx context.Context, template string, parameters map[string]string, make serialization.ParsableFactory) (serialization.Parsable, error) {
	return m.adapter.Send(ctx, m.request(abs.GET, template, parameters), make, nil)
}

func (m *administratorMaker) post(ctx context.Context, template string, body serialization.Parsable, make serialization.ParsableFactory) (serialization.Parsable, error) {
	info := m.request(abs.POST, template, nil)
	if err := info.SetContentFromParsable(ctx, m.adapter, "application/json", body); err != nil {
		return nil, fmt.Errorf("write the body: %w", err)
	}
	return m.adapter.Send(ctx, info, make, nil)
}

// delete is no error if the object is gone. A refusal is tried again for wait.
func (m *administratorMaker) delete(ctx context.Context, template, id string, wait time.Duration) error {
	r, err := m.retry(ctx, wait, func(r refusal) bool { return r.status == http.StatusForbidden }, func(ctx context.Context) error {
		return m.adapter.SendNoContent(ctx, m.request(abs.DELETE, template, map[string]string{"id": id}), nil)
	})
	if r != nil && notYet(*r) {
		return nil
	}
	if r != nil {
		return administratorProblem(*r, err)
	}
	return err
}

func (m *administratorMaker) request(method abs.HttpMethod, template string, parameters map[string]string) *abs.RequestInformation {
	info := abs.NewRequestInformationWithMethodAndUrlTemplateAndPathParameters(method, "{+baseurl}"+template, map[string]string{"baseurl": m.path["baseurl"]})
	for name, value := range parameters {
		if strings.HasPrefix(name, "%24") {
			info.QueryParameters[name] = value
			continue
		}
		info.PathParameters[name] = value
	}
	info.Headers.Add("Accept", "application/json")
	return info
}
