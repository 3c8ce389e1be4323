package views

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/backup"
)

// AddBackup is what the pages before the wizard show.
type AddBackup struct {
	Permissions []backup.Permission
	Legacy      []backup.Permission   // what the backup administrator method asks for
	Registered  bool                  // Holdfast has its main application at Microsoft
	UnderWay    *backup.Authorization // nil if none
	Left        []LeftBehind          // what a person has to delete by hand
	ManualRole  bool                  // the organization's toggle
	Method      backup.Method         // what was chosen
	Fields      backup.FieldErrors
}

// Setup is where an authorization stands and what this browser may see of it.
type Setup struct {
	Authorization backup.Authorization
	StartedBy     string // name of the person who started it
	Connection    backup.Connection
	Applications  []backup.SubApplication
	Role          backup.CustomRole
	OwnCode       bool // this session asked for the device code
	ManualRole    bool // the organization's toggle
	Permissions   []backup.Permission
	Accounts      []backup.Mailbox
	Selected      map[backup.MailboxID]bool
	Fields        backup.FieldErrors
	Now           time.Time
}

// step is the step that is shown: a failed one where it failed.
func (v Setup) step() backup.Step { return v.Authorization.At() }

// stage is the step that stands for s in the list on the page: the custom
// role's two steps are one entry.
func (v Setup) stage(s backup.Step) backup.Step {
	if s == backup.StepVerify {
		return v.Authorization.RoleStep()
	}
	return s
}

// stages are the entries of the list on the page.
func (v Setup) stages() []backup.Step {
	return slices.DeleteFunc(v.Authorization.Steps(), func(s backup.Step) bool { return s == backup.StepVerify || s == backup.StepDone })
}

// place is a step's place among the stages, from 0; of StepDone, behind the last.
func (v Setup) place(s backup.Step) int {
	stages := v.stages()
	if i := slices.Index(stages, v.stage(s)); i >= 0 {
		return i
	}
	return len(stages)
}

// before says whether the authorization has not come to a stage yet, past
// whether it is through with it.
func (v Setup) before(stage backup.Step) bool { return v.place(v.step()) < v.place(stage) }

func (v Setup) past(stage backup.Step) bool { return v.place(v.step()) > v.place(stage) }

// mark is the class of a stage: done, now or none.
func (v Setup) mark(stage backup.Step) string {
	switch {
	case v.past(stage):
		return "done"
	case v.before(stage):
		return ""
	}
	return "now"
}

// numeral is what stands before a stage: the sign-in has a dot, the others are
// counted.
func (v Setup) numeral(stage backup.Step) string {
	i := v.place(stage)
	switch {
	case stage == backup.StepConsent && v.past(stage):
		return "✓"
	case stage == backup.StepConsent:
		return "•"
	case slices.Contains(v.stages(), backup.StepConsent):
		return strconv.Itoa(i)
	}
	return strconv.Itoa(i + 1)
}

// title names what the authorization is for.
func (v Setup) title() string {
	switch v.Authorization.Purpose {
	case backup.PurposeMigrate:
		return "Migrate to least privilege"
	case backup.PurposeRepair, backup.PurposeRole:
		return "Repair"
	case backup.PurposeRenew:
		return "Re-authenticate"
	case backup.PurposeRestore:
		return "Restore permission"
	case backup.PurposeRemove:
		return "Remove applications"
	case backup.PurposeCleanUp:
		return "Delete the backup administrator"
	}
	return "Add Backup"
}

// repairs says whether applications that are there are made whole, rather than
// made.
func (v Setup) repairs() bool { return v.Authorization.Purpose == backup.PurposeRepair }

// undoes says whether giving up removes the applications from the tenant: they
// were made by this authorization.
func (v Setup) undoes() bool {
	return v.Authorization.Purpose == backup.PurposeConnect || v.Authorization.Purpose == backup.PurposeMigrate || v.Authorization.Purpose == backup.PurposeRestore
}

