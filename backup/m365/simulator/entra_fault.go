package simulator

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Named faults that only handlers can play. Beside them, every AADSTS number
// of aadProblems is a fault of the token endpoint ("AADSTS7000222").
var namedFaults = []string{
	// Token endpoint.
	"slow_down",              // device polls; unconfirmed whether Entra sends it
	"scope_missing_silently", // 200 without the scope that was asked for
	"personal_account",       // the ID token is of the tenant of private accounts
	"wrong_issuer", "wrong_nonce", "wrong_signature",
	// Directory, auth.md 2.3 and 2.4.
	"sp_app_not_replicated",         // POST /servicePrincipals: 400, no valid application object
	"sp_backing_application",        // POST /servicePrincipals: 403, misleading
	"sp_exists",                     // POST /servicePrincipals: 409
	"app_not_replicated",            // GET, PATCH of an application: 404
	"app_conflict",                  // PATCH of an application: 409
	"assignment_not_replicated",     // appRoleAssignedTo: 400, not a valid reference update
	"assignment_principal_missing",  // appRoleAssignedTo: 404
	"assignment_permission_missing", // appRoleAssignedTo: 400, permission not found on application
	"assignment_exists",             // appRoleAssignedTo: 400, already exists
	"grant_not_replicated",          // oauth2PermissionGrants: 400
	"credential_not_listed",         // GET leaves new credentials out
	"credential_type_not_allowed",   // 400 CredentialTypeNotAllowedAsPerAppPolicy
	"credential_invalid_lifetime",   // 400 CredentialInvalidLifetimeAsPerAppPolicy
	"audience_not_allowed",          // POST /applications: 400
	"host_not_verified",             // POST /applications: 400
	"user_password_refused",         // POST /users: 400, the password does not comply
	"role_principal_missing",        // roleAssignments: 404, the account is not known yet
	"answer_lost",                   // the change is made, but the connection breaks
	"users_delta_expired",           // GET /users/delta: 410
	"roles_missing",                 // the token has no roles
}

// FaultNames lists the named faults, for the control path's answer.
func (s *Simulator) FaultNames() []string {
	names := slices.Clone(s.faultNames)
	for number := range aadProblems {
		names = append(names, "AADSTS"+strconv.Itoa(number))
	}
	slices.Sort(names)
	return names
}

// playsFaults declares named faults that a part of the simulator can play with
// Simulator.fault.
func (s *Simulator) playsFaults(names ...string) { s.faultNames = append(s.faultNames, names...) }

// entraFault takes a fault with an AADSTS number, or slow_down, planned for
// this request.
func (s *Simulator) entraFault(r *http.Request, c *caller) *Fault {
	device := strings.HasSuffix(r.PostForm.Get("grant_type"), grantDeviceShort)
	return s.take(r, c, "", func(f *Fault) bool {
		return strings.HasPrefix(f.Name, "AADSTS") || f.Name == "slow_down" && device
	})
}

// faultProblem is the problem that such a fault answers with.
func (s *Simulator) faultProblem(f *Fault, r *http.Request, t *tenant) *aadProblem {
	if f.Name == "slow_down" {
		return aad(70016, "The client polls too often.").with("slow_down", http.StatusBadRequest)
	}
	number, err := strconv.Atoi(strings.TrimPrefix(f.Name, "AADSTS"))
	if err != nil {
		number = 90023
	}
	return s.named(aad(number, f.Message), t, s.appByID(r.PostForm.Get("client_id"))).with(f.Error, f.Status)
}
