package simulator

import (
	"crypto/sha256"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Faults of the admin interface (auth.md 4.3). "cmdlet" of the fault limits
// them to one.
var exchangeFaults = []string{
	"exchange_concurrency", // plain text: too many requests of the tenant
	"exchange_transient",   // plain text, with X-ExceptionType: UnableToWriteToAadException
	"exchange_ad",          // 500 with ADTransientException
	"exchange_forbidden",   // 403 with NUL bytes
	"exchange_not_found",   // 404: this server does not know the object
	"exchange_aad",         // AADServicePrincipalNotFound
	"exchange_dehydrated",  // creates are refused once more
	"exchange_unrecognized",
	"exchange_page_expired",
}

// exchangeRoutes registers the Exchange admin REST interface. Microsoft does
// not document it; auth.md 4 has what others measured.
func (s *Simulator) exchangeRoutes() {
	s.playsFaults(exchangeFaults...)
	s.exchangeREST("POST", "/adminapi/{version}/{tenant}/InvokeCommand", s.invokeCommand)
	s.exchangeREST("GET", "/adminapi/{version}/{tenant}/EXOModuleFile", s.moduleFile)
	s.exchangeControl()
}

// cmdletCall is one call of a cmdlet.
type cmdletCall struct {
	s        *Simulator
	t        *tenant
	x        *exchange
	c        *caller
	now      time.Time
	p        parameters
	warnings []string
}

// cmdlet runs a cmdlet whose parameters were checked.
type cmdlet func(call *cmdletCall) ([]object, *cmdletError)

// cmdletTable are the cmdlets that the simulated Exchange has.
var cmdletTable = map[string]cmdlet{
	"Enable-OrganizationCustomization": enableOrganizationCustomization, "Get-OrganizationConfig": getOrganizationConfig, "Get-AcceptedDomain": getAcceptedDomain,
	"Get-RoleGroup": getRoleGroup, "New-RoleGroup": newRoleGroup, "Remove-RoleGroup": removeRoleGroup,
	"Get-RoleGroupMember": getRoleGroupMember, "Add-RoleGroupMember": addRoleGroupMember, "Remove-RoleGroupMember": removeRoleGroupMember,
	"Get-ManagementRole": getManagementRole, "New-ManagementRole": newManagementRole, "Remove-ManagementRole": removeManagementRole,
	"Get-ManagementRoleEntry": getManagementRoleEntry, "Remove-ManagementRoleEntry": removeManagementRoleEntry,
	"Get-ManagementRoleAssignment": getManagementRoleAssignment, "New-ManagementRoleAssignment": newManagementRoleAssignment, "Remove-ManagementRoleAssignment": removeManagementRoleAssignment,
	"Get-ManagementScope": getManagementScope, "New-ManagementScope": newManagementScope, "Remove-ManagementScope": removeManagementScope,
	"Get-ServicePrincipal": getServicePrincipal, "New-ServicePrincipal": newServicePrincipal, "Remove-ServicePrincipal": removeServicePrincipal,
	"Test-ServicePrincipalAuthorization": testServicePrincipalAuthorization,
	"Get-Mailbox":                        getMailbox, "Get-MailboxStatistics": getMailboxStatistics, "Get-Recipient": getRecipient, "Get-User": getUser,
}

// enterExchange says who calls in which organization, or answers why not:
// 401 for an application without Exchange.ManageAsApp, 403 without a role
// (auth.md 4.3, measured).
func (s *Simulator) enterExchange(w *answer, r *http.Request, c *caller) (*exchange, bool) {
	version := strings.ToLower(r.PathValue("version"))
	if version != "beta" && version != "v1.0" {
		http.NotFound(w, r)
		return nil, false
	}
	switch {
	case c.User == nil && !c.has("Exchange.ManageAsApp"):
		w.WriteHeader(http.StatusUnauthorized)
	case s.tenantOf(r.PathValue("tenant")) != c.Tenant || c.Tenant.Exchange == nil:
		// assumed: exchange-other-tenant
		w.exchangeForbidden("The tenant of the request is not the tenant of the token.")
	case c.User != nil && !c.hasScope("Exchange.Manage"):
		w.WriteHeader(http.StatusForbidden) // bodyless, for example with Exchange.ManageV2 alone
	case c.User != nil && c.User.NoPowerShell:
		// assumed: exo-module-off
		w.exchangeError(failed("Microsoft.Exchange.Configuration.Authorization.CmdletAccessDeniedException", `The user "%s" is not allowed to connect to Exchange Online PowerShell: EXOModuleEnabled is False.`, c.User.UPN), c.Tenant.Exchange.Settings.Details)
	case len(c.Tenant.Exchange.cmdletsOf(c, s.now())) == 0:
		w.exchangeForbidden("The caller isn't assigned to any management roles.")
	default:
		return c.Tenant.Exchange, true
	}
	return nil, false
}

// moduleFile lists the cmdlets that the token's roles contain; a header can ask
// for some.
func (s *Simulator) moduleFile(w *answer, r *http.Request, c *caller) {
	logged(r).Cmdlet = "EXOModuleFile"
	if s.exchangeFault(w, r, c, "EXOModuleFile") {
		return
	}
	x, ok := s.enterExchange(w, r, c)
	if !ok {
		return
	}
	names := x.cmdletsOf(c, s.now())
	if asked := r.Header.Get("CommandName"); asked != "" && asked != "*" {
		names = slices.DeleteFunc(names, func(n string) bool { return !named(n, strings.Split(asked, ",")...) })
	}
	w.json(http.StatusOK, object{"@odata.context": baseURL(r, HostExchange) + "/adminapi/" + r.PathValue("version") + "/" + c.Tenant.ID + "/$metadata#EXOModuleFile",
		"value": []object{{"name": "ExchangeOnlineManagement", "version": r.URL.Query().Get("Version"), "exportedCmdlets": strings.Join(names, ",")}}})
}

// invokeCommand runs a cmdlet.
func (s *Simulator) invokeCommand(w *answer, r *http.Request, c *caller) {
	var body struct {
		CmdletInput struct {
			CmdletName string
			Parameters map[string]any
		}
	}
	raw, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(raw, &body)
	}
	name := body.CmdletInput.CmdletName
	logged(r).Cmdlet = name
	if s.exchangeFault(w, r, c, name) {
		return
	}
	x, ok := s.enterExchange(w, r, c)
	if !ok {
		return
	}
	if err != nil || name == "" {
		w.json(http.StatusBadRequest, object{"error": object{"code": "BadRequest", "message": "The request payload is not valid."}})
		return
	}
	syntax := s.cmdlets[strings.ToLower(name)]
	if syntax == nil || !slices.ContainsFunc(x.cmdletsOf(c, s.now()), func(n string) bool { return strings.EqualFold(n, name) }) {
		w.exchangeForbidden("")
		return
	}
	call := &cmdletCall{s: s, t: c.Tenant, x: x, c: c, now: s.now()}
	problem := call.mayWrite(r, name)
	if problem == nil {
		call.p, problem = syntax.check(body.CmdletInput.Parameters)
	}
	var list []object
	run := cmdletTable[syntax.Name]
	if problem == nil && run == nil {
		problem = failed("System.NotImplementedException", "The simulated Exchange does not have %s.", name)
	}
	if problem == nil && !call.p.flag("WhatIf") {
		list, problem = run(call)
	}
	if problem != nil {
		w.exchangeError(problem, x.Settings.Details)
		return
	}
	s.exchangePage(w, r, call, sha256.Sum256(raw), list)
}

