package simulator

import "time"

// exchange is the Exchange Online organization of a tenant.
type exchange struct{}

// WorldExchange says how a tenant's Exchange Online starts.
type WorldExchange struct {
	Dehydrated bool     `json:"dehydrated,omitempty"` // Enable-OrganizationCustomization was never run
	HydrateFor Duration `json:"hydrateFor,omitempty"` // how long creates are refused after it
}

// dehydrated is an organization that was never customised.
func dehydrated() *WorldExchange {
	return &WorldExchange{Dehydrated: true, HydrateFor: Duration(2 * time.Minute)}
}

// exchangeRoutes registers the Exchange admin REST interface.
func (s *Simulator) exchangeRoutes() {}

// seedExchange makes the organization of a new tenant from the world file; w
// may be nil.
func (s *Simulator) seedExchange(t *tenant, w *WorldExchange) error { return nil }

// exchangeAllows says whether an Exchange role assigned to the calling
// application (RBAC for Applications) gives one of the permissions on the
// user's mailbox, although the token has none of them.
func (s *Simulator) exchangeAllows(c *caller, u *user, permissions []string) bool { return false }

// principalDeleted removes the Exchange pointer of a deleted service principal
// and that pointer's role assignments.
func (s *Simulator) principalDeleted(t *tenant, p *principal) {}
