package simulator

import (
	"net/http"
	"strings"
	"time"
)

// directoryRoutes registers what the directory (Entra) answers on Graph.
func (s *Simulator) directoryRoutes() {
	s.userRoutes()
	s.applicationRoutes()
	s.principalRoutes()
	s.grantRoutes()
	s.deletedRoutes()
	s.roleRoutes()
	s.graph("GET", "/organization", s.listOrganization)
	s.graph("GET", "/organization/{organization-id}", s.showOrganization)
	s.graph("GET", "/domains", s.listDomains)
	s.graph("GET", "/domains/{domain-id}", s.showDomain)
	s.graph("GET", "/subscribedSkus", s.listSKUs)
}

// delay is how long a change takes to reach other replicas.
func (t *tenant) delay() time.Duration { return time.Duration(t.Settings.ReplicationDelay) }

// seen says whether the replica that answers this request has what was made
// visible at the given time. With Flap every second request hits one that lags
// twice as far, so that a 404 may follow a successful read.
func (s *Simulator) seen(t *tenant, visible time.Time) bool {
	if t.Settings.Flap && t.Reads%2 == 1 {
		visible = visible.Add(t.delay())
	}
	return !s.now().Before(visible)
}

// directoryRoles are the roles that let a person manage applications.
var directoryRoles = []string{globalAdministrator, applicationAdministrator, cloudApplicationAdministrator}

// mayManage says whether the caller may change applications: an application by
// its permission alone, a person only with a directory role, or as owner.
func mayManage(c *caller, owners []string) bool {
	if c.User == nil || c.User.hasRole(directoryRoles...) {
		return true
	}
	for _, id := range owners {
		if id == c.User.ID {
			return true
		}
	}
	return false
}

var organizations = collection{context: "organization", kind: "microsoft.graph.organization", page: 100, largest: 999}

func (s *Simulator) organizationObject(t *tenant) object {
	domains, plans := []object{}, []object{}
	for i, d := range t.Domains {
		domains = append(domains, object{"capabilities": "Email, OfficeCommunicationsOnline", "isDefault": i == len(t.Domains)-1, "isInitial": d == t.Domain, "name": d, "type": "Managed"})
	}
	for _, l := range t.SKUs {
		for _, p := range skus[l].Plans {
			plans = append(plans, object{"assignedDateTime": stamp(t.Created), "capabilityStatus": "Enabled", "service": p.Service, "servicePlanId": p.ID})
		}
	}
	return object{
		"id": t.ID, "displayName": t.Name, "tenantType": "AAD", "countryLetterCode": t.Country, "createdDateTime": stamp(t.Created), "deletedDateTime": nil,
		"verifiedDomains": domains, "assignedPlans": plans, "provisionedPlans": []object{}, "businessPhones": []string{}, "technicalNotificationMails": []string{},
		"marketingNotificationEmails": []string{}, "securityComplianceNotificationMails": []string{}, "securityComplianceNotificationPhones": []string{},
		"preferredLanguage": "en", "city": nil, "country": nil, "postalCode": nil, "state": nil, "street": nil,
		"onPremisesLastSyncDateTime": nil, "onPremisesSyncEnabled": nil, "defaultUsageLocation": nil, "partnerTenantType": nil, "privacyProfile": nil,
	}
}

func (s *Simulator) listOrganization(w *answer, r *http.Request, c *caller) {
	s.list(w, r, organizations, []object{s.organizationObject(c.Tenant)})
}

func (s *Simulator) showOrganization(w *answer, r *http.Request, c *caller) {
	if !strings.EqualFold(r.PathValue("organization-id"), c.Tenant.ID) {
		s.notFound(w, r.PathValue("organization-id"))
		return
	}
	s.one(w, r, http.StatusOK, organizations, s.organizationObject(c.Tenant))
}

var domains = collection{context: "domains", kind: "microsoft.graph.domain", page: 100, largest: 999}

func domainObjects(t *tenant) []object {
	var all []object
	for i, d := range t.Domains {
		services := []string{}
		if t.hasExchange() {
			services = []string{"Email", "OfficeCommunicationsOnline"}
		}
		all = append(all, object{
			"id": d, "authenticationType": "Managed", "availabilityStatus": nil, "isAdminManaged": true, "isDefault": i == len(t.Domains)-1, "isInitial": d == t.Domain,
			"isRoot": true, "isVerified": true, "supportedServices": services, "passwordValidityPeriodInDays": 2147483647, "passwordNotificationWindowInDays": 14,
			"manufacturer": nil, "model": nil, "state": nil,
		})
	}
	return all
}

func (s *Simulator) listDomains(w *answer, r *http.Request, c *caller) {
	s.list(w, r, domains, domainObjects(c.Tenant))
}

func (s *Simulator) showDomain(w *answer, r *http.Request, c *caller) {
	for _, o := range domainObjects(c.Tenant) {
		if o["id"] == r.PathValue("domain-id") {
			s.one(w, r, http.StatusOK, domains, o)
			return
		}
	}
	s.notFound(w, r.PathValue("domain-id"))
}

func (s *Simulator) listSKUs(w *answer, r *http.Request, c *caller) {
	t := c.Tenant
	var all []object
	for _, l := range t.SKUs {
		used := 0
		for _, u := range t.Users {
			for _, have := range u.Licences {
				if have == l && u.DeletedAt.IsZero() {
					used++
				}
			}
		}
		all = append(all, object{
			"id": t.ID + "_" + skus[l].ID, "accountId": t.ID, "accountName": strings.SplitN(t.Domain, ".", 2)[0], "appliesTo": "User", "capabilityStatus": "Enabled",
			"consumedUnits": used, "prepaidUnits": object{"enabled": 25, "suspended": 0, "warning": 0, "lockedOut": 0},
			"skuId": skus[l].ID, "skuPartNumber": l, "servicePlans": servicePlans(l), "subscriptionIds": []string{stableGUID("subscription", t.ID, l)},
		})
	}
	s.list(w, r, collection{context: "subscribedSkus", kind: "microsoft.graph.subscribedSku", page: 100, largest: 999}, all)
}
