package m365_test

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/m365"
)

var (
	scriptConn = backup.Connection{TenantID: "11111111-2222-3333-4444-555555555555", TenantDomain: "contosodental.onmicrosoft.com"}
	scriptApp  = backup.SubApplication{AppID: "aaaaaaaa-2222-3333-4444-555555555555", PrincipalID: "bbbbbbbb-2222-3333-4444-555555555555", DisplayName: "Holdfast Backup Exchange"}
)

func script(t *testing.T, conn backup.Connection, app backup.SubApplication) string {
	t.Helper()
	text, err := m365.Script(conn, app, time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// described is what Microsoft's reference says of a cmdlet.
type described struct {
	ParameterSets []struct{ Name string }
	Parameters    []struct {
		Name           string
		ParameterSets  []string
		ExchangeOnline bool
	}
}

// takes says whether one parameter set has all of the parameters given.
func (d described) takes(given []string) bool {
	for _, set := range d.ParameterSets {
		has := func(name string) bool {
			for _, p := range d.Parameters {
				if p.Name == name && p.ExchangeOnline && (slices.Contains(p.ParameterSets, set.Name) || slices.Contains(p.ParameterSets, "(All)")) {
					return true
				}
			}
			return false
		}
		if !slices.ContainsFunc(given, func(name string) bool { return !has(name) }) {
			return true
		}
	}
	return false
}

func cmdlets(t *testing.T) (known map[string]described, common []string) {
	t.Helper()
	data, err := os.ReadFile("simulator/testdata/microsoft/exchange-cmdlets.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		CommonParameters []string
		Cmdlets          []struct {
			Name           string
			ExchangeOnline bool
			described
		}
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	known = map[string]described{}
	for _, c := range file.Cmdlets {
		if c.ExchangeOnline {
			known[c.Name] = c.described
		}
	}
	return known, file.CommonParameters
}

// call is a cmdlet's name and what follows it up to the end of the command.
var (
	call      = regexp.MustCompile(`\b([A-Z][a-z]+-[A-Z][A-Za-z]+)\b([^\r\n|;{}()]*)`)
	parameter = regexp.MustCompile(`(?:^|\s)-([A-Za-z]+)`)
	text      = regexp.MustCompile(`'[^']*'|"[^"]*"`)
)

// ofPowerShell are the commands of PowerShell itself and its gallery.
var ofPowerShell = []string{"ForEach-Object", "Get-Command", "Get-Module", "Import-Module", "Install-Module", "New-Object", "Out-Null", "Select-Object",
	"Start-Sleep", "Where-Object", "Write-Host"}

func TestScriptCallsWhatExists(t *testing.T) {
	known, common := cmdlets(t)
	body := script(t, scriptConn, scriptApp)
	own := map[string]bool{}
	for _, f := range regexp.MustCompile(`function ([A-Za-z-]+)`).FindAllStringSubmatch(body, -1) {
		own[f[1]] = true
	}
	seen := map[string]bool{}
	for line := range strings.SplitSeq(body, "\r\n") {
		line = text.ReplaceAllString(line, "''")
		if strings.HasPrefix(strings.TrimSpace(line), "#") || strings.Contains(line, "function ") {
			continue
		}
		for _, c := range call.FindAllStringSubmatch(line, -1) {
			name := c[1]
			if own[name] || slices.Contains(ofPowerShell, name) {
				continue
			}
			d, ok := known[name]
			if !ok {
				t.Errorf("%s is no cmdlet of Exchange Online, of PowerShell, or of the script: %s", name, line)
				continue
			}
			seen[name] = true
			// A cmdlet of a module does not see the script's $ErrorActionPreference.
			if !strings.Contains(c[2], " -ErrorAction ") {
				t.Errorf("%s would be taken for done when it fails: %s", name, line)
			}
			var given []string
			for _, p := range parameter.FindAllStringSubmatch(c[2], -1) {
				if !slices.Contains(common, p[1]) {
					given = append(given, p[1])
				}
			}
			if !d.takes(given) {
				t.Errorf("%s has no parameter set with %s", name, strings.Join(given, ", "))
			}
		}
	}
	for _, step := range m365.RoleSteps(scriptApp) {
		for _, c := range []m365.Cmdlet{step.Check, step.Change} {
			if c.Name != "" && !seen[c.Name] {
				t.Errorf("the script does not call %s, as the automated flow does; it calls %v", c.Name, slices.Sorted(maps.Keys(seen)))
			}
		}
	}
}

// TestScriptRunsTheStepsOfThePortal compares the script, call by call, with the
// list that the portal runs.
func TestScriptRunsTheStepsOfThePortal(t *testing.T) {
	body := script(t, scriptConn, scriptApp)
	at := 0
	for _, step := range m365.RoleSteps(scriptApp) {
		for _, c := range []m365.Cmdlet{step.Check, step.Change} {
			if c.Name == "" {
				continue
			}
			want := "{ " + c.Name
			for _, p := range c.Parameters {
				switch v := p.Value.(type) {
				case string:
					want += " -" + p.Name + " '" + strings.ReplaceAll(v, "'", "''") + "'"
				case []string:
					want += " -" + p.Name + " '" + strings.Join(v, "', '") + "'"
				}
			}
			i := strings.Index(body[at:], want+" -ErrorAction Stop }")
			if i < 0 {
				t.Fatalf("after byte %d the script does not have %s", at, want)
			}
			at += i
		}
	}
}

func TestScriptIsPlainAndHoldsNoSecret(t *testing.T) {
	app := scriptApp
	app.PrivateKey, app.Certificate = backup.Secret("the private key"), []byte("certificate")
	conn := scriptConn
	conn.TenantDomain = "evil.example\r\nRemove-Mailbox; ‘’$(calc)`"
	body := script(t, conn, app)
	for i, b := range []byte(body) {
		if b > '~' || b < ' ' && b != '\r' && b != '\n' {
			t.Fatalf("byte %d is %#x, want ASCII", i, b)
		}
	}
	if strings.Count(body, "\n") != strings.Count(body, "\r\n") || strings.Contains(body, "the private key") {
		t.Error("line ends are mixed, or the script has a secret")
	}
	for line := range strings.SplitSeq(body, "\r\n") {
		if strings.Contains(line, "Remove-Mailbox") && !strings.HasPrefix(line, "#") {
			t.Errorf("a name of the tenant became code: %s", line)
		}
	}
	app.DisplayName = "O'Neil's $(calc) `app"
	if body := script(t, scriptConn, app); !strings.Contains(body, "-DisplayName 'O''Neil''s $(calc) `app'") {
		t.Error("a quote in a name is not doubled")
	}
	app.DisplayName = "typographic ’ quote"
	if _, err := m365.Script(scriptConn, app, time.Now()); err == nil {
		t.Error("a typographic quote, which ends a PowerShell string, passed")
	}
	for _, wrong := range []backup.SubApplication{{AppID: "x", PrincipalID: scriptApp.PrincipalID}, {AppID: scriptApp.AppID, PrincipalID: "'; calc; '"}, {}} {
		if _, err := m365.Script(scriptConn, wrong, time.Now()); err == nil {
			t.Errorf("%+v passed", wrong)
		}
	}
}

// TestScriptIsPowerShell parses the script with a grammar of PowerShell
// (tree-sitter-powershell), and makes sure that the grammar sees mistakes.
func TestScriptIsPowerShell(t *testing.T) {
	if os.Getenv("HOLDFAST_TEST_POWERSHELL") == "" {
		t.Skip("HOLDFAST_TEST_POWERSHELL is not set")
	}
	dir := t.TempDir()
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	run("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "tree-sitter-powershell@0.26.4", "web-tree-sitter@0.27.1")
	for name, body := range map[string]string{"parse.mjs": parseScript, "good.ps1": script(t, scriptConn, scriptApp),
		"bad.ps1": strings.Replace(script(t, scriptConn, scriptApp), "finally {", "finally (", 1)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out := run("node", "parse.mjs", "good.ps1"); out != "" {
		t.Errorf("the script is no PowerShell:\n%s", out)
	}
	if out := run("node", "parse.mjs", "bad.ps1"); out == "" {
		t.Error("the grammar takes a broken script")
	}
}

// parseScript prints the places of a file that the grammar does not understand.
const parseScript = `
import {Parser, Language} from 'web-tree-sitter';
import {readFileSync} from 'fs';
await Parser.init();
const parser = new Parser();
parser.setLanguage(await Language.load('node_modules/tree-sitter-powershell/tree-sitter-powershell.wasm'));
const text = readFileSync(process.argv[2], 'utf8');
const walk = node => {
  if (node.isError || node.isMissing) console.log((node.startPosition.row + 1) + ': ' + text.split('\n')[node.startPosition.row]);
  for (let i = 0; i < node.childCount; i++) walk(node.child(i));
};
walk(parser.parse(text).rootNode);
`