// mayWrite refuses writes of an application that names the tenant by GUID
// (auth.md 5.3: applications use the initial domain).
func (call *cmdletCall) mayWrite(r *http.Request, name string) *cmdletError {
	reads := strings.HasPrefix(strings.ToLower(name), "get-") || strings.HasPrefix(strings.ToLower(name), "test-")
	if call.c.User != nil || reads || !strings.EqualFold(r.PathValue("tenant"), call.t.ID) {
		return nil
	}
	return failed("Microsoft.Exchange.Data.Directory.ADOperationException", "Active Directory operation failed. This error is not retriable. The caller doesn't have write permission to target DC: insufficient access rights.")
}

// pageLife is how long a nextLink lives (auth.md 4.2: 5 to 10 minutes).
const pageLife = 5 * time.Minute

// exchangeCursor is the place in a list, for the same request.
type exchangeCursor struct {
	Skip int       `json:"s"`
	Body []byte    `json:"b"`
	At   time.Time `json:"at"`
}

// exchangePage answers with objects, in pages of what Prefer asks for.
func (s *Simulator) exchangePage(w *answer, r *http.Request, call *cmdletCall, body [sha256.Size]byte, list []object) {
	size := 1000
	if n, err := strconv.Atoi(prefer(r, "odata.maxpagesize")); err == nil && n > 0 {
		size = min(n, size)
	}
	cur := exchangeCursor{}
	if token := r.URL.Query().Get("$skiptoken"); token != "" {
		err := decodeCursor(token, &cur)
		if err != nil || !slices.Equal(cur.Body, body[:]) || s.now().Sub(cur.At) > pageLife || s.fault(r, call.c, "exchange_page_expired") != nil {
			// assumed: exchange-page-expired
			w.json(http.StatusBadRequest, object{"error": object{"code": "BadRequest", "message": "The skip token is expired or not valid."}})
			return
		}
	}
	out := object{
		"@odata.context":               baseURL(r, HostExchange) + "/adminapi/" + r.PathValue("version") + "/" + call.t.ID + "/$metadata#Collection(Exchange.GenericHashTable)",
		"adminapi.warnings@odata.type": "#Collection(String)", "@adminapi.warnings": append([]string{}, call.warnings...),
	}
	list = list[min(cur.Skip, len(list)):]
	if len(list) > size {
		list = list[:size]
		next := exchangeCursor{Skip: cur.Skip + size, Body: body[:], At: s.now()}
		out["@odata.nextLink"] = selfURL(r, url.Values{"$skiptoken": {encodeCursor(next)}})
	}
	value := []object{}
	for _, o := range list {
		value = append(value, selected(o, r.URL.Query().Get("$select")))
	}
	out["value"] = value
	w.header.Set("Content-Type", "application/json;odata.metadata=minimal;odata.streaming=true;charset=utf-8")
	w.header.Set("Rate-Limit-Remaining", "1000")
	w.json(http.StatusOK, out)
}

