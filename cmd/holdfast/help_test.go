package main

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// commands lists the commands of the help, as they are called.
func commands(t *testing.T) (list [][]string) {
	t.Helper()
	for line := range strings.Lines(usage + keyUsage) {
		name, what, ok := strings.Cut(strings.TrimPrefix(line, "  "), "  ")
		if strings.HasPrefix(line, "  ") && ok && strings.TrimSpace(what) != "" && name != "key" && name != "version" {
			list = append(list, strings.Fields(name))
		}
	}
	if len(list) < 18 {
		t.Fatalf("the help lists %d commands: %q", len(list), list)
	}
	return list
}

func TestEachCommandSaysWhatItDoes(t *testing.T) {
	for _, name := range commands(t) {
		var out bytes.Buffer
		err := run(t.Context(), append(name, "-h"), func(string) string { return "" }, &out, &out)
		called := strings.Join(name, " ")
		if !errors.Is(err, flag.ErrHelp) || !strings.HasPrefix(out.String(), "Usage: holdfast "+called+" [flags]\n\n") || len(purpose(called)) < 10 || !strings.Contains(out.String(), purpose(called)) {
			t.Errorf("holdfast %s -h = %v:\n%s", called, err, out.String())
		}
		out.Reset()
		if err := run(t.Context(), append(name, "-nope"), func(string) string { return "" }, &out, &out); err == nil || !strings.Contains(err.Error(), "-nope; \"holdfast "+called+" -h\"") || out.Len() > 0 {
			t.Errorf("holdfast %s -nope = %v:\n%s", called, err, out.String())
		}
	}
}

func TestExitCodes(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]int{"": 2, "help": 0, "verify -h": 0, "key": 2, "key -h": 0, "audit -h": 0, "bogus": 1, "verify -nope": 1, "key bogus": 1} {
		cmd := exec.CommandContext(t.Context(), self, strings.Fields(args)...)
		cmd.Env = append(os.Environ(), "HOLDFAST_TEST_PROGRAM=1")
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != want || len(out) == 0 {
			t.Errorf("holdfast %s ended with %v, want %d:\n%s", args, err, want, out)
		}
	}
}

// TestToolsMakeNothing calls commands with a folder in which there is nothing: none
// says that all is well, or writes over a good recovery kit.
func TestToolsMakeNothing(t *testing.T) {
	public := "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
	for _, args := range [][]string{
		{"verify"}, {"verify", "-level", "all"}, {"repair"}, {"rebuild"}, {"expire"}, {"gc"}, {"audit", "verify"}, {"rekey", "-organization", "x"},
		{"key", "rotate", "-organization", "x"}, {"key", "export", "-recipient", public, "-kit", "KIT"}, {"export", "-organization", "x", "-out", "KIT"},
	} {
		dir := t.TempDir()
		kit := filepath.Join(dir, "kit")
		if err := os.WriteFile(kit, []byte("a good kit"), 0o600); err != nil {
			t.Fatal(err)
		}
		for i, a := range args {
			args[i] = strings.ReplaceAll(a, "KIT", kit)
		}
		data := filepath.Join(dir, "data")
		_, err := ran(t, append(args, "-data", data)...)
		if err == nil || !strings.Contains(err.Error(), "there is no root key in "+filepath.Join(data, "root.key")) {
			t.Errorf("holdfast %s: %v", strings.Join(args, " "), err)
		}
		if made, _ := filepath.Glob(filepath.Join(data, "*")); len(made) > 0 {
			t.Errorf("holdfast %s made %q", strings.Join(args, " "), made)
		}
		if text, err := os.ReadFile(kit); err != nil || string(text) != "a good kit" {
			t.Errorf("holdfast %s wrote %q over the kit, %v", strings.Join(args, " "), text, err)
		}
	}
}

// TestNoKeyIsMadeForADatabaseThatHasOne loses the key, then the database.
func TestNoKeyIsMadeForADatabaseThatHasOne(t *testing.T) {
	data := t.TempDir()
	st, _ := openAt(t, data)
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := ran(t, "verify", "-data", data); err == nil || !strings.Contains(err.Error(), "no organization, so there was nothing to do") {
		t.Errorf("verify of nothing = %v", err)
	}
	key, database := filepath.Join(data, "root.key"), filepath.Join(data, "holdfast.db")
	if err := os.Rename(key, key+".away"); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"serve", "verify"} {
		if _, err := ran(t, command, "-data", data); err == nil || !strings.Contains(err.Error(), "there is no root key in "+key) {
			t.Errorf("%s without the key = %v", command, err)
		}
	}
	if _, err := os.Stat(key); err == nil {
		t.Error("another key was made")
	}
	if err := errors.Join(os.Rename(key+".away", key), os.Remove(database)); err != nil {
		t.Fatal(err)
	}
	if _, err := ran(t, "verify", "-data", data); err == nil || !strings.Contains(err.Error(), "there is no database in "+database) {
		t.Errorf("verify without the database = %v", err)
	}
}
