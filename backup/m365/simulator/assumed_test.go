package simulator_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every assumption of the code has a row in docs/assumed.md, and every row is
// about code that is there.
func TestAssumptionsAreListed(t *testing.T) {
	page, err := os.ReadFile("../../../docs/assumed.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\| ([a-z0-9-]+) \|`).FindAllStringSubmatch(string(page), -1) {
		if m[1] != "name" {
			listed[m[1]] = false
		}
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	mark := regexp.MustCompile(`assumed: ([a-z0-9-]+)`)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range mark.FindAllStringSubmatch(string(source), -1) {
			if _, ok := listed[m[1]]; !ok {
				t.Errorf("%s assumes %s, which docs/assumed.md does not list", file, m[1])
			}
			listed[m[1]] = true
		}
	}
	for name, used := range listed {
		if !used {
			t.Errorf("docs/assumed.md lists %s, which no code assumes", name)
		}
	}
}
