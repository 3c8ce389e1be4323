package jobs_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/jobs"
	"holdfast/backup/outmail/outmailtest"
	"holdfast/store"
	"holdfast/store/storetest"
)

// monday is a Monday, after the hour of the summary.
var monday = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

// open are the kinds of an organization's open notifications, in order.
func open(t *testing.T, st *store.Store, org backup.OrgID) []string {
	t.Helper()
	list, err := st.OpenNotifications(t.Context(), org)
	if err != nil {
		t.Fatal(err)
	}
	kinds := []string{}
	for _, n := range list {
		kinds = append(kinds, string(n.Kind))
	}
	slices.Sort(kinds)
	return kinds
}

func TestNoticesFollowWhatIsSo(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx := t.Context()
		w := storetest.Fill(t, st)
		conn, _ := storetest.Connect(t, st, w.Ada, "tenant", storetest.Account("ada"))
		r := &jobs.Runner{Store: st, Log: slog.New(slog.DiscardHandler), PublicURL: "https://backup.example.org"}
		now := monday.Add(-2 * 24 * time.Hour) // no day for a summary
		want := func(when string, kinds ...backup.NotificationKind) {
			t.Helper()
			if err := r.Notice(ctx, now); err != nil {
				t.Fatal(err)
			}
			texts := []string{}
			for _, k := range kinds {
				texts = append(texts, string(k))
			}
			slices.Sort(texts)
			if got := open(t, st, w.Contoso.ID); !slices.Equal(got, texts) {
				t.Errorf("%s: %v are open, want %v", when, got, texts)
			}
			if got := open(t, st, w.Fabrikam.ID); len(got) != 0 {
				t.Errorf("%s: another organization has %v", when, got)
			}
		}
		want("in peace")

		role := backup.CustomRole{OrgID: conn.OrgID, ConnectionID: conn.ID, State: backup.RolePending, PendingSince: now.Add(-backup.RoleGiveUp + time.Minute)}
		save := func() {
			t.Helper()
			if err := st.SaveCustomRole(ctx, &role); err != nil {
				t.Fatal(err)
			}
		}
		save()
		want("pending for less than three days")
		now = now.Add(2 * time.Minute)
		want("pending for three days", backup.NotifyRolePending)
		first, err := st.OpenNotifications(ctx, w.Contoso.ID)
		if err != nil {
			t.Fatal(err)
		}
		now = now.Add(24 * time.Hour)
		want("the day after", backup.NotifyRolePending)
		if again, err := st.OpenNotifications(ctx, w.Contoso.ID); err != nil || again[0].ID != first[0].ID {
			t.Errorf("it is another event a day later: %v", err)
		}

		role.State = backup.RoleDisconnected
		save()
		want("disconnected", backup.NotifyConnectionProblem)
		role.State = backup.RoleConnected
		save()
		want("connected")
		role.State = backup.RoleDisconnected
		save()
		want("disconnected again", backup.NotifyConnectionProblem)
		role.State = backup.RoleConnected
		save()

		check := backup.PermissionCheck{OrgID: conn.OrgID, ConnectionID: conn.ID, CheckedAt: now, NextAt: now.Add(24 * time.Hour),
			Applications: []backup.ApplicationCheck{{Workload: backup.WorkloadMail, Read: true,
				Granted: []backup.GrantedRole{{ResourceID: backup.ResourceGraph, Name: "Mail.Read"}, {ResourceID: backup.ResourceGraph, Name: "Mail.ReadWrite"}}}}}
		if err := st.SavePermissionCheck(ctx, check); err != nil {
			t.Fatal(err)
		}
		want("a permission too many", backup.NotifyPermissionDrift)
		app := backup.SubApplication{ID: backup.NewID[backup.SubApplicationID](), OrgID: conn.OrgID, ConnectionID: conn.ID, Workload: backup.WorkloadExchange, DisplayName: "Holdfast Backup Exchange",
			State: backup.ApplicationReady, NotAfter: now.Add(13 * 24 * time.Hour)}
		saveApp := func() {
			t.Helper()
			if err := st.SaveSubApplication(ctx, app); err != nil {
				t.Fatal(err)
			}
		}
		saveApp()
		want("a certificate about to end", backup.NotifyPermissionDrift, backup.NotifyCredentialsExpire)
		app.NotAfter = now.Add(300 * 24 * time.Hour)
		app.Problem = backup.Problem{Kind: backup.ProblemApplicationOff, Text: "It is disabled. Enable it.", At: now}
		saveApp()
		want("an application disabled", backup.NotifyPermissionDrift, backup.NotifyConnectionProblem)
		if err := st.SetConnectionProblem(ctx, conn.OrgID, conn.ID, app.Problem); err != nil {
			t.Fatal(err)
		}
		want("the same said of the connection", backup.NotifyPermissionDrift, backup.NotifyConnectionProblem)
		if err := st.SetConnectionProblem(ctx, conn.OrgID, conn.ID, backup.Problem{}); err != nil {
			t.Fatal(err)
		}
		app.Problem = backup.Problem{}
		saveApp()
		check.Applications = []backup.ApplicationCheck{{Main: true, Problem: backup.ReportProblem(backup.Problem{Kind: backup.ProblemConsentMissing, Text: "Re-authenticate.", At: now})}}
		if err := st.SavePermissionCheck(ctx, check); err != nil {
			t.Fatal(err)
		}
		want("the main application's consent withdrawn", backup.NotifyConnectionProblem)
	})
}

