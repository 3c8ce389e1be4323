package m365

import (
	"context"
	"errors"

	"holdfast/backup"
)

type tokenSource struct{}

// Tenant reads the tenant of a Grant for SignInConsent.
func (c *Client) Tenant(ctx context.Context, token backup.Secret) (TenantInfo, error) {
	return TenantInfo{}, errors.ErrUnsupported
}

// EnsureApplication makes app in the tenant, or goes on where it was left.
func (c *Client) EnsureApplication(ctx context.Context, tenantID string, token backup.Secret, app *backup.SubApplication, save func(backup.SubApplication) error) error {
	return errors.ErrUnsupported
}

// RemoveApplication deletes app in the tenant.
func (c *Client) RemoveApplication(ctx context.Context, token backup.Secret, app backup.SubApplication) error {
	return errors.ErrUnsupported
}

// Cmdlets lists the cmdlets that the token may run.
func (c *Client) Cmdlets(ctx context.Context, tenant, upn string, token backup.Secret) ([]string, error) {
	return nil, errors.ErrUnsupported
}

// EnsureRole makes the custom role of app.
func (c *Client) EnsureRole(ctx context.Context, tenant, upn string, token backup.Secret, app backup.SubApplication) error {
	return errors.ErrUnsupported
}

// CheckRole says whether app may run its cmdlets; nil means connected.
func (c *Client) CheckRole(ctx context.Context, tenantDomain string, app backup.SubApplication) error {
	return errors.ErrUnsupported
}

// App is a sub-application at work in its tenant.
type App struct{}

// App returns the sub-application app of a tenant.
func (c *Client) App(tenantID string, app backup.SubApplication) *App { return &App{} }

// Accounts lists the tenant's accounts, and the ids of deleted ones.
func (a *App) Accounts(ctx context.Context) (accounts []backup.Mailbox, deleted []string, err error) {
	return nil, nil, errors.ErrUnsupported
}

// Probe says whether a mailbox can be read.
func (a *App) Probe(ctx context.Context, userID string) error { return errors.ErrUnsupported }

// Mailbox is a mailbox as a source of items; it implements engine.Source.
type Mailbox struct{}

// Mailbox returns the mailbox of a user.
func (a *App) Mailbox(userID string) *Mailbox { return &Mailbox{} }
