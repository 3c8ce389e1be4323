package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/store"
	"holdfast/store/storetest"
)

func isNotFound(err error) bool { return errors.Is(err, backup.ErrNotFound) }

// theirs is what Contoso has, and Fabrikam must never reach.
type theirs struct {
	w       storetest.World
	conn    backup.Connection
	mailbox backup.Mailbox
	app     backup.SubApplication
	role    backup.CustomRole
	auth    backup.Authorization
	run     backup.Run
	restore backup.Restore
	imap    backup.Connection
	account backup.IMAPAccount
}

func fillTheirs(t *testing.T, st *store.Store) theirs {
	t.Helper()
	ctx, v := t.Context(), theirs{w: storetest.Fill(t, st)}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	conn, boxes := storetest.Connect(t, st, v.w.Ada, "tenant-1", storetest.Account("a"))
	v.conn, v.mailbox = conn, boxes["a"]
	v.app = backup.SubApplication{ID: "APP", OrgID: v.w.Contoso.ID, ConnectionID: conn.ID, Workload: backup.WorkloadMail, DisplayName: "Mail", State: backup.ApplicationReady, PrivateKey: backup.Secret("key")}
	must(st.SaveSubApplication(ctx, v.app))
	var imapErr error
	v.imap, imapErr = st.CreateIMAPConnection(ctx, backup.IMAPServer{Host: "imap.contoso.example", Port: 993, Security: backup.IMAPTLS, SignIn: backup.IMAPPassword},
		[]backup.IMAPAccount{{Address: "ada@contoso.example", User: "ada", Secret: backup.Secret("secret of ada")}}, v.w.Ada)
	must(imapErr)
	accounts, imapErr := st.IMAPAccounts(ctx, v.w.Contoso.ID, v.imap.ID)
	must(imapErr)
	v.account = accounts[0]
	v.role = backup.CustomRole{OrgID: v.w.Contoso.ID, ConnectionID: conn.ID, State: backup.RolePending}
	must(st.SaveCustomRole(ctx, &v.role))
	var err error
	v.auth, err = st.StartAuthorization(ctx, backup.Authorization{OrgID: v.w.Contoso.ID, ConnectionID: conn.ID, Provider: backup.ProviderMicrosoft365, Step: backup.StepConsent,
		SignIn: backup.SignInAttempt{State: "state-of-contoso"}}, v.w.Ada)
	must(err)
	must(st.StartUpkeep(ctx, v.w.Contoso.ID, backup.UpkeepProveItem))
	must(st.NoteDamage(ctx, backup.Damage{OrgID: v.w.Contoso.ID, Object: "item", MailboxID: v.mailbox.ID, Record: 1, How: "damaged"}))
	v.run = backup.Run{ID: "RUN", OrgID: v.w.Contoso.ID, MailboxID: v.mailbox.ID, State: backup.RunRunning, Trigger: "first", StartedAt: time.Now(), BeatAt: time.Now()}
	must(st.StartRun(ctx, v.run))
	must(st.ApplyCommit(ctx, v.w.Contoso.ID, v.mailbox.ID, engine.Delta{Seq: 1, At: time.Now(), NextNumber: 1}))
	v.restore, err = st.StartRestore(ctx, backup.Restore{OrgID: v.w.Contoso.ID, MailboxID: v.mailbox.ID, Snapshot: 1, Scope: backup.RestoreMailbox,
		TargetID: v.mailbox.ID, Place: backup.PlaceOriginal, State: backup.RestoreQueued}, v.w.Ada)
	must(err)
	must(st.SaveRestoreGrant(ctx, backup.RestoreGrant{OrgID: v.w.Contoso.ID, ConnectionID: conn.ID, AdminUPN: "admin@contoso.example", GrantedAt: time.Now(), EndsAt: time.Now()}))
	return v
}

