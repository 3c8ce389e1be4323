package simulator

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

func (call *cmdletCall) pointerObject(p *pointer) object {
	name := firstOf(p.Name, p.ObjectID)
	o := directoryObject(call.t, p.Guid, p.ObjectID, "CN=ServicePrincipals", p.Created)
	o["AppId"], o["ObjectId"], o["DisplayName"], o["ServiceId"] = p.AppID, p.ObjectID, name, p.ObjectID
	return o
}

func getServicePrincipal(call *cmdletCall) ([]object, *cmdletError) {
	var all []object
	for _, p := range call.x.Pointers {
		if !p.VisibleAt.After(call.now) {
			all = append(all, call.pointerObject(p))
		}
	}
	id := call.p.text("Identity")
	if id == "" {
		return all, nil
	}
	var one []object
	if p := call.x.pointer(id, call.now); p != nil {
		one = []object{call.pointerObject(p)}
	}
	return call.found(id, one, all)
}

// noServicePrincipal is the error of a wrong ObjectId, or of one that Entra has
// not told Exchange yet.
func noServicePrincipal(objectID string) *cmdletError {
	return failed("Microsoft.Exchange.Management.RbacTasks.AADServicePrincipalNotFound", "AADServicePrincipalNotFound: No ServicePrincipal with Object Id '%s' is registered in the tenant.", objectID)
}

// newServicePrincipal makes the pointer. ObjectId is the one of the enterprise
// application, not of the registration. assumed: pointer-dehydrated
func newServicePrincipal(call *cmdletCall) ([]object, *cmdletError) {
	appID, objectID, name := call.p.text("AppId"), call.p.text("ObjectId"), call.p.text("DisplayName")
	if len([]rune(name)) > 256 {
		return nil, tooLong("DisplayName", 256)
	}
	sp := call.t.principalByID(objectID)
	if sp == nil || sp.VisibleAt.After(call.now) || !strings.EqualFold(sp.AppID, appID) {
		return nil, noServicePrincipal(objectID)
	}
	if slices.ContainsFunc(call.x.Pointers, func(p *pointer) bool { return named(appID, p.AppID) || named(objectID, p.ObjectID) }) {
		return nil, existing("CN=" + objectID + ",CN=ServicePrincipals")
	}
	p := &pointer{Guid: newGUID(), AppID: sp.AppID, ObjectID: sp.ID, Name: name, Created: call.now, VisibleAt: call.visibleAt()}
	call.x.Pointers = append(call.x.Pointers, p)
	call.s.changed()
	return []object{call.pointerObject(p)}, nil
}

func removeServicePrincipal(call *cmdletCall) ([]object, *cmdletError) {
	id := call.p.text("Identity")
	p := call.x.pointer(id, call.now)
	if p == nil {
		return nil, missingObject(id)
	}
	call.x.forget(p.ObjectID)
	call.s.changed()
	return nil, nil
}

// testServicePrincipalAuthorization shows grants of RBAC for Applications at
// once, without the cache that Graph has.
func testServicePrincipalAuthorization(call *cmdletCall) ([]object, *cmdletError) {
	id, resource := call.p.text("Identity"), call.p.text("Resource")
	p := call.x.pointer(id, call.now)
	if p == nil {
		return nil, missingObject(id)
	}
	var u *user
	if resource != "" {
		if u = call.t.userOf(resource); u == nil {
			return nil, missingObject(resource)
		}
	}
	var list []object
	for _, a := range call.x.Assignments {
		r := call.x.role(a.Role, call.now)
		if a.App != p.ObjectID || r == nil || !r.App {
			continue
		}
		scopeType, in := "Organization", "Not Run"
		if a.Scope != "" {
			scopeType = "CustomRecipientScope"
		}
		if u != nil {
			in = "False"
			if call.x.inScope(a, u, call.now) {
				in = "True"
			}
		}
		list = append(list, object{"RoleName": r.Name, "GrantedPermissions": strings.Join(granted(r), ", "), "AllowedResourceScope": firstOf(a.Scope, "Organization"), "ScopeType": scopeType, "InScope": in})
	}
	return list, nil
}

