package simulator

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"
)

// World is what a simulator starts with: tenants, people and applications.
// ReadWorld reads it from JSON.
type World struct {
	Tenants []WorldTenant `json:"tenants"`
}

// WorldTenant is one tenant of the world.
type WorldTenant struct {
	ID      string             `json:"id"`                // GUID
	Name    string             `json:"name"`              // Contoso Dental
	Domain  string             `json:"domain"`            // initial, ….onmicrosoft.com
	Domains []string           `json:"domains,omitempty"` // further verified ones; the last is the default
	Country string             `json:"country,omitempty"`
	SKUs    []string           `json:"skus"` // part numbers of bought licences, like SPE_E3
	People  []WorldPerson      `json:"people"`
	Apps    []WorldApplication `json:"applications,omitempty"`
	Grants  []WorldGrant       `json:"grants,omitempty"` // consent to applications of any tenant
	TenantSettings
	Exchange *WorldExchange `json:"exchange,omitempty"`
}

// TenantSettings are switches of a tenant. They can be changed later on the
// control path.
type TenantSettings struct {
	// ReplicationDelay is how long a change of the directory takes to be seen
	// by other replicas.
	ReplicationDelay Duration `json:"replicationDelay,omitempty"`
	// Flap lets every second directory read hit a replica that lags twice as far.
	Flap bool `json:"flap,omitempty"`
	// Policy restricts credentials (auth.md 2.4): "" nothing, noSecrets,
	// noCertificates, shortSecrets (30 days), shortCertificates (30 days),
	// noMultiTenant.
	Policy string `json:"policy,omitempty"`
	// BlockDeviceCode is the conditional access policy against device codes:
	// "" no, poll (the waiting application learns 53003) or silent (it stays
	// pending; auth.md, section 7: unconfirmed which).
	BlockDeviceCode string `json:"blockDeviceCode,omitempty"`
	// ExpiredName is the error of a device code that is too old: expired_token
	// (the default) or code_expired; both were seen.
	ExpiredName string `json:"expiredName,omitempty"`
	// AdminsRegister keeps people without an administrator's role from
	// registering applications (allowedToCreateApps).
	AdminsRegister bool `json:"adminsRegister,omitempty"`
	// Suspended makes Entra refuse the tenant: AADSTS5000224.
	Suspended bool `json:"suspended,omitempty"`
	// ConcealNames hashes names in usage reports.
	ConcealNames bool `json:"concealNames,omitempty"`
	// MailLimit is how many requests an application has for a mailbox in ten
	// minutes; Microsoft's is 10,000. 0 is no limit, so that measurements end.
	MailLimit int `json:"mailLimit,omitempty"`
	// QuietReads lets a change of the read state alone leave the time of the
	// last change as it is, and a delta that does not select isRead silent.
	QuietReads bool `json:"quietReads,omitempty"`
}

// WorldPerson is a person, guest or resource account.
type WorldPerson struct {
	ID           string        `json:"id,omitempty"` // GUID, made from the name if empty
	Name         string        `json:"name"`
	UPN          string        `json:"upn"`
	Mail         string        `json:"mail,omitempty"` // the UPN if empty and the kind has mail
	Password     string        `json:"password,omitempty"`
	Department   string        `json:"department,omitempty"`
	Roles        []string      `json:"roles,omitempty"` // names like Global Administrator
	Kind         string        `json:"kind,omitempty"`  // user (default), shared, room, equipment
	Licences     []string      `json:"licences,omitempty"`
	PlanStatus   string        `json:"planStatus,omitempty"`
	Disabled     bool          `json:"disabled,omitempty"`
	Guest        bool          `json:"guest,omitempty"`
	NoPowerShell bool          `json:"noPowerShell,omitempty"`
	Mailbox      *WorldMailbox `json:"mailbox,omitempty"`
}

// WorldGrant is what a tenant has consented to, for everybody in it.
type WorldGrant struct {
	App         string   `json:"app"`                   // client id
	Delegated   []string `json:"delegated,omitempty"`   // permissions by name
	Application []string `json:"application,omitempty"` // permissions by name
}

// WorldApplication is an app registration.
type WorldApplication struct {
	ID           string   `json:"id"` // client id
	Name         string   `json:"name"`
	Secret       string   `json:"secret,omitempty"`
	Certificate  bool     `json:"certificate,omitempty"` // make one
	Main         bool     `json:"main,omitempty"`        // Holdfast's own: gets Options.RedirectURIs
	MultiTenant  bool     `json:"multiTenant,omitempty"`
	Public       bool     `json:"public,omitempty"` // isFallbackPublicClient
	RedirectURIs []string `json:"redirectUris,omitempty"`
	PublicURIs   []string `json:"publicUris,omitempty"`
	Delegated    []string `json:"delegated,omitempty"` // required permissions by name
	Application  []string `json:"application,omitempty"`
	Granted      bool     `json:"granted,omitempty"` // its permissions are granted in its tenant
}

