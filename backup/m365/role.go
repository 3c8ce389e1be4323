package m365

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/backup"
)

// Names of what Holdfast makes in Exchange Online; all begin with its own, so
// that an administrator finds them.
const (
	RoleGroup      = "Holdfast Exchange"
	roleRecipients = "Holdfast View-Only Recipients"
)

// managementRole is a role cut down from one of Microsoft's.
type managementRole struct {
	name, parent string
	cmdlets      []string
}

// managementRoles are the roles of the role group: what the Exchange
// sub-application may do, and nothing else.
var managementRoles = []managementRole{
	{roleRecipients, "View-Only Recipients", backup.RoleCmdlets},
}

// RoleStep is one thing that has to be true in Exchange Online, how to see
// whether it is, and how to make it so. The portal runs the steps and the script
// of the manual flow is made of them.
type RoleStep struct {
	Title  string // for people: what it makes
	Check  Cmdlet // without a name: there is nothing to look at, Change is run each time
	Match  Match  // reads Check's answer
	Change Cmdlet
}

// Match says which object of an answer is the one, and what it must be like.
// Get-cmdlets may answer with all objects if they do not know the one asked for
// (Microsoft's caution), so each is compared. Texts are compared without case.
type Match struct {
	Where  []Property // the object counts if all are equal …
	Any    bool       // … or any of them, with Any
	Has    []Property // … and each of these lists holds the value
	Equal  []Property // if it counts, these must be equal, or else somebody changed it
	Within []Within   // if it counts, these lists may hold nothing else, or else somebody widened it
}

// Property is a value of an object.
type Property struct{ Name, Value string }

// Within names a list and all that it may hold.
type Within struct {
	Name  string
	Allow []string
}

// RoleSteps returns the steps that give app, the Exchange sub-application, its
// custom role, in order. They use backup.RequiredCmdlets only.
func RoleSteps(app backup.SubApplication) []RoleStep {
	steps := []RoleStep{
		{Title: "Allow custom roles in the organization", Change: Cmdlet{Name: "Enable-OrganizationCustomization"}},
		{Title: "Make Holdfast's application known to Exchange Online",
			Check: Cmdlet{"Get-ServicePrincipal", []Parameter{{"Identity", app.AppID}}},
			Match: Match{Where: []Property{{"AppId", app.AppID}}, Equal: []Property{{"ObjectId", app.PrincipalID}}},
			Change: Cmdlet{"New-ServicePrincipal", []Parameter{
				{"AppId", app.AppID}, {"ObjectId", app.PrincipalID}, {"DisplayName", app.DisplayName}}}},
	}
	var names []string
	for _, r := range managementRoles {
		names = append(names, r.name)
		steps = append(steps, RoleStep{Title: "Create the role " + r.name,
			Check: Cmdlet{"Get-ManagementRole", []Parameter{{"Identity", r.name}}},
			Match: Match{Where: []Property{{"Name", r.name}}, Within: []Within{{"RoleEntries", r.cmdlets}}},
			Change: Cmdlet{"New-ManagementRole", []Parameter{
				{"Name", r.name}, {"Parent", r.parent}, {"EnabledCmdlets", r.cmdlets}, {"Description", "Cmdlets that Holdfast's backup may run. Made by Holdfast."}}}})
	}
	group := Cmdlet{"Get-RoleGroup", []Parameter{{"Identity", RoleGroup}}}
	steps = append(steps, RoleStep{Title: "Create the role group " + RoleGroup,
		Check: group, Match: Match{Where: []Property{{"Name", RoleGroup}}, Within: []Within{{"Roles", names}}},
		Change: Cmdlet{"New-RoleGroup", []Parameter{
			{"Name", RoleGroup}, {"Roles", names}, {"Description", "Holds Holdfast's application for backup. Made by Holdfast; do not add people."}}}})
	for _, name := range names {
		steps = append(steps, RoleStep{Title: "Assign " + name + " to the role group",
			Check: group, Match: Match{Where: []Property{{"Name", RoleGroup}}, Has: []Property{{"Roles", name}}},
			Change: Cmdlet{"New-ManagementRoleAssignment", []Parameter{{"Role", name}, {"SecurityGroup", RoleGroup}}}})
	}
	return append(steps, RoleStep{Title: "Add Holdfast's application to the role group",
		Check: Cmdlet{"Get-RoleGroupMember", []Parameter{{"Identity", RoleGroup}}},
		Match: Match{Any: true, Where: []Property{
			{"ExternalDirectoryObjectId", app.PrincipalID}, {"ObjectId", app.PrincipalID}, {"AppId", app.AppID}, {"Name", app.PrincipalID}}},
		Change: Cmdlet{"Add-RoleGroupMember", []Parameter{{"Identity", RoleGroup}, {"Member", app.PrincipalID}}}})
}

