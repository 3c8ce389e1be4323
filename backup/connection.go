package backup

import "time"

// Provider names where mail lives.
type Provider string

// The providers.
const (
	ProviderMicrosoft365 Provider = "microsoft365"
	ProviderGoogle       Provider = "google"
	ProviderIMAP         Provider = "imap"
)

// Method is how a Microsoft 365 connection is authorized.
type Method string

// The methods.
const (
	MethodServicePrincipal    Method = "service_principal"    // least privilege, recommended
	MethodBackupAdministrator Method = "backup_administrator" // legacy: a Global Administrator account
)

// Connection is an organization's tie to one provider.
type Connection struct {
	ID           ConnectionID
	OrgID        OrgID
	Provider     Provider
	Method       Method
	TenantID     string // Microsoft's directory id, a lower-case GUID; unique over all organizations
	TenantName   string // display name of the tenant
	TenantDomain string // initial domain, like contoso.onmicrosoft.com
	Workloads    []Workload
	Problem      Problem // what keeps the whole connection from working, zero if nothing
	CreatedAt    time.Time
	ReadyAt      time.Time // when the wizard was completed, zero before
	ListedAt     time.Time // when the accounts were last listed, zero if never
}

// ApplicationState says how far a sub-application is made.
type ApplicationState string

// The states, in the order in which a sub-application goes through them. What
// was done in the tenant is saved before the next call.
const (
	ApplicationPlanned   ApplicationState = "planned"   // nothing exists in the tenant yet
	ApplicationCreated   ApplicationState = "created"   // the application exists (ObjectID, AppID)
	ApplicationPrincipal ApplicationState = "principal" // its service principal exists (PrincipalID)
	ApplicationGranted   ApplicationState = "granted"   // every permission is granted
	ApplicationReady     ApplicationState = "ready"     // a token with every permission was issued
	ApplicationRemoved   ApplicationState = "removed"   // deleted in the tenant by Undo
)

// SubApplication is one of Holdfast's applications in the customer's tenant.
type SubApplication struct {
	ID           SubApplicationID
	OrgID        OrgID
	ConnectionID ConnectionID
	Workload     Workload
	DisplayName  string // what the tenant's administrators see
	State        ApplicationState
	ObjectID     string    // of the application registration
	AppID        string    // client id
	PrincipalID  string    // object id of the service principal (Enterprise application)
	Certificate  []byte    // DER, public
	PrivateKey   Secret    // PKCS #8 DER; sealed in the store
	NotAfter     time.Time // end of the certificate
	Problem      Problem   // why the last step failed, zero if it did not
	UpdatedAt    time.Time
}

// Marker is the tag by which the application is found again in the tenant
// after an answer was lost; it is unique to this row.
func (a SubApplication) Marker() string { return "holdfast:" + string(a.ID) }