// ReadWorld reads a world file.
func ReadWorld(files fs.FS, name string) (World, error) {
	data, err := fs.ReadFile(files, name)
	if err != nil {
		return World{}, fmt.Errorf("world file: %w", err)
	}
	var w World
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&w); err != nil {
		return World{}, fmt.Errorf("world file %s: %w", name, err)
	}
	if len(w.Tenants) == 0 {
		return World{}, fmt.Errorf("world file %s has no tenants", name)
	}
	return w, nil
}

// roleTemplates are the directory roles that a world file can name
// (auth.md, constants).
var roleTemplates = map[string]string{
	"Global Administrator":            globalAdministrator,
	"Privileged Role Administrator":   privilegedRoleAdministrator,
	"Application Administrator":       applicationAdministrator,
	"Cloud Application Administrator": cloudApplicationAdministrator,
	"Exchange Administrator":          exchangeAdministrator,
	"Compliance Administrator":        complianceAdministrator,
}

// roleNames are the names of role templates.
func roleNames(templates []string) []string {
	names := []string{}
	for name, id := range roleTemplates {
		if slices.Contains(templates, id) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// sku is a licence that can be bought, with its service plans. Identifiers are
// those of Microsoft's list "Product names and service plan identifiers for
// licensing". assumed: sku-ids
type sku struct {
	ID    string
	Plans []plan
}

type plan struct {
	ID, Name, Service string
}

var (
	planStandard   = plan{"9aaf7827-d63c-4b61-89c3-182f06f82e5c", "EXCHANGE_S_STANDARD", "exchange"}
	planEnterprise = plan{"efb87545-963c-4e0d-99df-69c6916d9eb0", "EXCHANGE_S_ENTERPRISE", "exchange"}
	planDeskless   = plan{"4a82b400-a79f-41a4-b4e2-e94f5787b113", "EXCHANGE_S_DESKLESS", "exchange"}
	planFoundation = plan{"113feb6c-3fe4-4440-bddc-54d774bf0318", "EXCHANGE_S_FOUNDATION", "exchange"}
	planSharePoint = plan{"5dbe027f-2339-4123-9542-606e4d348a72", "SHAREPOINTENTERPRISE", "SharePoint"}
	planTeams      = plan{"57ff2da0-773e-42df-b2af-ffb7a2317929", "TEAMS1", "TeamspaceAPI"}
	planPowerBI    = plan{"2049e525-b859-401b-b2a0-e0a31c4b1fe4", "BI_AZURE_P0", "PowerBI"}
)

var skus = map[string]sku{
	"SPE_E3":                   {"05e9a617-0261-4cee-bb44-138d3ef5d965", []plan{planEnterprise, planSharePoint, planTeams}},
	"O365_BUSINESS_ESSENTIALS": {"3b555118-da6a-4418-894f-7df1e2096870", []plan{planStandard, planSharePoint, planTeams}},
	"EXCHANGESTANDARD":         {"4b9405b0-7788-4568-add1-99614e613b69", []plan{planStandard}},
	"EXCHANGEDESKLESS":         {"80b2d799-d2ba-4d2a-8842-fb0d0f3a4b82", []plan{planDeskless}},
	"POWER_BI_STANDARD":        {"a403ebcc-fae0-4ca2-8c8c-7a907fd6c235", []plan{planFoundation, planPowerBI}},
	"SHAREPOINTENTERPRISE":     {"1fc08a02-8b3d-43b9-831e-f76859e04e1a", []plan{planSharePoint}},
}

// mailboxPlans are the plans that come with a mailbox (graph-backup.md 1.1).
var mailboxPlans = []string{planStandard.ID, planEnterprise.ID, planDeskless.ID}

// mailboxPlanStatus is the best status of the person's plans that come with a
// mailbox: Enabled, Warning, Suspended, or "" without such a plan.
func (u *user) mailboxPlanStatus() string {
	for _, l := range u.Licences {
		if slices.ContainsFunc(skus[l].Plans, func(p plan) bool { return slices.Contains(mailboxPlans, p.ID) }) {
			return firstOf(u.PlanStatus, "Enabled")
		}
	}
	return ""
}

// hasExchange says whether the tenant bought a licence with a mailbox.
func (t *tenant) hasExchange() bool {
	return slices.ContainsFunc(t.SKUs, func(l string) bool {
		return slices.ContainsFunc(skus[l].Plans, func(p plan) bool { return slices.Contains(mailboxPlans, p.ID) })
	})
}

// worldStart is when the tenants of a world were made.
var worldStart = time.Date(2019, 3, 12, 9, 0, 0, 0, time.UTC)
