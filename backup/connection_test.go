package backup

import (
	"strings"
	"testing"
	"time"
)

func TestTroubleOfAnApplication(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	whole := SubApplication{State: ApplicationReady, PrivateKey: Secret("k"), NotAfter: now.Add(200 * day)}
	failed := Problem{Kind: ProblemPolicy, Text: "A policy forbids it."}
	for _, test := range []struct {
		name string
		set  func(*SubApplication)
		kind ProblemKind
		due  bool
	}{
		{"whole", func(*SubApplication) {}, "", false},
		{"31 days left", func(a *SubApplication) { a.NotAfter = now.Add(31 * day) }, "", false},
		{"30 days left", func(a *SubApplication) { a.NotAfter = now.Add(30 * day) }, "", true},
		{"failed, 20 days left", func(a *SubApplication) { a.NotAfter, a.RollError = now.Add(20*day), failed }, "", true},
		{"failed, to be tried later", func(a *SubApplication) {
			a.NotAfter, a.RollError, a.RollAt = now.Add(20*day), failed, now.Add(time.Hour)
		}, "", false},
		{"failed, 13 days left", func(a *SubApplication) { a.NotAfter, a.RollError = now.Add(13*day), failed }, ProblemCredential, true},
		{"refused", func(a *SubApplication) { a.Problem = Problem{Kind: ProblemApplicationOff, Text: "Off."} }, ProblemApplicationOff, false},
		{"repair given up", func(a *SubApplication) { a.State = ApplicationBroken }, ProblemApplicationGone, false},
		{"change under way", func(a *SubApplication) { a.Next.PrivateKey = Secret("n") }, "", true},
		{"old one to be removed", func(a *SubApplication) { a.OldKeyID, a.RollAt = "k", now.Add(-time.Hour) }, "", true},
	} {
		a := whole
		test.set(&a)
		if p := a.Trouble(now); p.Kind != test.kind || a.RollDue(now) != test.due {
			t.Errorf("%s: trouble %q, due %t; want %q, %t", test.name, p.Kind, a.RollDue(now), test.kind, test.due)
		}
	}
	soon := whole
	soon.NotAfter, soon.RollError = now.Add(13*day), failed
	if text := soon.Trouble(now).Text; !strings.Contains(text, "6 December 2026") || !strings.Contains(text, failed.Text) {
		t.Errorf("text %q", text)
	}
}
