package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestATypoInARecoveryKeyIsSaid types a key off with one character wrong, missing
// or too much.
func TestATypoInARecoveryKeyIsSaid(t *testing.T) {
	var out bytes.Buffer
	if err := keyGenerate(nil, func(string) string { return "" }, &out, os.Stderr); err != nil {
		t.Fatal(err)
	}
	printed := strings.TrimSpace(out.String())
	last := printed[:len(printed)-1]
	for name, c := range map[string]struct{ text, want string }{
		"as it was": {printed, ""},
		"another":   {last + map[bool]string{true: "P", false: "Q"}[printed[len(printed)-1] == 'Q'], "compare its characters"},
		"missing":   {last, "compare its characters"},
		"too much":  {printed + "Q", "compare its characters"},
		"no key":    {"age1qqqq", "holds no recovery key"},
	} {
		file := filepath.Join(t.TempDir(), "recovery.key")
		if err := os.WriteFile(file, []byte(c.text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := (&kitFlags{identity: file}).identities()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
