package backup_test

import (
	"slices"
	"testing"

	"holdfast/backup"
)

// TestStepsOfEveryAuthorization walks each kind of authorization from its
// first step to its end.
func TestStepsOfEveryAuthorization(t *testing.T) {
	mail, both := []backup.Workload{backup.WorkloadMail}, []backup.Workload{backup.WorkloadMail, backup.WorkloadExchange}
	const consent, create, device, script, verify, choose, done = backup.StepConsent, backup.StepCreateApplications, backup.StepDeviceAuthorization,
		backup.StepRunScript, backup.StepVerify, backup.StepChooseAccounts, backup.StepDone
	for _, c := range []struct {
		name      string
		purpose   backup.Purpose
		method    backup.Method
		flow      backup.Flow
		workloads []backup.Workload
		want      []backup.Step
	}{
		{"automated", backup.PurposeConnect, backup.MethodServicePrincipal, backup.FlowAutomated, both, []backup.Step{consent, create, device, verify, choose, done}},
		{"manual", backup.PurposeConnect, backup.MethodServicePrincipal, backup.FlowManual, both, []backup.Step{consent, create, script, verify, choose, done}},
		{"without the role", backup.PurposeConnect, backup.MethodServicePrincipal, backup.FlowManual, mail, []backup.Step{consent, create, choose, done}},
		{"legacy", backup.PurposeConnect, backup.MethodBackupAdministrator, backup.FlowManual, both, []backup.Step{consent, backup.StepCreateAdministrator, choose, done}},
		{"legacy again", backup.PurposeRepair, backup.MethodBackupAdministrator, backup.FlowAutomated, both, []backup.Step{consent, backup.StepCreateAdministrator, done}},
		{"migration", backup.PurposeMigrate, backup.MethodServicePrincipal, backup.FlowAutomated, both, []backup.Step{consent, create, device, verify, done}},
		{"repair of one", backup.PurposeRepair, backup.MethodServicePrincipal, backup.FlowAutomated, mail, []backup.Step{consent, create, done}},
		{"role, by script", backup.PurposeRole, backup.MethodServicePrincipal, backup.FlowManual, nil, []backup.Step{script, verify, done}},
		{"renewed consent", backup.PurposeRenew, backup.MethodServicePrincipal, backup.FlowAutomated, both, []backup.Step{consent, done}},
		{"restore permission", backup.PurposeRestore, backup.MethodServicePrincipal, backup.FlowAutomated, []backup.Workload{backup.WorkloadRestore}, []backup.Step{consent, create, done}},
		{"restore permission, legacy", backup.PurposeRestore, backup.MethodBackupAdministrator, backup.FlowManual, []backup.Workload{backup.WorkloadRestore}, []backup.Step{consent, create, done}},
		{"removal", backup.PurposeRemove, backup.MethodServicePrincipal, backup.FlowAutomated, mail, []backup.Step{consent, backup.StepRemoveApplications, done}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := backup.Authorization{Purpose: c.purpose, Method: c.method, Flow: c.flow, Workloads: c.workloads}
			got := []backup.Step{c.want[0]}
			for got[len(got)-1] != done && len(got) < 20 {
				got = append(got, a.Next(got[len(got)-1]))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("steps = %v, want %v", got, c.want)
			}
		})
	}
}

// TestCompleteForgetsTokens looks at what stays in an authorization that is done.
func TestCompleteForgetsTokens(t *testing.T) {
	secret := backup.Secret("token")
	a := backup.Authorization{Step: backup.StepVerify, SetupToken: secret, RoleToken: secret, RoleRefreshToken: secret,
		Device: backup.DeviceAttempt{DeviceCode: secret}, SignIn: backup.SignInAttempt{Nonce: secret}}
	a.Complete()
	if a.Step != backup.StepDone || a.SetupToken != nil || a.RoleToken != nil || a.RoleRefreshToken != nil || a.Device.DeviceCode != nil || a.SignIn.Nonce != nil {
		t.Errorf("completed = %+v, want no token and the step done", a)
	}
}