// createTitle names the step that makes applications.
func (v Setup) createTitle() string {
	if v.repairs() {
		if len(v.Applications) == 1 {
			return "Repair the application"
		}
		return "Repair the applications"
	}
	if v.Authorization.Purpose == backup.PurposeRestore {
		return "Create the restore application"
	}
	return "Create Backup Application"
}

// giveUp is the link that leads to giving up.
func (v Setup) giveUp() string {
	if v.undoes() {
		return "Give up and remove what was made"
	}
	return "Give up"
}

// permissionsLine leads to the list of permissions.
func (v Setup) permissionsLine() string {
	all := "See all " + strconv.Itoa(len(v.Permissions)) + " permissions"
	if v.Authorization.Purpose == backup.PurposeRestore {
		return "What will this be able to do, and for how long? " + all
	}
	if v.Authorization.Purpose == backup.PurposeCleanUp {
		return "What is needed to delete it? " + all
	}
	return "What will this be able to read? " + all
}

// makesAdministrator says whether this is the legacy method.
func (v Setup) makesAdministrator() bool {
	return slices.Contains(v.Authorization.Steps(), backup.StepCreateAdministrator)
}

// Waits says whether the page waits for work in the background, so that it
// has to ask how that stands.
func (v Setup) Waits() bool {
	if v.Authorization.Step == backup.StepFailed {
		return false
	}
	if v.step() == backup.StepChooseAccounts {
		return !v.listed() && v.Connection.Problem.IsZero()
	}
	return v.step().InBackground()
}

// listed says whether the accounts of the tenant were listed.
func (v Setup) listed() bool { return !v.Connection.ListedAt.IsZero() }

// failed says whether the authorization stopped at a step.
func (v Setup) failed(step backup.Step) bool {
	return v.Authorization.Step == backup.StepFailed && v.Authorization.FailedFrom == step
}

// hasCode says whether there is a device code that can still be entered.
func (v Setup) hasCode() bool {
	d := v.Authorization.Device
	return d.UserCode != "" && len(d.DeviceCode) > 0 && v.Now.Before(d.ExpiresAt) && !v.authorized()
}

// waiting says what the page waits for while it shows a code.
func (v Setup) waiting() string {
	if v.Authorization.Problem.Kind == backup.ProblemDeviceUnanswered {
		return "Waiting for Microsoft"
	}
	return "Waiting for you"
}

// expired says whether there was a code, which nothing but time ended.
func (v Setup) expired() bool {
	p := v.Authorization.Problem
	return v.Authorization.Device.UserCode != "" && (p.IsZero() || p.Kind == backup.ProblemDeviceUnanswered)
}

// authorized says whether the cmdlets' token is there.
func (v Setup) authorized() bool { return len(v.Authorization.RoleToken) > 0 }

// WatchesCode says whether the page shows a code and waits for it to be entered.
func (v Setup) WatchesCode() bool {
	return v.step() == backup.StepDeviceAuthorization && v.OwnCode && v.hasCode()
}

// asksForCode says whether the page fetches the first code by itself: nobody
// has had one yet, and nothing went wrong.
func (v Setup) asksForCode() bool {
	return v.Authorization.Step == backup.StepDeviceAuthorization && v.Authorization.Device.Session == "" &&
		v.Authorization.Problem.IsZero() && !v.authorized()
}

// offersScript says whether a policy of the tenant keeps the sign-in out, so that
// the script is the way that is left.
func (v Setup) offersScript() bool {
	kind := v.Authorization.Problem.Kind
	return !v.authorized() && (kind == backup.ProblemDeviceBlocked || kind == backup.ProblemPolicy)
}

