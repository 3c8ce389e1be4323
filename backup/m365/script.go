package m365

import (
	_ "embed" // the script's text
	"errors"
	"fmt"
	"regexp"
	"strings"
	"text/template"
	"time"

	"holdfast/backup"
)

//go:embed script.ps1.tmpl
var scriptText string

var scriptTemplate = template.Must(template.New("script").Parse(scriptText))

// ScriptName is the file name of the script of the manual flow.
const ScriptName = "holdfast-exchange-role.ps1"

// scriptStep is a RoleStep as PowerShell.
type scriptStep struct {
	Title  string
	Quoted string // the title as a PowerShell string
	Check  string // "" if there is nothing to look at
	Match  string
	Change string
}

var guid = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// Script returns the PowerShell script with which an administrator of conn's
// tenant makes the custom role of app, the Exchange sub-application, by hand. It
// runs RoleSteps, as EnsureRole does, and has no secret in it. It is ASCII with
// CRLF line ends, which Windows PowerShell 5.1 and PowerShell 7 both read
// (microsoft/auth.md, 6).
func Script(conn backup.Connection, app backup.SubApplication, now time.Time) ([]byte, error) {
	for name, id := range map[string]string{"tenant": conn.TenantID, "application": app.AppID, "service principal": app.PrincipalID} {
		if !guid.MatchString(id) {
			return nil, fmt.Errorf("write the script: the id of the %s, %q, is no GUID", name, id)
		}
	}
	var steps []scriptStep
	for _, step := range RoleSteps(app) {
		s := scriptStep{Title: comment(step.Title), Match: step.Match.powerShell()}
		var err error
		if s.Quoted, err = quote(step.Title); err != nil {
			return nil, err
		}
		if s.Change, err = step.Change.powerShell(); err != nil {
			return nil, err
		}
		if step.Check.Name != "" {
			if s.Check, err = step.Check.powerShell(); err != nil {
				return nil, err
			}
		}
		steps = append(steps, s)
	}
	required, err := quoteAll(backup.RequiredCmdlets)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	err = scriptTemplate.Execute(&b, map[string]any{
		"Made": now.UTC().Format("2006-01-02 15:04 UTC"), "FileName": ScriptName, "TenantID": conn.TenantID, "TenantQuoted": "'" + conn.TenantID + "'",
		"Domain": comment(conn.TenantDomain), "AppID": app.AppID, "AppName": comment(app.DisplayName), "Required": required, "Steps": steps,
	})
	if err != nil {
		return nil, fmt.Errorf("write the script: %w", err)
	}
	return []byte(strings.ReplaceAll(b.String(), "\n", "\r\n")), nil
}

// comment keeps text on one line of a comment, in ASCII.
func comment(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

var errNotASCII = errors.New("a name of the custom role has characters that a script of Windows PowerShell can't have")

// quote returns s as a PowerShell string without expansion. PowerShell also
// takes typographic quotes for quotes, so only ASCII passes.
func quote(s string) (string, error) {
	if comment(s) != s {
		return "", fmt.Errorf("%q: %w", s, errNotASCII)
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'", nil
}

func quoteAll(list []string) (string, error) {
	quoted := make([]string, len(list))
	for i, s := range list {
		var err error
		if quoted[i], err = quote(s); err != nil {
			return "", err
		}
	}
	return strings.Join(quoted, ", "), nil
}

// powerShell is the call as PowerShell.
func (c Cmdlet) powerShell() (string, error) {
	var b strings.Builder
	b.WriteString(c.Name)
	for _, p := range c.Parameters {
		var value string
		var err error
		switch v := p.Value.(type) {
		case string:
			value, err = quote(v)
		case []string:
			value, err = quoteAll(v)
		case bool:
			value = map[bool]string{true: "$true", false: "$false"}[v]
		default:
			err = fmt.Errorf("parameter %s of %s has a value of type %T", p.Name, c.Name, p.Value)
		}
		if err != nil {
			return "", err
		}
		b.WriteString(" -" + p.Name + " " + value)
	}
	return b.String(), nil
}

// powerShell is the match as a table. Values that are not ASCII can't be in it;
// what they come from has been quoted, and so refused, before.
func (m Match) powerShell() string {
	properties := func(list []Property) string {
		parts := make([]string, 0, len(list))
		for _, p := range list {
			if p.Value == "" {
				continue
			}
			parts = append(parts, "@{ Name = '"+p.Name+"'; Value = '"+strings.ReplaceAll(comment(p.Value), "'", "''")+"' }")
		}
		return "@(" + strings.Join(parts, ", ") + ")"
	}
	within := make([]string, len(m.Within))
	for i, w := range m.Within {
		allow := make([]string, len(w.Allow))
		for j, a := range w.Allow {
			allow[j] = "'" + strings.ReplaceAll(comment(a), "'", "''") + "'"
		}
		within[i] = "@{ Name = '" + w.Name + "'; Allow = @(" + strings.Join(allow, ", ") + ") }"
	}
	return fmt.Sprintf("@{ Any = $%t; Where = %s; Has = %s; Equal = %s; Within = @(%s) }", m.Any, properties(m.Where), properties(m.Has), properties(m.Equal), strings.Join(within, ", "))
}
