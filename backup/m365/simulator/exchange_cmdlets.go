package simulator

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

//go:embed testdata/microsoft/exchange-cmdlets.json
var cmdletReference []byte

// cmdletSyntax is what Microsoft's reference says about the parameters of a
// cmdlet (testdata/microsoft/exchange-cmdlets.json).
type cmdletSyntax struct {
	Name       string `json:"name"`
	Parameters []struct {
		Name    string   `json:"name"`
		Type    string   `json:"type"`
		Aliases []string `json:"aliases"`
		Online  bool     `json:"exchangeOnline"`
	} `json:"parameters"`
	Sets []struct {
		Name   string `json:"name"`
		Syntax string `json:"syntax"`
	} `json:"parameterSets"`

	types map[string]string // of the parameters that Exchange Online has, by name
	names map[string]string // name by lower-case name or alias
	sets  []parameterSet
}

// parameterSet is one of the ways to call a cmdlet: its parameters, and whether
// each must be given.
type parameterSet map[string]bool

// commonParameters work with every cmdlet and mean nothing here.
var commonParameters = []string{"Verbose", "Debug", "ErrorAction", "WarningAction", "InformationAction", "ErrorVariable", "WarningVariable", "InformationVariable", "OutVariable", "OutBuffer"}

// optionalAfterAll are parameters that the reference marks required and that
// its own examples leave out (auth.md 5.1).
var optionalAfterAll = map[string]string{"New-ServicePrincipal": "ServiceId"}

// loadCmdlets reads Microsoft's reference.
func loadCmdlets() (map[string]*cmdletSyntax, error) {
	var reference struct {
		Cmdlets []*cmdletSyntax `json:"cmdlets"`
	}
	if err := json.Unmarshal(cmdletReference, &reference); err != nil {
		return nil, fmt.Errorf("cmdlet reference: %w", err)
	}
	all := map[string]*cmdletSyntax{}
	for _, c := range reference.Cmdlets {
		c.types, c.names = map[string]string{}, map[string]string{}
		for _, p := range c.Parameters {
			if !p.Online {
				continue
			}
			c.types[p.Name] = p.Type
			for _, n := range append(p.Aliases, p.Name) {
				c.names[strings.ToLower(n)] = p.Name
			}
		}
		c.readSets()
		all[strings.ToLower(c.Name)] = c
	}
	return all, nil
}

// readSets reads the parameter sets that Exchange Online has: not those that
// need a parameter of servers on premises, or differ from the others by such
// parameters only.
func (c *cmdletSyntax) readSets() {
	in := map[string]int{}
	var all []parameterSet
	for _, line := range c.Sets {
		set, usable := parseSyntax(line.Syntax, optionalAfterAll[c.Name]), true
		for name, must := range set {
			_, online := c.types[name]
			usable = usable && (online || !must)
		}
		if !usable {
			continue
		}
		all = append(all, set)
		for name := range set {
			in[name]++
		}
	}
	for _, set := range all {
		own, online := 0, 0
		for name := range set {
			if in[name] < len(all) {
				own++
				if _, ok := c.types[name]; ok {
					online++
				}
			}
		}
		if own == 0 || online > 0 {
			c.sets = append(c.sets, set)
		}
	}
}

// syntaxPart matches a parameter in a line of syntax: [[-A] <T>] and [-A <T>]
// are optional; [-A] <T>, whose name may be left out, and -A <T> are not.
var syntaxPart = regexp.MustCompile(`\[\[-(\w+)\][^\]]*\]|\[-(\w+)\] <|\[-(\w+)[^\]]*(?:\[\][^\]]*)?\]|-(\w+)`)

func parseSyntax(line, optional string) parameterSet {
	set := parameterSet{}
	_, line, _ = strings.Cut(line, " ")
	for _, m := range syntaxPart.FindAllStringSubmatch(strings.ReplaceAll(line, "[]>", ">"), -1) {
		switch {
		case m[1] != "" || m[3] != "":
			set[m[1]+m[3]] = false
		default:
			set[m[2]+m[4]] = m[2]+m[4] != optional
		}
	}
	return set
}

// parameters are the arguments of a call by the reference's names.
type parameters map[string]any

// check reads the arguments of a call: each must exist in Exchange Online and
// have the right type, and together they must be one parameter set.
func (c *cmdletSyntax) check(given map[string]any) (parameters, *cmdletError) {
	p := parameters{}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if slices.ContainsFunc(commonParameters, func(n string) bool { return strings.EqualFold(n, name) }) || strings.HasSuffix(name, "@odata.type") {
			continue
		}
		known, ok := c.names[strings.ToLower(name)]
		if !ok {
			return nil, bindingError("NamedParameterNotFound", "A parameter cannot be found that matches parameter name '%s'.", name)
		}
		value, ok := convert(c.types[known], given[name])
		if !ok {
			return nil, bindingError("CannotConvertArgument", "Cannot process argument transformation on parameter '%s'. Cannot convert value to type \"%s\".", known, c.types[known])
		}
		if value != nil {
			p[known] = value
		}
	}
	return p, c.oneSet(p)
}

// oneSet says what is wrong unless the arguments are those of a parameter set.
func (c *cmdletSyntax) oneSet(p parameters) *cmdletError {
	var missing []string
	fits := false
	for _, set := range c.sets {
		if slices.ContainsFunc(slices.Collect(maps.Keys(p)), func(name string) bool { _, ok := set[name]; return !ok }) {
			continue
		}
		var lacks []string
		for name, must := range set {
			if _, ok := p[name]; must && !ok {
				lacks = append(lacks, name)
			}
		}
		if len(lacks) == 0 {
			return nil
		}
		if slices.Sort(lacks); !fits || len(lacks) < len(missing) {
			missing = lacks
		}
		fits = true
	}
	if fits {
		return bindingError("MissingMandatoryParameter", "Cannot process command because of one or more missing mandatory parameters: %s.", strings.Join(missing, " "))
	}
	return bindingError("AmbiguousParameterSet", "Parameter set cannot be resolved using the specified named parameters.")
}

// convert brings a JSON value into the type of a parameter: bool, string or
// []string. null counts as not given.
func convert(kind string, value any) (any, bool) {
	switch v := value.(type) {
	case nil:
		return nil, true
	case bool:
		return v, kind == "SwitchParameter" || kind == "Boolean"
	case string:
		if kind == "SwitchParameter" || kind == "Boolean" {
			return nil, false
		}
		if isList(kind) {
			return []string{v}, true
		}
		return v, true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), kind != "SwitchParameter" && kind != "Boolean"
	case []any:
		list := []string{}
		for _, e := range v {
			text, ok := e.(string)
			if !ok {
				return nil, false
			}
			list = append(list, text)
		}
		return list, isList(kind)
	}
	return nil, false // hash tables are for parameters that no cmdlet here has
}

func isList(kind string) bool { return strings.HasSuffix(kind, "[]") || kind == "MultiValuedProperty" }

func (p parameters) text(name string) string   { v, _ := p[name].(string); return v }
func (p parameters) list(name string) []string { v, _ := p[name].([]string); return v }
func (p parameters) flag(name string) bool     { v, _ := p[name].(bool); return v }
func (p parameters) given(name string) bool    { _, ok := p[name]; return ok }

// roleEntry is how Get-ManagementRole writes a cmdlet of a role.
func roleEntry(name string, c *cmdletSyntax) string {
	entry := "(Microsoft.Exchange.Management.PowerShell.E2010) " + name
	if c == nil {
		return entry
	}
	for _, p := range slices.Sorted(maps.Keys(c.types)) {
		entry += " -" + p
	}
	return entry
}
