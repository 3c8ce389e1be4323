package backup

import "slices"

// Prerequisite is something that has to be true before a connection by least
// privilege can be made.
type Prerequisite struct {
	Title string
	Note  string // when it is checked, how it was found, or what to do
	State PrerequisiteState

	Cmdlets bool // it is about RequiredCmdlets
}

// PrerequisiteState says whether a prerequisite is met.
type PrerequisiteState string

// The states.
const (
	PrerequisiteLater  PrerequisiteState = "later"  // cannot be known yet
	PrerequisiteMet    PrerequisiteState = "met"    // was checked
	PrerequisiteNotMet PrerequisiteState = "wrong"  // was checked; the note says what to do
	PrerequisiteOther  PrerequisiteState = "detour" // was checked; there is another way, which the note names
)

// Prerequisites returns what a connection by least privilege needs, each as far
// as a knows it: the zero Authorization knows what can be told before anybody
// has signed in.
func Prerequisites(a Authorization) []Prerequisite {
	passed := func(s Step) bool {
		steps := a.Steps()
		at, of := slices.Index(steps, a.At()), slices.Index(steps, s)
		return a.ID != "" && of >= 0 && at > of
	}
	judge := func(title, later, met string, done bool, wrong ...ProblemKind) Prerequisite {
		switch {
		case slices.Contains(wrong, a.Problem.Kind):
			return Prerequisite{Title: title, Note: a.Problem.Text, State: PrerequisiteNotMet}
		case done:
			return Prerequisite{Title: title, Note: met, State: PrerequisiteMet}
		}
		return Prerequisite{Title: title, Note: later, State: PrerequisiteLater}
	}
	consented, created := passed(StepConsent), passed(StepCreateApplications)
	authorized := passed(a.RoleStep()) && a.Step != StepVerify
	list := []Prerequisite{
		mailIsChosen(a),
		judge("The tenant has an Exchange Online licence", "Checked right after you sign in.", "Checked when you signed in.", consented, ProblemNoExchange),
		judge("No other organization uses the tenant", "Checked right after you sign in.", "Checked when you signed in.", consented, ProblemTenantTaken),
		judge("You may create applications and grant permissions", "Global Administrator, or Privileged Role Administrator with Application Administrator. Checked in step 1.",
			"Checked in step 1.", created, unless(created, ProblemNotAdministrator, ProblemPolicy)...),
		judge("PowerShell access is enabled for the person who authorizes step 2", "Checked in step 2. It is on unless somebody turned it off for that account.",
			"Checked in step 2.", authorized, ProblemPowerShellOff),
		judge("That person may run ten Exchange cmdlets", "Checked in step 2. A Global Administrator may; a custom role with these cmdlets serves as well.",
			"Checked in step 2.", authorized, append([]ProblemKind{ProblemMissingCmdlets}, unless(!created, ProblemNotAdministrator)...)...),
	}
	list[len(list)-1].Cmdlets = true
	if a.Problem.Kind == ProblemDeviceBlocked {
		note := a.Problem.Text
		if a.Problem.Code != "" {
			note += " Microsoft's code: " + a.Problem.Code + "."
		}
		list = append(list, Prerequisite{Title: "The tenant allows device codes", Note: note, State: PrerequisiteOther})
	}
	return list
}

// mailIsChosen: least privilege needs mail among what is backed up.
func mailIsChosen(a Authorization) Prerequisite {
	p := Prerequisite{Title: "Mail is among what is backed up", State: PrerequisiteMet,
		Note: "Checked now. An organization that backs up only SharePoint and Groups cannot use least privilege permissions."}
	if len(a.Workloads) > 0 && !slices.Contains(a.Workloads, WorkloadMail) {
		p.State = PrerequisiteNotMet
		p.Note = "Only SharePoint and Groups are chosen. Least privilege permissions need Exchange Online mail; choose the backup administrator method, or back up mail as well."
	}
	return p
}

// unless returns the kinds, or none if they speak of another step.
func unless(other bool, kinds ...ProblemKind) []ProblemKind {
	if other {
		return nil
	}
	return kinds
}
