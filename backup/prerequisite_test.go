package backup

import "testing"

func TestPrerequisitesAreKnownAsSoonAsTheyCanBe(t *testing.T) {
	base := Authorization{ID: "a", Purpose: PurposeConnect, Method: MethodServicePrincipal, Flow: FlowAutomated, Workloads: []Workload{WorkloadMail, WorkloadExchange}}
	at := func(step Step, kind ProblemKind) Authorization {
		a := base
		a.Step = step
		if kind != "" {
			a.Problem = Problem{Kind: kind, Text: "What to do.", Code: "AADSTS53003"}
		}
		return a
	}
	failed := at(StepFailed, ProblemNotAdministrator)
	failed.FailedFrom = StepConsent
	sites := base
	sites.Workloads = []Workload{"sites"}
	const met, later, wrong = PrerequisiteMet, PrerequisiteLater, PrerequisiteNotMet
	for _, test := range []struct {
		name string
		a    Authorization
		want []PrerequisiteState // mail, licence, other organization, applications, PowerShell, cmdlets
	}{
		{"nobody has signed in", Authorization{}, []PrerequisiteState{met, later, later, later, later, later}},
		{"at consent", at(StepConsent, ""), []PrerequisiteState{met, later, later, later, later, later}},
		{"no Exchange", at(StepConsent, ProblemNoExchange), []PrerequisiteState{met, wrong, later, later, later, later}},
		{"tenant taken", at(StepConsent, ProblemTenantTaken), []PrerequisiteState{met, later, wrong, later, later, later}},
		{"no administrator", failed, []PrerequisiteState{met, later, later, wrong, later, later}},
		{"applications are being made", at(StepCreateApplications, ""), []PrerequisiteState{met, met, met, later, later, later}},
		{"step 2", at(StepDeviceAuthorization, ""), []PrerequisiteState{met, met, met, met, later, later}},
		{"PowerShell is off", at(StepDeviceAuthorization, ProblemPowerShellOff), []PrerequisiteState{met, met, met, met, wrong, later}},
		{"no cmdlets", at(StepDeviceAuthorization, ProblemMissingCmdlets), []PrerequisiteState{met, met, met, met, later, wrong}},
		{"no delegation", at(StepDeviceAuthorization, ProblemNotAdministrator), []PrerequisiteState{met, met, met, met, later, wrong}},
		{"being verified", at(StepVerify, ""), []PrerequisiteState{met, met, met, met, later, later}},
		{"verified", at(StepChooseAccounts, ""), []PrerequisiteState{met, met, met, met, met, met}},
		{"only sites", sites, []PrerequisiteState{wrong, later, later, later, later, later}},
	} {
		got := Prerequisites(test.a)
		for i, want := range test.want {
			if got[i].State != want || got[i].Note == "" {
				t.Errorf("%s: %q is %s, want %s", test.name, got[i].Title, got[i].State, want)
			}
		}
	}
	blocked := Prerequisites(at(StepDeviceAuthorization, ProblemDeviceBlocked))
	if last := blocked[len(blocked)-1]; last.State != PrerequisiteOther || last.Note != "What to do. Microsoft's code: AADSTS53003." {
		t.Errorf("blocked device codes: %+v", last)
	}
}
