package handlers_test

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"holdfast/backup"
)

// damages are what somebody may do to an application in the tenant.
var damages = []func(o *office, app backup.SubApplication){
	func(o *office, app backup.SubApplication) {
		o.change(http.MethodPatch, inContoso+"/servicePrincipals/"+app.AppID, `{"enabled":false}`)
	},
	func(o *office, app backup.SubApplication) {
		o.change(http.MethodDelete, inContoso+"/servicePrincipals/"+app.AppID+"/roles/"+backup.WorkloadPermissions(app.Workload)[0].Name, "")
	},
	func(o *office, app backup.SubApplication) {
		o.change(http.MethodDelete, inContoso+"/applications/"+app.AppID+"/credentials", "")
	},
	func(o *office, app backup.SubApplication) {
		o.change(http.MethodDelete, inContoso+"/servicePrincipals/"+app.AppID, "")
	},
	func(o *office, app backup.SubApplication) {
		o.change(http.MethodDelete, inContoso+"/applications/"+app.AppID, "")
	},
}

// Whatever was done to an application, whatever Microsoft answers while it is
// repaired, and whenever the process ends: the other application is not touched,
// nothing is deleted by giving up, and in the end all is whole.
func TestRepairUnderAnyAnswers(t *testing.T) {
	walks(t, 2, func(t *testing.T, seed int, chance *rand.Rand) {
		o, v := connected(t)
		broken, whole := backup.WorkloadMail, backup.WorkloadExchange
		if chance.IntN(2) == 0 {
			broken, whole = whole, broken
		}
		damages[chance.IntN(len(damages))](o, o.apps()[broken])
		v.checked().get("/settings/credentials").says("1 application needs a repair")
		before := o.wholeAs(whole)
		untouched := func() {
			if now := o.wholeAs(whole); now != before {
				t.Errorf("the %s application was touched:\n%s\n%s", whole, before, now)
			}
		}

		w := &walk{visitor: v, o: o, chance: chance}
		w.begin = func() {
			if v.get(o.portal + "/settings/credentials"); v.doc.Find("button:contains('Repair Holdfast')").Length() > 0 {
				v.press("Repair Holdfast")
			}
		}
		w.wander(12, func() bool {
			if w.chance.IntN(6) == 0 {
				n := len(o.inTenant())
				w.giveUp()
				if now := len(o.inTenant()); now != n {
					t.Errorf("giving up left %d applications of %d", now, n)
				}
			}
			return w.step()
		}, untouched)

		if seed%2 == 1 {
			w.giveUp()
			untouched()
		}
		for range 12 {
			if v.get("/settings/credentials"); !strings.Contains(v.text(), "needs a repair") && !o.repairing() {
				break
			}
			w.step()
		}
		o.oneApplicationEach()
		untouched()
		v.checked().get("/settings/credentials")
		if strings.Contains(v.text(), "needs a repair") || o.repairing() || len(o.inTenant()) != 2 {
			a, err := o.store.LatestAuthorization(t.Context(), o.org(adminMail))
			t.Errorf("with a Microsoft that answers the repair stands at %s, %v: %s: %s", a.Step, err, a.Problem.Text, v.text())
		}
	})
}

// repairing says whether an authorization is under way.
func (o *office) repairing() bool {
	_, err := o.store.ActiveAuthorization(o.t.Context(), o.org(adminMail))
	return err == nil
}

// wholeAs is all that the tenant and the portal say of a workload's application.
func (o *office) wholeAs(workload backup.Workload) string {
	o.t.Helper()
	app := o.apps()[workload]
	lines := []string{string(app.State), app.ObjectID, app.AppID, app.PrincipalID, app.NotAfter.String(), string(app.Certificate)}
	for _, there := range o.inTenant() {
		if there["appId"] == app.AppID {
			text, err := json.Marshal(there)
			if err != nil {
				o.t.Fatal(err)
			}
			lines = append(lines, string(text))
		}
	}
	return strings.Join(lines, " ")
}
