package backup_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestMailboxStatus(t *testing.T) {
	ok := backup.Mailbox{Licence: backup.LicenceValid, LastRunAt: noon, Items: 5}
	with := func(change func(*backup.Mailbox)) backup.Mailbox {
		m := ok
		change(&m)
		return m
	}
	for name, c := range map[string]struct {
		mailbox backup.Mailbox
		want    backup.Status
	}{
		"backed up":                    {ok, backup.StatusProtected},
		"never run":                    {with(func(m *backup.Mailbox) { m.LastRunAt = time.Time{}; m.Items = 0 }), backup.StatusPending},
		"running":                      {with(func(m *backup.Mailbox) { m.Running = true }), backup.StatusPending},
		"running after failures":       {with(func(m *backup.Mailbox) { m.Running = true; m.Failures = 2 }), backup.StatusPending},
		"failed":                       {with(func(m *backup.Mailbox) { m.Failures = 1 }), backup.StatusFailing},
		"failed before its first":      {with(func(m *backup.Mailbox) { m.Failures = 1; m.LastRunAt = time.Time{} }), backup.StatusFailing},
		"nothing in it":                {with(func(m *backup.Mailbox) { m.Items = 0 }), backup.StatusEmpty},
		"no licence":                   {with(func(m *backup.Mailbox) { m.Licence = backup.LicenceNone }), backup.StatusInactive},
		"the provider says so":         {with(func(m *backup.Mailbox) { m.Problem.Kind = backup.ProblemMailboxInactive }), backup.StatusInactive},
		"licence in its grace time":    {with(func(m *backup.Mailbox) { m.Licence = backup.LicenceGrace }), backup.StatusProtected},
		"shared":                       {with(func(m *backup.Mailbox) { m.Licence = backup.LicenceNotNeeded }), backup.StatusProtected},
		"a person stopped it":          {with(func(m *backup.Mailbox) { m.Deactivated = backup.DeactivatedManual; m.Licence = backup.LicenceNone }), backup.StatusDeactivated},
		"deleted while it was running": {with(func(m *backup.Mailbox) { m.Deactivated = backup.DeactivatedDeleted; m.Running = true }), backup.StatusDeactivated},
	} {
		if got := backup.MailboxStatus(c.mailbox); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestNextRun(t *testing.T) {
	for _, c := range []struct {
		status   backup.Status
		failures int
		asked    time.Duration
		want     time.Duration // -1 for never
	}{
		{backup.StatusProtected, 0, 0, time.Hour},
		{backup.StatusEmpty, 0, 0, 24 * time.Hour},
		{backup.StatusFailing, 1, 0, 5 * time.Minute},
		{backup.StatusFailing, 3, 0, 20 * time.Minute},
		{backup.StatusFailing, 4, 0, 40 * time.Minute},
		{backup.StatusFailing, 5, 0, time.Hour},
		{backup.StatusFailing, 1000, 0, time.Hour},
		{backup.StatusFailing, 1, 2 * time.Hour, 2 * time.Hour},
		{backup.StatusInactive, 0, 0, -1},
		{backup.StatusDeactivated, 3, time.Minute, -1},
	} {
		got := backup.NextRun(noon, time.Hour, c.status, c.failures, c.asked)
		if c.want < 0 {
			if !got.IsZero() {
				t.Errorf("%s after %d failures: %s, want never", c.status, c.failures, got)
			}
			continue
		}
		if got.Sub(noon) != c.want {
			t.Errorf("%s after %d failures: in %s, want %s", c.status, c.failures, got.Sub(noon), c.want)
		}
	}
}

func TestNextRoleTry(t *testing.T) {
	for _, c := range []struct {
		age   time.Duration
		tries int
		want  time.Duration
	}{
		{0, 0, time.Minute}, {time.Minute, 1, 2 * time.Minute}, {20 * time.Minute, 4, 20 * time.Minute},
		{time.Hour, 5, 30 * time.Minute}, {7 * time.Hour, 20, 2 * time.Hour}, {69 * time.Hour, 60, 2 * time.Hour}, {71 * time.Hour, 61, 24 * time.Hour}, {90 * time.Hour, 62, 24 * time.Hour},
	} {
		got := backup.NextRoleTry(noon.Add(-c.age), noon, c.tries)
		if got.Sub(noon) != c.want {
			t.Errorf("pending for %s after %d tries: %s, want %s", c.age, c.tries, got.Sub(noon), c.want)
		}
	}
}

func TestPermissionsAreThoseOfTheWorkloads(t *testing.T) {
	for _, p := range backup.Permissions(nil) {
		if p.Standing || p.Type != backup.Delegated {
			t.Errorf("%s stands without a workload", p.Name)
		}
	}
	for _, p := range backup.Permissions([]backup.Workload{backup.WorkloadMail, backup.WorkloadExchange}) {
		if p.Purpose == "" || len(p.ID) != 36 {
			t.Errorf("%s has no purpose or identifier", p.Name)
		}
		if p.Standing && strings.Contains(p.Name, "Write") {
			t.Errorf("%s writes, and stands", p.Name)
		}
	}
}

func TestPasswordRules(t *testing.T) {
	for password, valid := range map[string]bool{
		"twelve chars": true, "eleven char": false, "ada@example.org": false, strings.Repeat("x", 257): false, "zwölf Zeiche": true, "": false,
	} {
		if err := backup.ValidatePassword(password, "Ada@Example.org"); (err == nil) != valid {
			t.Errorf("%q: %v, want valid %t", password, err, valid)
		}
	}
}

func TestEmailAddresses(t *testing.T) {
	for address, valid := range map[string]bool{
		"ada@example.org": true, "Ada <ada@example.org>": false, "bob at home": false, "": false, "a@b@c": false, strings.Repeat("a", 250) + "@b.org": false,
	} {
		if backup.ValidEmail(address) != valid {
			t.Errorf("%q: want valid %t", address, valid)
		}
	}
}

func TestSecretShowsNowhere(t *testing.T) {
	secret := struct{ Token backup.Secret }{backup.Secret("the token itself")}
	data, err := json.Marshal(secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{string(data), fmt.Sprint(secret), fmt.Sprintf("%v %+v %#v %s", secret, secret, secret, secret.Token), secret.Token.LogValue().String()} {
		if strings.Contains(text, "the token") {
			t.Errorf("%q shows the secret", text)
		}
	}
}

func TestAsProblemKeepsTheCause(t *testing.T) {
	cause := errors.New("cause")
	p := &backup.Problem{Kind: backup.ProblemThrottled, Err: cause}
	if got := backup.AsProblem(fmt.Errorf("outer: %w", p)); got != p {
		t.Errorf("AsProblem = %v, want the problem in the chain", got)
	}
	unknown := backup.AsProblem(cause)
	if unknown.Kind != backup.ProblemUnknown || !errors.Is(unknown, cause) || unknown.Text == "" || strings.Contains(unknown.Text, "cause") {
		t.Errorf("AsProblem of an unknown error = %+v", unknown)
	}
	if backup.AsProblem(nil) != nil {
		t.Error("AsProblem(nil) is not nil")
	}
}

func TestActingEnds(t *testing.T) {
	a := backup.Acting{ID: "x", StartedAt: noon, EndsAt: noon.Add(backup.ActingMax)}
	if !a.Active(noon.Add(59*time.Minute)) || a.Active(noon.Add(time.Hour)) {
		t.Error("acting lasts 60 minutes")
	}
	a.EndedAt = noon.Add(time.Minute)
	if a.Active(noon.Add(2 * time.Minute)) {
		t.Error("acting that was stopped lasts")
	}
}
