package handlers_test

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"holdfast/backup"
)

// Whatever Microsoft answers, whoever of two administrators goes on, by code or
// by script, however often it is given up and begun anew, and whenever the
// process ends: until a migration is done, the legacy connection is what it was.
func TestMigrationUnderAnyAnswers(t *testing.T) {
	walks(t, 2, func(t *testing.T, seed int, chance *rand.Rand) {
		o, ada := legacy(t)
		ben := o.signIn(secondMail)
		w := &walk{visitor: ada, o: o, chance: chance}
		w.begin = func() {
			o.manual(w.chance != nil && w.chance.IntN(3) == 0)
			if w.get(o.portal + "/settings/credentials"); w.doc.Find("a:contains('Migrate Now')").Length() > 0 {
				w.follow("Migrate Now").follow("Yes, Continue")
			}
		}
		w.wander(14, func() bool {
			if w.visitor = ada; w.chance.IntN(4) == 0 {
				w.visitor = ben
			}
			if w.chance.IntN(5) == 0 {
				w.giveUp()
			}
			return w.step()
		}, func() { o.legacyStands() })

		w.visitor = ada
		if seed%2 == 1 {
			w.undone(o)
		} else {
			for range 14 {
				if w.step(); !o.conn().ByMainApplication() {
					break
				}
			}
			if c := o.conn(); c.ByMainApplication() {
				a, err := o.store.LatestAuthorization(t.Context(), c.OrgID)
				t.Errorf("with a Microsoft that answers the migration stands at %s: %v: %s", a.Step, err, a.Problem.Text)
			}
		}
		o.oneApplicationEach()
		o.legacyStands()
		w.do(http.MethodPost, o.portal+"/mailboxes/"+string(o.selected().ID)+"/back-up", url.Values{})
		o.backedUp(2)
	})
}

// giveUp gives the authorization under way up, if there is one, without waiting
// for what Undo then does.
func (w *walk) giveUp() {
	w.t.Helper()
	if w.get(w.o.portal + "/setup/abandon"); strings.HasPrefix(w.at.Path, "/setup") {
		w.press("Give up")
	}
}

// legacyStands fails the test unless the connection is by the backup
// administrator as before, or the migration is done and all of it there.
func (o *office) legacyStands() {
	o.t.Helper()
	c := o.conn()
	if got := o.backupAdmins(); len(got) != 1 {
		o.t.Errorf("backup administrators in the tenant: %v", got)
	}
	if c.ByMainApplication() {
		if c.ReadyAt.IsZero() || len(c.Workloads) != 1 || !c.Problem.IsZero() {
			o.t.Errorf("before the migration is done the connection is %+v", c)
		}
		return
	}
	a, err := o.store.ActiveAuthorization(o.t.Context(), c.OrgID)
	if !errors.Is(err, backup.ErrNotFound) {
		o.t.Errorf("migrated, and at %s: %v", a.Step, err)
	}
	there := map[any]bool{}
	for _, app := range o.inTenant() {
		there[app["appId"]] = true
	}
	for _, workload := range c.Workloads {
		if app := o.apps()[workload]; app.State != backup.ApplicationReady || !there[app.AppID] {
			o.t.Errorf("migrated, and the %s application is %s", workload, app.State)
		}
	}
	if len(c.Workloads) != 2 {
		o.t.Errorf("migrated to %v", c.Workloads)
	}
}