// TestAnotherOrganizationReachesNothing calls every method that takes an
// organization and an identifier as Fabrikam with Contoso's identifiers.
func TestAnotherOrganizationReachesNothing(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		v := fillTheirs(t, st)
		me, by := v.w.Fabrikam.ID, v.w.Otto
		stranger := backup.PartnerID("another partner")
		one := func(_ any, err error) error { return err }
		app, role, auth, run := v.app, v.role, v.auth, v.run
		app.OrgID, role.OrgID, auth.OrgID, run.OrgID = me, me, me, me
		newApp, newRole, newRun := app, role, run
		newApp.ID, newApp.Workload, newRole.ID, newRun.ID = "APP2", backup.WorkloadExchange, "", "RUN2"
		calls := map[string]func(ctx context.Context) error{
			"Organization":         func(ctx context.Context) error { return one(st.Organization(ctx, stranger, v.w.Contoso.ID)) },
			"SetManualRole":        func(ctx context.Context) error { return st.SetManualRole(ctx, stranger, v.w.Contoso.ID, true, by) },
			"Connection":           func(ctx context.Context) error { return one(st.Connection(ctx, me, v.conn.ID)) },
			"SetConnectionProblem": func(ctx context.Context) error { return st.SetConnectionProblem(ctx, me, v.conn.ID, backup.Problem{}) },
			"SetConnectionListed":  func(ctx context.Context) error { return st.SetConnectionListed(ctx, me, v.conn.ID, time.Now()) },
			"DeleteConnection":     func(ctx context.Context) error { return st.DeleteConnection(ctx, me, v.conn.ID) },
			"SaveConnection": func(ctx context.Context) error {
				c := v.conn
				c.OrgID, c.TenantID = me, "tenant-2"
				return st.SaveConnection(ctx, c, by)
			},
			"SaveSubApplication":               func(ctx context.Context) error { return st.SaveSubApplication(ctx, app) },
			"SaveSubApplication, of their own": func(ctx context.Context) error { return st.SaveSubApplication(ctx, newApp) },
			"CustomRole":                       func(ctx context.Context) error { return one(st.CustomRole(ctx, me, v.conn.ID)) },
			"CustomRoleByID":                   func(ctx context.Context) error { return one(st.CustomRoleByID(ctx, me, v.role.ID)) },
			"SaveCustomRole":                   func(ctx context.Context) error { return st.SaveCustomRole(ctx, &role) },
			"Authorization":                    func(ctx context.Context) error { return one(st.Authorization(ctx, me, v.auth.ID)) },
			"AuthorizationByState":             func(ctx context.Context) error { return one(st.AuthorizationByState(ctx, me, "state-of-contoso")) },
			"ActiveAuthorization":              func(ctx context.Context) error { return one(st.ActiveAuthorization(ctx, me)) },
			"LatestAuthorization":              func(ctx context.Context) error { return one(st.LatestAuthorization(ctx, me)) },
			"Mailbox":                          func(ctx context.Context) error { return one(st.Mailbox(ctx, me, v.mailbox.ID)) },
			"SaveMailboxRetention": func(ctx context.Context) error {
				return st.SaveMailboxRetention(ctx, me, []backup.MailboxID{v.mailbox.ID}, backup.Retention{Mode: backup.RetainAll}, by)
			},
			"SetMailboxHold":        func(ctx context.Context) error { return st.SetMailboxHold(ctx, me, v.mailbox.ID, "mine now", by) },
			"LiftMailboxHold":       func(ctx context.Context) error { return st.LiftMailboxHold(ctx, me, v.mailbox.ID, by) },
			"SetMailboxDeactivated": func(ctx context.Context) error { return st.SetMailboxDeactivated(ctx, me, v.mailbox.ID, true, by) },
			"BackUpNow":             func(ctx context.Context) error { return st.BackUpNow(ctx, me, v.mailbox.ID, by) },
			"UpsertMailboxes": func(ctx context.Context) error {
				return st.UpsertMailboxes(ctx, me, v.conn.ID, []backup.Mailbox{storetest.Account("b")})
			},
			"StartRun":    func(ctx context.Context) error { return st.StartRun(ctx, newRun) },
			"BeatRun":     func(ctx context.Context) error { return st.BeatRun(ctx, run) },
			"IMAPServer":  func(ctx context.Context) error { return one(st.IMAPServer(ctx, me, v.imap.ID)) },
			"IMAPAccount": func(ctx context.Context) error { return one(st.IMAPAccount(ctx, me, v.imap.ID, v.account.MailboxID)) },
			"IMAPAccounts": func(ctx context.Context) error {
				list, err := st.IMAPAccounts(ctx, me, v.imap.ID)
				if err == nil && len(list) == 0 {
					err = backup.ErrNotFound
				}
				return err
			},
			"SaveIMAPServer": func(ctx context.Context) error {
				return st.SaveIMAPServer(ctx, backup.IMAPServer{OrgID: me, ConnectionID: v.imap.ID, Host: "evil.example", Port: 993, Security: backup.IMAPTLS, SignIn: backup.IMAPPassword}, by)
			},
			"AddIMAPAccounts": func(ctx context.Context) error {
				return one(st.AddIMAPAccounts(ctx, backup.Connection{OrgID: me, ID: v.imap.ID}, []backup.IMAPAccount{{Address: "x@y.example", User: "x"}}, by))
			},
			"SaveIMAPAccount": func(ctx context.Context) error {
				return st.SaveIMAPAccount(ctx, backup.Connection{OrgID: me, ID: v.imap.ID}, backup.IMAPAccount{MailboxID: v.account.MailboxID, User: "x"}, by)
			},
			"SetIMAPTested": func(ctx context.Context) error { return st.SetIMAPTested(ctx, me, v.account) },
			"KeepIMAPToken": func(ctx context.Context) error {
				return st.KeepIMAPToken(ctx, me, v.account.MailboxID, backup.Secret("x"))
			},
			"StartIMAPBackup": func(ctx context.Context) error {
				err := st.StartIMAPBackup(ctx, backup.Connection{OrgID: me, ID: v.imap.ID}, []backup.MailboxID{v.account.MailboxID}, by)
				if _, refused := errors.AsType[backup.FieldErrors](err); refused {
					err = backup.ErrNotFound
				}
				return err
			},
			"DeleteConnection, of an IMAP server": func(ctx context.Context) error { return st.DeleteConnection(ctx, me, v.imap.ID) },
			"StartRestore": func(ctx context.Context) error {
				return one(st.StartRestore(ctx, backup.Restore{OrgID: me, MailboxID: v.mailbox.ID, Snapshot: 1, Scope: backup.RestoreMailbox, TargetID: v.mailbox.ID, Place: backup.PlaceOriginal}, by))
			},
			"Restore":      func(ctx context.Context) error { return one(st.Restore(ctx, me, v.restore.ID)) },
			"BeginRestore": func(ctx context.Context) error { return one(st.BeginRestore(ctx, me, v.restore.ID)) },
			"BeatRestore": func(ctx context.Context) error {
				return one(st.BeatRestore(ctx, backup.Restore{OrgID: me, ID: v.restore.ID}))
			},
			"PauseRestore": func(ctx context.Context) error {
				return st.PauseRestore(ctx, backup.Restore{OrgID: me, ID: v.restore.ID})
			},
			"FinishRestore": func(ctx context.Context) error {
				return st.FinishRestore(ctx, backup.Restore{OrgID: me, ID: v.restore.ID})
			},
			"CancelRestore": func(ctx context.Context) error { return st.CancelRestore(ctx, me, v.restore.ID, by) },
			"RetryRestore": func(ctx context.Context) error {
				return st.RetryRestore(ctx, me, v.restore.ID, backup.RestoreQueued, by)
			},
			"RestoreGrant": func(ctx context.Context) error { return one(st.RestoreGrant(ctx, me, v.conn.ID)) },
			"SaveRestoreGrant": func(ctx context.Context) error {
				return st.SaveRestoreGrant(ctx, backup.RestoreGrant{OrgID: me, ConnectionID: v.conn.ID})
			},
			"ReturnRestoreGrant": func(ctx context.Context) error {
				return st.ReturnRestoreGrant(ctx, backup.RestoreGrant{OrgID: me, ConnectionID: v.conn.ID})
			},
			"AskUpkeep": func(ctx context.Context) error {
				return st.AskUpkeep(ctx, stranger, v.w.Contoso.ID, backup.UpkeepProveItem, by)
			},
			"BeatUpkeep": func(ctx context.Context) error { return st.BeatUpkeep(ctx, me, backup.UpkeepProveItem, 1, 2) },
			"StepUpkeep": func(ctx context.Context) error { return st.StepUpkeep(ctx, me, backup.UpkeepProveItem, "stolen") },
			"FinishUpkeep": func(ctx context.Context) error {
				return st.FinishUpkeep(ctx, backup.Upkeep{OrgID: me, Kind: backup.UpkeepProveItem})
			},
			"ItemDamage": func(ctx context.Context) error {
				return one(st.ItemDamage(ctx, me, v.mailbox.ID, "AAAAAAAAAAAACAAAAAAAAAAAAA"))
			},
			"FinishRun": func(ctx context.Context) error { return st.FinishRun(ctx, run, func(*backup.Mailbox) {}) },
		}
		for name, call := range calls {
			err := call(t.Context())
			// Contoso's row may also refuse by uniqueness; what counts is that it stays.
			unique := name == "StartRun" && errors.Is(err, backup.ErrConflict)
			if !isNotFound(err) && !unique {
				t.Errorf("%s = %v, want ErrNotFound", name, err)
			}
		}
		if err := st.SaveAuthorization(t.Context(), &auth); !errors.Is(err, backup.ErrStale) {
			t.Errorf("SaveAuthorization = %v, want ErrStale", err)
		}
		own, err := st.StartAuthorization(t.Context(), backup.Authorization{OrgID: me, ConnectionID: v.conn.ID, Provider: backup.ProviderMicrosoft365, Step: backup.StepChooseAccounts}, by)
		if err != nil {
			t.Fatal(err)
		}
		if fields, ok := errors.AsType[backup.FieldErrors](st.SelectMailboxes(t.Context(), &own, []backup.MailboxID{v.mailbox.ID}, by)); !ok {
			t.Errorf("SelectMailboxes of another organization = %v, want FieldErrors", fields)
		}
		unchanged(t, st, v)
	})
}