// selected keeps what $select names.
func selected(o object, names string) object {
	if names == "" {
		return o
	}
	kept := object{}
	for name := range strings.SplitSeq(names, ",") {
		if key, ok := keyOf(o, strings.TrimSpace(name)); ok {
			kept[key] = o[key]
		}
	}
	return kept
}

// exchangeFault plays a fault planned for this cmdlet, and says whether the
// answer is complete.
func (s *Simulator) exchangeFault(w *answer, r *http.Request, c *caller, name string) bool {
	in := r.Context().Value(incomingKey{}).(*incoming)
	f := s.take(r, c, "", func(f *Fault) bool {
		if f.Cmdlet != "" && !strings.EqualFold(f.Cmdlet, name) {
			return false
		}
		creates := strings.HasPrefix(name, "New-") || strings.HasPrefix(name, "Add-")
		if f.Name == "exchange_dehydrated" && !creates || f.Name == "exchange_page_expired" {
			return false
		}
		return f.Name == "" && f.Cmdlet != "" || slices.Contains(exchangeFaults, f.Name)
	})
	if f == nil {
		return false
	}
	shape := c.Tenant.exchangeDetails()
	switch f.Name {
	case "":
		if f.Body == "" && f.Message != "" {
			e := failed(firstOf(f.Error, "System.Exception"), "%s", f.Message)
			e.status, e.code = max(f.Status, http.StatusBadRequest), firstOf(f.Code, e.code)
			w.exchangeError(e, shape)
			return true
		}
		return s.play(w, r, in, f)
	case "exchange_concurrency":
		http.Error(w, "You have reached the maximum number of concurrent requests per tenant. Please wait and try again", http.StatusBadRequest)
	case "exchange_transient":
		w.header.Set("X-ExceptionType", "UnableToWriteToAadException")
		http.Error(w, "The operation failed. The issue may be transient, please try again.", http.StatusBadRequest)
	case "exchange_ad":
		e := failed("Microsoft.Exchange.Data.Directory.ADTransientException", "The server is not available.")
		e.status, e.code = http.StatusInternalServerError, "InternalServerError"
		w.exchangeError(e, shape)
	case "exchange_forbidden":
		w.exchangeForbidden(f.Message)
	case "exchange_not_found":
		w.exchangeError(missingObject(firstOf(f.Message, "the object")), shape)
	case "exchange_aad":
		w.exchangeError(noServicePrincipal(firstOf(f.Message, newGUID())), shape)
	case "exchange_dehydrated":
		w.exchangeError(refuseDehydrated(), shape)
	case "exchange_unrecognized":
		w.exchangeError(failed("System.Management.Automation.CommandNotFoundException", "The term '%s' is not recognized as the name of a cmdlet, function, script file, or operable program.", name), shape)
	}
	return true
}

func (t *tenant) exchangeDetails() string {
	if t.Exchange == nil {
		return ""
	}
	return t.Exchange.Settings.Details
}
