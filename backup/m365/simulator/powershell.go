package simulator

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// A simulated PowerShell: it runs the script of the manual flow as somebody of
// the tenant would, cmdlet by cmdlet, against the simulated Exchange. It reads
// the steps out of the script and knows no other PowerShell; whatever the script
// does besides (modules, signing in) is left out, and said so.

// scriptTenant, scriptStep and scriptProperty find what the script is made of.
var (
	scriptTenant   = regexp.MustCompile(`(?m)^\$TenantId = '([0-9a-fA-F-]{36})'`)
	scriptStep     = regexp.MustCompile(`(?m)^\s*Invoke-Step -Title '((?:[^']|'')*)'(?: -Check \{ (.*?) \} -Match (@\{.*\}))? -Change \{ (.*?) \}\s*$`)
	scriptArgument = regexp.MustCompile(` -([A-Za-z]+) ('(?:[^']|'')*'(?:, '(?:[^']|'')*')*)`)
	scriptText     = regexp.MustCompile(`'((?:[^']|'')*)'`)
	scriptList     = regexp.MustCompile(`(Where|Has) = @\(([^()]*)\)`)
	scriptProperty = regexp.MustCompile(`Name = '((?:[^']|'')*)'; Value = '((?:[^']|'')*)'`)
)

func unquote(s string) string { return strings.ReplaceAll(s, "''", "'") }

// RunScript runs a script of the manual flow as upn, or, with "", as the first
// Global Administrator of the tenant that the script is for. It returns what
// was done, line by line; the error says where it stopped.
func (s *Simulator) RunScript(script, upn string) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.saveLogged()
	return s.runScript(script, upn)
}

func (s *Simulator) runScript(script, upn string) ([]string, error) {
	script = strings.ReplaceAll(script, "\r\n", "\n")
	found := scriptTenant.FindStringSubmatch(script)
	steps := scriptStep.FindAllStringSubmatch(script, -1)
	if found == nil || len(steps) == 0 {
		return nil, errors.New("this is not a script of the manual flow: it names no tenant, or has no step")
	}
	t := s.tenantOf(found[1])
	if t == nil || t.Exchange == nil {
		return nil, fmt.Errorf("exit 2: there is no tenant %s with Exchange Online", found[1])
	}
	u, err := t.scriptPerson(upn)
	if err != nil {
		return nil, err
	}
	call := &cmdletCall{s: s, t: t, x: t.Exchange, c: &caller{Tenant: t, User: u, Scopes: []string{"Exchange.Manage"}, Wids: u.Roles, IssuedAt: s.now()}, now: s.now()}
	if len(t.Exchange.cmdletsOf(call.c, call.now)) == 0 {
		return nil, fmt.Errorf("exit 2: %s may not run the cmdlets", u.UPN)
	}
	report := []string{"Signed in as " + u.UPN + "."}
	for _, step := range steps {
		done, err := call.scriptStep(step[2], step[3], step[4])
		if err != nil {
			return report, fmt.Errorf("%s: %w", unquote(step[1]), err)
		}
		s.changed()
		report = append(report, done+"  "+unquote(step[1]))
	}
	return report, nil
}

// scriptPerson is who signs in to run a script.
func (t *tenant) scriptPerson(upn string) (*user, error) {
	i := slices.IndexFunc(t.Users, func(u *user) bool {
		return u.Enabled && (upn == "" && u.hasRole(globalAdministrator) || strings.EqualFold(u.UPN, upn))
	})
	switch {
	case i < 0:
		return nil, fmt.Errorf("exit 2: %q can't sign in to the tenant %s that the script is for", upn, t.Domain)
	case t.Users[i].NoPowerShell:
		return nil, fmt.Errorf("exit 2: PowerShell is switched off for %s (EXOModuleEnabled)", t.Users[i].UPN)
	}
	return t.Users[i], nil
}