// unchanged checks that Contoso's rows are as they were.
func unchanged(t *testing.T, st *store.Store, v theirs) {
	t.Helper()
	ctx, org := t.Context(), v.w.Contoso.ID
	if c, err := st.Connection(ctx, org, v.conn.ID); err != nil || c.TenantID != "tenant-1" || !c.Problem.IsZero() {
		t.Errorf("connection = %+v, %v", c, err)
	}
	m, err := st.Mailbox(ctx, org, v.mailbox.ID)
	if err != nil || m.Deactivated != backup.NotDeactivated || !m.Running || !m.Selected {
		t.Errorf("mailbox = %+v, %v", m, err)
	}
	if apps, err := st.SubApplications(ctx, org, v.conn.ID); err != nil || len(apps) != 1 || apps[0].PrivateKey.Reveal() != "key" {
		t.Errorf("sub-applications = %v, %v", apps, err)
	}
	if runs, err := st.RunningRuns(ctx, org); err != nil || len(runs) != 1 || runs[0].ID != v.run.ID {
		t.Errorf("running runs = %v, %v", runs, err)
	}
	if o, err := st.OrganizationByID(ctx, org); err != nil || o.ManualRole {
		t.Errorf("organization = %+v, %v", o, err)
	}
}

// TestListsAreEmptyForAnotherOrganization reads every list as Fabrikam.
func TestListsAreEmptyForAnotherOrganization(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		v := fillTheirs(t, st)
		ctx, me := t.Context(), v.w.Fabrikam.ID
		count := func(list any, err error) string {
			if err != nil {
				return err.Error()
			}
			return fmt.Sprintf("%d", lengthOf(list))
		}
		for name, got := range map[string]string{
			"Connections":       count(st.Connections(ctx, me)),
			"SubApplications":   count(st.SubApplications(ctx, me, v.conn.ID)),
			"Runs":              count(st.Runs(ctx, me, 10)),
			"RunningRuns":       count(st.RunningRuns(ctx, me)),
			"MailboxRuns":       count(st.MailboxRuns(ctx, me, v.mailbox.ID, 10)),
			"UpcomingMailboxes": count(st.UpcomingMailboxes(ctx, me, 10)),
			"MailboxCounts":     count(st.MailboxCounts(ctx, me)),
			"Damages":           count(st.Damages(ctx, me, 10)),
			"Upkeeps":           count(st.Upkeeps(ctx, me)),
			"Organizations":     count(st.Organizations(ctx, "another partner")),
		} {
			if got != "0" {
				t.Errorf("%s: %s, want 0", name, got)
			}
		}
		page, err := st.Mailboxes(ctx, me, store.MailboxQuery{AllAccounts: true, Connection: v.conn.ID})
		if err != nil || page.Total != 0 || len(page.Mailboxes) != 0 {
			t.Errorf("Mailboxes = %+v, %v", page, err)
		}
		entries, _, err := st.Activity(ctx, "", me, store.ActivityQuery{Page: 1, Size: 100})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.OrgID != me {
				t.Errorf("activity of Fabrikam shows %+v", e)
			}
		}
		if members, err := st.Members(ctx, me); err != nil || len(members) != 1 || members[0].ID != v.w.Otto.Person.ID {
			t.Errorf("Members = %v, %v", members, err)
		}
	})
}

func lengthOf(list any) int {
	switch l := list.(type) {
	case []backup.Connection:
		return len(l)
	case []backup.SubApplication:
		return len(l)
	case []store.MailboxRun:
		return len(l)
	case []backup.Run:
		return len(l)
	case []backup.Mailbox:
		return len(l)
	case []backup.OrganizationHealth:
		return len(l)
	case []backup.Damage:
		return len(l)
	case map[backup.UpkeepKind]backup.Upkeep:
		return len(l)
	case backup.StatusCounts:
		return len(l)
	}
	return -1
}