func TestNotificationsGoOutOnceToEverybody(t *testing.T) {
	server := outmailtest.Start(t, backup.MailSTARTTLS)
	st := storetest.Open(t)
	ctx := t.Context()
	w := storetest.Fill(t, st)
	conn, _ := storetest.Connect(t, st, w.Ada, "tenant", storetest.Account("ada"))
	role := backup.CustomRole{OrgID: conn.OrgID, ConnectionID: conn.ID, State: backup.RolePending, PendingSince: time.Now().Add(-73 * time.Hour),
		Problem: backup.Problem{Kind: backup.ProblemRolePending, Text: "Exchange Online is not ready."}}
	if err := st.SaveCustomRole(ctx, &role); err != nil {
		t.Fatal(err)
	}
	r := &jobs.Runner{Store: st, Log: slog.New(slog.DiscardHandler), PublicURL: "https://backup.example.org", MailRoots: server.Roots}
	pending := func() backup.Notification {
		t.Helper()
		list, err := st.OpenNotifications(ctx, w.Contoso.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range list {
			if n.Kind == backup.NotifyRolePending {
				return n
			}
		}
		t.Fatal("nobody is owed anything")
		return backup.Notification{}
	}
	send := func() { // as the queue does, for those that are due
		t.Helper()
		if err := r.Notice(ctx, time.Now()); err != nil {
			t.Fatal(err)
		}
		if err := r.Notify(ctx, w.Contoso.ID, pending().ID); err != nil {
			t.Logf("sending: %v", err)
		}
	}

	send()
	if n := pending(); n.NextTryAt.Before(time.Now().Add(time.Hour)) || !strings.Contains(n.Problem, "No outgoing mail") {
		t.Errorf("without a mail server: next try %s, %q", n.NextTryAt, n.Problem)
	}
	broken := server.Settings(backup.MailSTARTTLS)
	broken.Port = 1
	for _, settings := range []backup.MailSettings{broken, server.Settings(backup.MailSTARTTLS)} {
		if err := st.SaveMailSettings(ctx, settings, w.Owner); err != nil {
			t.Fatal(err)
		}
		send()
		if n := pending(); settings.Port == 1 && (n.NextTryAt.IsZero() || n.Problem == "") {
			t.Errorf("with a server that is not there: next try %s, %q", n.NextTryAt, n.Problem)
		}
	}
	// The admin of the organization and the partner's owner; not the other organization's.
	messages := server.Messages(t, 2)
	to := []string{messages[0].To[0], messages[1].To[0]}
	slices.Sort(to)
	if !slices.Equal(to, []string{"ada@contoso.example", "dana@northwind.example"}) {
		t.Errorf("sent to %v", to)
	}
	for _, want := range []string{"Subject: Custom role still pending: Contoso", "https://backup.example.org/settings/credentials", "support"} {
		if !strings.Contains(strings.ReplaceAll(messages[0].Data, "=\r\n", ""), want) {
			t.Errorf("the message lacks %q: %s", want, messages[0].Data)
		}
	}
	// Retries of the role change nothing: it was told.
	for range 3 {
		role.Tries++
		if err := st.SaveCustomRole(ctx, &role); err != nil {
			t.Fatal(err)
		}
		send()
	}
	if n := pending(); !n.NextTryAt.IsZero() || n.Problem != "" {
		t.Errorf("it is still owed: %+v", n)
	}
	if n := len(server.Messages(t, 2)); n != 2 {
		t.Errorf("%d messages were sent, want 2", n)
	}
}

func TestNotificationsThatNobodyWants(t *testing.T) {
	st := storetest.Open(t)
	w := storetest.Fill(t, st)
	n := backup.Notification{ID: "n", PartnerID: w.Owner.Partner.ID, OrgID: w.Contoso.ID, Kind: backup.NotifyWeeklySummary}
	recipients := func() (mails []string) {
		t.Helper()
		people, err := st.NotificationRecipients(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range people {
			mails = append(mails, p.Email)
		}
		slices.Sort(mails)
		return mails
	}
	if got := recipients(); !slices.Equal(got, []string{"ada@contoso.example", "dana@northwind.example"}) {
		t.Errorf("recipients are %v", got)
	}
	if err := st.SetNotifications(t.Context(), "", map[backup.NotificationKind]bool{}, w.Owner); err != nil {
		t.Fatal(err)
	}
	if got := recipients(); !slices.Equal(got, []string{"ada@contoso.example"}) {
		t.Errorf("with the partner's switched off: %v", got)
	}
	if err := st.SetNotifications(t.Context(), w.Contoso.ID, map[backup.NotificationKind]bool{backup.NotifyBackupFailing: true}, w.Ada); err != nil {
		t.Fatal(err)
	}
	if got := recipients(); len(got) != 0 {
		t.Errorf("with both switched off: %v", got)
	}
}

// The week's summary comes on Mondays, once.
func TestWeeklySummary(t *testing.T) {
	st := storetest.Open(t)
	w := storetest.Fill(t, st)
	storetest.Connect(t, st, w.Ada, "tenant", storetest.Account("ada"))
	r := &jobs.Runner{Store: st, Log: slog.New(slog.DiscardHandler)}
	for _, c := range []struct {
		at   time.Time
		want int
	}{{monday.Add(-24 * time.Hour), 0}, {monday.Add(-3 * time.Hour), 0}, {monday, 1}, {monday.Add(time.Hour), 1}, {monday.Add(24 * time.Hour), 1}, {monday.Add(7 * 24 * time.Hour), 2}} {
		if err := r.Notice(context.WithoutCancel(t.Context()), c.at); err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, kind := range open(t, st, w.Contoso.ID) {
			if kind == string(backup.NotifyWeeklySummary) {
				n++
			}
		}
		if n != c.want {
			t.Errorf("on %s there are %d summaries, want %d", c.at.Format(time.RFC1123), n, c.want)
		}
	}
}
