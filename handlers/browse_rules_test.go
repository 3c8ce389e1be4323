package handlers

import (
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/views"
)

func TestParseMoment(t *testing.T) {
	for given, want := range map[string]string{
		"2026-11-23T10:00:00Z":      "2026-11-23T10:00:00Z",
		"2026-11-23T10:00:00+02:00": "2026-11-23T08:00:00Z",
		"2026-11-23T10:00":          "2026-11-23T10:00:59Z", // to the end of that minute
		"2026-11-23 10:00":          "2026-11-23T10:00:59Z",
		"2026-11-23":                "2026-11-23T23:59:59Z",
		"23.11.2026":                "",
		"":                          "",
		"99999999999999999999":      "",
	} {
		got, ok := parseMoment(given)
		if !ok && want == "" {
			continue
		}
		if text := got.UTC().Truncate(time.Second).Format(time.RFC3339); !ok || text != want {
			t.Errorf("parseMoment(%q) = %s, %t; want %q", given, text, ok, want)
		}
	}
}

func TestFolderTreeKeepsEveryFolder(t *testing.T) {
	folders := []backup.Folder{
		{ID: "z", Name: "Zebra"}, {ID: "in", Name: "Posteingang", WellKnown: "inbox"}, {ID: "a", ParentID: "in", Name: "alpha"}, {ID: "b", ParentID: "in", Name: "Beta"},
		{ID: "lost", ParentID: "gone", Name: "Parent is not there"},
		{ID: "self", ParentID: "self", Name: "Below itself"},
		{ID: "x", ParentID: "y", Name: "X below Y"}, {ID: "y", ParentID: "x", Name: "Y below X"}, {ID: "under", ParentID: "x", Name: "Under the circle"},
	}
	tree := folderTree(folders)
	seen := map[string]bool{}
	var walk func([]*views.FolderNode)
	walk = func(list []*views.FolderNode) {
		for _, n := range list {
			if seen[n.ID] {
				t.Fatalf("%s is there twice", n.ID)
			}
			seen[n.ID] = true
			walk(n.Children)
		}
	}
	walk(tree)
	if len(seen) != len(folders) {
		t.Errorf("%d folders are shown, want %d: %v", len(seen), len(folders), seen)
	}
	if tree[0].ID != "in" || len(tree[0].Children) != 2 || tree[0].Children[0].ID != "a" {
		t.Errorf("the inbox with its folders in order should be first: %+v", tree[0])
	}
}

func TestNotAuthorizedYetNamesTheReason(t *testing.T) {
	now := time.Now()
	code := backup.DeviceAttempt{Session: "mine", UserCode: "ABC", DeviceCode: backup.Secret("x"), ExpiresAt: now.Add(time.Minute)}
	late, theirs := code, code
	late.ExpiresAt, theirs.Session = now.Add(-time.Second), "theirs"
	blocked := backup.Problem{Kind: backup.ProblemDeviceBlocked, Text: "blocked"}
	texts := map[string]bool{}
	for name, test := range map[string]struct {
		auth backup.Authorization
		kind backup.ProblemKind
	}{
		"too early":     {backup.Authorization{Device: code}, backup.ProblemDevicePending},
		"too late":      {backup.Authorization{Device: late}, backup.ProblemDeviceExpired},
		"other browser": {backup.Authorization{Device: theirs}, backup.ProblemDevicePending},
		"no code":       {backup.Authorization{}, backup.ProblemDevicePending},
		"blocked":       {backup.Authorization{Device: code, Problem: blocked}, backup.ProblemDeviceBlocked},
	} {
		p := notAuthorizedYet(test.auth, "mine", now)
		if p.Kind != test.kind || p.Text == "" {
			t.Errorf("%s: %s %q", name, p.Kind, p.Text)
		}
		if texts[p.Text] {
			t.Errorf("%s: another case has the same sentence", name)
		}
		texts[p.Text] = true
	}
	if p := notAuthorizedYet(backup.Authorization{Device: late, Problem: unanswered(backup.Problem{Text: "Try again."})}, "mine", now); p.Kind != backup.ProblemDeviceExpired {
		t.Errorf("too late while Microsoft does not answer: %s %q", p.Kind, p.Text)
	}
}