// granted are the permissions of a role of RBAC for Applications, by Graph's
// names.
func granted(r *managementRole) []string {
	switch name := strings.TrimPrefix(r.Name, "Application "); name {
	case "Mail.ReadBasic":
		return []string{"Mail.ReadBasic", "Mail.ReadBasic.All"}
	case "Mail Full Access":
		return []string{"Mail.ReadWrite", "Mail.Read", "Mail.ReadBasic", "Mail.ReadBasic.All", "Mail.Send"}
	case "Exchange Full Access":
		return []string{"Mail.ReadWrite", "Mail.Read", "Mail.ReadBasic", "Mail.ReadBasic.All", "Mail.Send", "MailboxSettings.ReadWrite", "MailboxSettings.Read", "Calendars.ReadWrite", "Calendars.Read", "Contacts.ReadWrite", "Contacts.Read"}
	default:
		return []string{name}
	}
}

// inScope says whether an assignment covers a mailbox.
func (x *exchange) inScope(a *roleAssignment, u *user, now time.Time) bool {
	if a.Scope == "" {
		return true
	}
	sc := x.scope(a.Scope, now)
	if sc == nil {
		return false
	}
	match, err := parseRecipientFilter(sc.Filter)
	return err == nil && match(u)
}

// exchangeAllows says whether an Exchange role assigned to the calling
// application (RBAC for Applications) gives one of the permissions on the
// user's mailbox, although the token has none of them. Such grants add to those
// of the token (auth.md 5.4: union).
func (s *Simulator) exchangeAllows(c *caller, u *user, permissions []string) bool {
	x, now := c.Tenant.Exchange, s.now()
	if x == nil || c.PrincipalID == "" || c.User != nil {
		return false
	}
	for _, a := range x.Assignments {
		r := x.role(a.Role, now)
		if a.App != c.PrincipalID || r == nil || !r.App || a.Delegating || a.Created.Add(x.accessDelay()).After(now) || !x.inScope(a, u, now) {
			continue
		}
		if slices.ContainsFunc(granted(r), func(p string) bool { return slices.Contains(permissions, p) }) {
			return true
		}
	}
	return false
}

// recipientTest is one comparison of a recipient filter.
var recipientTest = regexp.MustCompile(`(?i)^\(*\s*(\w+)\s+-(eq|ne|like)\s+'((?:[^']|'')*)'\s*\)*$`)

// parseRecipientFilter reads the simple filters of scopes: comparisons of a
// property with -eq, -ne or -like, joined by -or.
func parseRecipientFilter(filter string) (func(*user) bool, error) {
	var tests []func(*user) bool
	for _, part := range regexp.MustCompile(`(?i)\s+-or\s+`).Split(filter, -1) {
		m := recipientTest.FindStringSubmatch(strings.TrimSpace(part))
		if m == nil {
			return nil, fmt.Errorf("%q", part)
		}
		property, op, value := strings.ToLower(m[1]), strings.ToLower(m[2]), strings.ReplaceAll(m[3], "''", "'")
		read, ok := recipientProperties[property]
		if !ok {
			return nil, fmt.Errorf("the property %q is not simulated", m[1])
		}
		tests = append(tests, func(u *user) bool {
			have := read(u)
			switch op {
			case "ne":
				return !strings.EqualFold(have, value)
			case "like":
				return matches(value, have)
			}
			return strings.EqualFold(have, value)
		})
	}
	return func(u *user) bool {
		return slices.ContainsFunc(tests, func(test func(*user) bool) bool { return test(u) })
	}, nil
}

var recipientProperties = map[string]func(*user) string{
	"userprincipalname": func(u *user) string { return u.UPN }, "primarysmtpaddress": func(u *user) string { return u.Mail }, "windowsemailaddress": func(u *user) string { return u.Mail },
	"displayname": func(u *user) string { return u.Name }, "name": func(u *user) string { return u.Name }, "alias": func(u *user) string { return strings.SplitN(u.UPN, "@", 2)[0] },
	"recipienttypedetails": recipientType, "externaldirectoryobjectid": func(u *user) string { return u.ID },
}