// find returns the object that counts, or nil.
func (m Match) find(objects []map[string]any) map[string]any {
	for _, object := range objects {
		hits := 0
		for _, p := range m.Where {
			if p.Value != "" && slices.ContainsFunc(values(object[p.Name]), sameAs(p.Value)) {
				hits++
			}
		}
		if hits == 0 || !m.Any && hits < len(m.Where) {
			continue
		}
		if !slices.ContainsFunc(m.Has, func(p Property) bool { return !slices.ContainsFunc(values(object[p.Name]), sameAs(p.Value)) }) {
			return object
		}
	}
	return nil
}

// differs says in words how an object differs from what Holdfast made; "" if not.
func (m Match) differs(object map[string]any) string {
	for _, p := range m.Equal {
		if have := values(object[p.Name]); len(have) > 0 && !slices.ContainsFunc(have, sameAs(p.Value)) {
			return fmt.Sprintf("%s is %s instead of %s", p.Name, strings.Join(have, ", "), p.Value)
		}
	}
	for _, w := range m.Within {
		for _, have := range values(object[w.Name]) {
			if !slices.ContainsFunc(w.Allow, func(allowed string) bool { return sameAs(allowed)(have) }) {
				return fmt.Sprintf("%s has %s, which Holdfast did not put there", w.Name, entryName(have))
			}
		}
	}
	return ""
}

// sameAs compares a name with one as Exchange writes it: alone, at the end of a
// path, or as a role entry like "(Microsoft.Exchange…) Get-Mailbox -Anr".
func sameAs(want string) func(string) bool {
	return func(have string) bool {
		return strings.EqualFold(have, want) || strings.EqualFold(entryName(have), want)
	}
}