// left is the life left of the device code, as minutes and seconds.
func (v Setup) left() string {
	d := max(v.Authorization.Device.ExpiresAt.Sub(v.Now), 0).Round(time.Second)
	return fmt.Sprintf("%d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}

// otherAdmin names the person who authorized step 2 if it is not the one who
// consented, "" otherwise.
func (v Setup) otherAdmin() string {
	if a := v.Authorization; a.RoleAdminUPN != "" && !strings.EqualFold(a.RoleAdminUPN, a.AdminUPN) {
		return a.RoleAdminUPN
	}
	return ""
}

// made lists the applications that exist in the tenant.
func (v Setup) made() []backup.SubApplication {
	var made []backup.SubApplication
	for _, a := range v.Applications {
		if a.ObjectID != "" && a.State != backup.ApplicationRemoved {
			made = append(made, a)
		}
	}
	return made
}

// canRemove says whether the administrator's sign-in still lasts, so that
// Holdfast can remove what it made.
func (v Setup) canRemove() bool {
	return len(v.Authorization.SetupToken) > 0 && v.Now.Add(time.Minute).Before(v.Authorization.SetupTokenExpiresAt)
}

func names(apps []backup.SubApplication) string {
	list := make([]string, len(apps))
	for i, a := range apps {
		list[i] = a.DisplayName
	}
	return strings.Join(list, ", ")
}

// applicationLine is applicationProgress in the wizard; stopped says that the
// step has failed.
func applicationLine(a backup.SubApplication, stopped bool) string {
	done := applicationProgress(a)
	if stopped && !a.Problem.IsZero() {
		return "Failed: " + strings.ToLower(done[:1]) + done[1:]
	}
	return done
}

// applicationProgress says in words how far a sub-application is made.
func applicationProgress(a backup.SubApplication) string {
	switch a.State {
	case backup.ApplicationPlanned:
		if !a.Problem.IsZero() || len(a.Certificate) > 0 {
			return "Creating the application"
		}
		return "Waiting"
	case backup.ApplicationCreated:
		return "Creating its enterprise application"
	case backup.ApplicationPrincipal:
		return "Granting its permissions"
	case backup.ApplicationGranted:
		return "Trying its certificate and permissions"
	case backup.ApplicationReady:
		return "Ready"
	case backup.ApplicationRemoved:
		return "Removed"
	case backup.ApplicationBroken:
		return "Looking at what the tenant has of it"
	}
	return "Unknown"
}

// applicationTone is the class of the dot beside it.
func applicationTone(a backup.SubApplication) string {
	switch {
	case !a.Problem.IsZero():
		return "failing"
	case a.State == backup.ApplicationReady:
		return "protected"
	case a.State == backup.ApplicationPlanned && len(a.Certificate) == 0, a.State == backup.ApplicationRemoved:
		return "empty"
	}
	return "pending"
}

func kindName(k backup.MailboxKind) string {
	switch k {
	case backup.KindUser:
		return "User"
	case backup.KindShared:
		return "Shared mailbox"
	case backup.KindRoom:
		return "Room"
	case backup.KindEquipment:
		return "Equipment"
	case backup.KindGroup:
		return "Group"
	case backup.KindSite:
		return "Site"
	}
	return "Unknown kind"
}

// licenceName says whether the provider gives an account a mailbox.
func licenceName(l backup.LicenceState) string {
	switch l {
	case backup.LicenceValid:
		return "Licensed"
	case backup.LicenceGrace:
		return "Licence ended, still served"
	case backup.LicenceNone:
		return "No mailbox licence"
	case backup.LicenceNotNeeded:
		return "No licence needed"
	}
	return "Unknown"
}

// licenceTone is the class of the dot beside it.
func licenceTone(l backup.LicenceState) string {
	switch l {
	case backup.LicenceValid, backup.LicenceNotNeeded:
		return "protected"
	case backup.LicenceGrace:
		return "deactivated"
	}
	return "empty"
}

// retried is what keeps an application's job from going on, which tries again.
func retried(p backup.Problem) string {
	if strings.Contains(p.Text, "by itself") {
		return p.Text
	}
	return p.Text + " Holdfast tries again by itself."
}