// scriptStep looks, and changes what is not there.
func (call *cmdletCall) scriptStep(check, match, change string) (string, error) {
	if check != "" {
		objects, problem := call.scriptCall(check)
		if problem == nil && slices.ContainsFunc(objects, func(o object) bool { return isSought(o, match) }) {
			return "there already", nil
		}
	}
	_, problem := call.scriptCall(change)
	switch {
	case problem == nil:
		return "done", nil
	case check == "" && regexp.MustCompile(`not required|already`).MatchString(problem.text):
		return "there already", nil
	case regexp.MustCompile(`isn't currently allowed|Enable-OrganizationCustomization`).MatchString(problem.text):
		return "", fmt.Errorf("exit 3: not ready yet, run the script again later: %s", problem.text)
	}
	return "", errors.New("exit 1: " + problem.text)
}

// scriptCall runs one call as it stands in the script.
func (call *cmdletCall) scriptCall(text string) ([]object, *cmdletError) {
	name, _, _ := strings.Cut(text, " ")
	syntax := call.s.cmdlets[strings.ToLower(name)]
	if syntax == nil || cmdletTable[syntax.Name] == nil || !slices.Contains(call.x.cmdletsOf(call.c, call.now), syntax.Name) {
		return nil, failed("System.Management.Automation.CommandNotFoundException", "The term '%s' is not recognized as the name of a cmdlet, function, script file, or operable program.", name)
	}
	given := map[string]any{}
	for _, a := range scriptArgument.FindAllStringSubmatch(text, -1) {
		values := []any{}
		for _, v := range scriptText.FindAllStringSubmatch(a[2], -1) {
			values = append(values, unquote(v[1]))
		}
		if given[a[1]] = values; len(values) == 1 {
			given[a[1]] = values[0]
		}
	}
	var problem *cmdletError
	if call.p, problem = syntax.check(given); problem != nil {
		return nil, problem
	}
	return cmdletTable[syntax.Name](call)
}

// isSought says whether an object is the one that a step of the script looks for.
func isSought(o object, match string) bool {
	for _, list := range scriptList.FindAllStringSubmatch(match, -1) {
		hits, properties := 0, scriptProperty.FindAllStringSubmatch(list[2], -1)
		for _, p := range properties {
			if slices.ContainsFunc(texts(o[unquote(p[1])]), func(have string) bool {
				return strings.EqualFold(have, unquote(p[2])) || strings.EqualFold(have[strings.LastIndexAny(have, `/\`)+1:], unquote(p[2]))
			}) {
				hits++
			}
		}
		if list[1] == "Where" && (hits == 0 || hits < len(properties) && !strings.Contains(match, "Any = $true")) || list[1] == "Has" && hits < len(properties) {
			return false
		}
	}
	return true
}

// texts is a property as texts.
func texts(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []string:
		return v
	case []any:
		list := []string{}
		for _, e := range v {
			list = append(list, fmt.Sprint(e))
		}
		return list
	}
	return nil
}

// controlPowerShell is the page where a script is put in, and what runs it.
func (s *Simulator) controlPowerShell(w *answer, r *http.Request, _ *caller) {
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		controlError(w, http.StatusForbidden, "control paths are not for other sites' pages")
		return
	}
	p := newPage("Simulated PowerShell")
	script, upn := r.PostFormValue("script"), r.PostFormValue("upn")
	if r.Method == http.MethodPost {
		report, err := s.runScript(script, strings.TrimSpace(upn))
		for _, line := range report {
			p.text("%s", line)
		}
		if err != nil {
			p.alert(err.Error())
		} else {
			p.text("Done. Go back to Holdfast and select Verify & Continue.")
		}
	} else {
		p.text("Paste the script that Holdfast made. Its steps are run against the simulated Exchange Online; installing modules and signing in are left out.")
	}
	p.form("").raw("<label for=\"script\">Script</label>\n<textarea id=\"script\" name=\"script\" rows=\"12\" required></textarea>\n").
		input("upn", "Run as (empty: the tenant's first Global Administrator)", upn, "autocomplete=\"off\"").
		buttons("run", "run", "Run").end()
	w.show(http.StatusOK, p)
}