func entryName(s string) string {
	if rest, ok := strings.CutPrefix(s, "("); ok {
		if _, after, found := strings.Cut(rest, ") "); found {
			name, _, _ := strings.Cut(after, " ")
			return name
		}
	}
	return s[strings.LastIndexAny(s, `/\`)+1:]
}

// Cmdlets lists the cmdlets that a token for Exchange may run. tenant is its id
// or initial domain.
func (c *Client) Cmdlets(ctx context.Context, tenant, upn string, token backup.Secret) ([]string, error) {
	names, err := c.asPerson(tenant, upn, token).cmdlets(ctx)
	if err != nil {
		return nil, roleProblem(err)
	}
	return names, nil
}

// EnsureRole makes the custom role of app, the Exchange sub-application, with the
// token of the administrator upn; tenant is the tenant's id or initial domain.
// What is there already is left as it is, so it can be repeated; made are the
// titles of the steps that were not true before. While Exchange
// Online is not ready the error is a Problem of kind role_pending.
func (c *Client) EnsureRole(ctx context.Context, tenant, upn string, token backup.Secret, app backup.SubApplication) (made []string, err error) {
	session := c.asPerson(tenant, upn, token)
	names, err := session.cmdlets(ctx)
	if err != nil {
		return nil, roleProblem(err)
	}
	if missing := without(backup.RequiredCmdlets, names); len(missing) > 0 {
		return nil, &backup.Problem{Kind: backup.ProblemMissingCmdlets, At: time.Now(), Temporary: true,
			Text: fmt.Sprintf("%s may not run %s. %s", upn, strings.Join(missing, ", "), textNoCmdlets)}
	}
	for _, step := range RoleSteps(app) {
		changed, err := session.ensure(ctx, step)
		if changed && step.Check.Name != "" {
			made = append(made, step.Title)
		}
		if p, ok := errors.AsType[*backup.Problem](err); ok && p.Kind == backup.ProblemMissingCmdlets {
			// The list of cmdlets had it a moment ago, so a server is behind.
			p.Kind, p.Text, p.Temporary = backup.ProblemRolePending, textRoleWaiting, true
		}
		if err != nil {
			return made, err
		}
	}
	return made, nil
}

// without returns those of want that have lacks, without regard to case.
func without(want, have []string) []string {
	return slices.DeleteFunc(slices.Clone(want), func(w string) bool {
		return slices.ContainsFunc(have, func(h string) bool { return strings.EqualFold(h, w) })
	})
}

// replicationWaits are the pauses while Exchange's servers tell each other of new
// objects; after the last the role stays pending and the job tries again.
var replicationWaits = []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second}

// ensure makes one step true, and says whether it was not.
func (s *exchangeSession) ensure(ctx context.Context, step RoleStep) (changed bool, err error) {
	for try := 0; ; try++ {
		done, err := s.holds(ctx, step)
		if err != nil || done {
			return false, err
		}
		_, err = s.run(ctx, step.Change)
		if err == nil {
			return true, nil
		}
		e := asExchangeError(err)
		switch {
		case e != nil && (e.notRequired() || e.exists()):
			return false, s.compare(ctx, step)
		case e != nil && (e.missing() || e.transient()) && !e.dehydrated() && try < len(replicationWaits):
			if err := sleep(ctx, replicationWaits[try]); err != nil {
				return false, err
			}
		default:
			return false, roleProblem(err)
		}
	}
}

// compare looks at something that exists although the check did not see it.
func (s *exchangeSession) compare(ctx context.Context, step RoleStep) error {
	_, err := s.holds(ctx, step)
	return err
}

// holds says whether a step is true already. It is an error if what is there was
// changed: Holdfast does not touch it then.
func (s *exchangeSession) holds(ctx context.Context, step RoleStep) (bool, error) {
	if step.Check.Name == "" {
		return false, nil
	}
	objects, err := s.run(ctx, step.Check)
	if e := asExchangeError(err); e != nil && e.missing() {
		return false, nil
	}
	if err != nil {
		return false, roleProblem(err)
	}
	object := step.Match.find(objects)
	if object == nil {
		return false, nil
	}
	if how := step.Match.differs(object); how != "" {
		return false, &backup.Problem{Kind: backup.ProblemRoleChanged, At: time.Now(), Err: errRoleDiffers,
			Text: fmt.Sprintf("%s: something of this name exists in Exchange Online, but it is not as Holdfast makes it: %s. Holdfast leaves it alone. Remove or repair it in the Exchange admin center, then try again.", step.Title, how)}
	}
	return true, nil
}

// difference says line by line which cmdlets Holdfast's application should be
// able to run and cannot.
func difference(missing []string) []string {
	var lines []string
	for _, name := range missing {
		lines = append(lines, name+" should be allowed, and is not")
	}
	return lines
}

// RoleGone is the problem of a role that worked and that Exchange Online does
// not grant any more.
func RoleGone(at time.Time) backup.Problem {
	return backup.Problem{Kind: backup.ProblemRoleChanged, At: at, Temporary: true, Details: difference(backup.RoleCmdlets),
		Text: "The custom role in Exchange Online is gone: the role group " + RoleGroup + ", its role, or Holdfast's application as its member was removed. Select Repair, and an administrator of the tenant gives it back."}
}

// RoleLeft is the problem of a role that stays in Exchange Online after the
// authorization that made it was given up: the ten cmdlets can't remove it.
func RoleLeft(at time.Time) backup.Problem {
	return backup.Problem{Kind: backup.ProblemRoleLeft, At: at,
		Details: slices.Clone(roleRemoval),
		Text:    "The role group " + RoleGroup + " and its role stay in Exchange Online. Nobody can use them, and a later authorization finds them again. To remove them, an administrator runs these two lines in Exchange Online PowerShell."}
}

// CheckRole asks Exchange Online as app, the Exchange sub-application, whether
// its custom role works; nil means connected. tenantDomain is the initial domain,
// which applications have to use.
func (c *Client) CheckRole(ctx context.Context, tenantDomain string, app backup.SubApplication) error {
	source, err := c.tokens(tenantDomain, app)
	if err != nil {
		return err
	}
	session := &exchangeSession{client: c, tenant: tenantDomain, anchor: "UPN:" + systemMailbox + "@" + tenantDomain,
		token: func(ctx context.Context) (backup.Secret, error) { return source.token(ctx, exchangeResource) }}
	names, err := session.cmdlets(ctx)
	if err != nil {
		source.forget() // the next try must not come with a token older than the role
		return roleCheckProblem(err)
	}
	var wanted []string
	for _, r := range managementRoles {
		wanted = append(wanted, r.cmdlets...)
	}
	if missing := without(wanted, names); len(missing) > 0 {
		source.forget()
		p := &backup.Problem{Kind: backup.ProblemRolePending, At: time.Now(), Temporary: true, Text: textRoleWaiting, Details: difference(missing)}
		if len(missing) < len(wanted) {
			p.Kind = backup.ProblemRoleChanged
			p.Text = "Somebody changed the custom role of Holdfast's application. Delete the role " + roleRecipients +
				" in the Exchange admin center, then select Repair: Holdfast makes it again as it was."
		}
		return p
	}
	mailboxes, err := session.run(ctx, Cmdlet{"Get-Mailbox", []Parameter{{"ResultSize", "1"}}})
	if err != nil {
		source.forget()
		return roleCheckProblem(err)
	}
	if len(mailboxes) == 0 {
		// A role without its scope lists nothing, so nothing is not success.
		return &backup.Problem{Kind: backup.ProblemRolePending, At: time.Now(), Temporary: true,
			Text: "Exchange Online shows Holdfast's application no mailbox yet. Holdfast tries again by itself."}
	}
	return nil
}
