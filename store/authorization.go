package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/riverqueue/river"

	"holdfast/backup"
)

const authorizationColumns = `id, org_id, connection_id, started_by, moved_by, provider, method, flow, workloads, step, failed_from, problem, version,
	sign_in_state, sign_in_purpose, sign_in_session, sign_in_at, tenant_id, tenant_name, tenant_domain, admin_id, admin_upn, role_admin_upn,
	device_session, device_uri, device_interval_ms, device_expires_at, device_polled_at, device_authorized_at,
	setup_token_expires_at, role_token_expires_at, secrets_sealed, created_at, updated_at, purpose, attested`

func (s *Store) scanAuthorization(row scanner) (backup.Authorization, error) {
	var a backup.Authorization
	var workloads, problem string
	var signInAt, interval, expires, polled, authorized, setupEnds, roleEnds, created, updated int64
	var sealed []byte
	if err := row.Scan(&a.ID, &a.OrgID, &a.ConnectionID, &a.StartedBy, &a.MovedBy, &a.Provider, &a.Method, &a.Flow, &workloads, &a.Step, &a.FailedFrom, &problem, &a.Version,
		&a.SignIn.State, &a.SignIn.Purpose, &a.SignIn.Session, &signInAt, &a.TenantID, &a.TenantName, &a.TenantDomain, &a.AdminID, &a.AdminUPN, &a.RoleAdminUPN,
		&a.Device.Session, &a.Device.VerificationURI, &interval, &expires, &polled, &authorized,
		&setupEnds, &roleEnds, &sealed, &created, &updated, &a.Purpose, &a.Attested); err != nil {
		return a, err
	}
	a.Workloads, a.Problem = workloadsOf(workloads), problemOf(problem)
	a.SignIn.At, a.Device.Interval = moment(signInAt), time.Duration(interval)*time.Millisecond
	a.Device.ExpiresAt, a.Device.PolledAt, a.Device.AuthorizedAt = moment(expires), moment(polled), moment(authorized)
	a.SetupTokenExpiresAt, a.RoleTokenExpiresAt = moment(setupEnds), moment(roleEnds)
	a.CreatedAt, a.UpdatedAt = moment(created), moment(updated)
	secrets, err := s.unsealAll(sealed, place("authorizations", a.OrgID, "secrets", string(a.ID)))
	a.SignIn.Nonce, a.SignIn.Verifier = secrets["nonce"], secrets["verifier"]
	a.Device.UserCode, a.Device.DeviceCode = secrets["user_code"].Reveal(), secrets["device_code"]
	a.SetupToken, a.RoleToken, a.RoleRefreshToken = secrets["setup_token"], secrets["role_token"], secrets["role_refresh_token"]
	return a, err
}

// authorizationArgs are the values of authorizationColumns.
func (s *Store) authorizationArgs(a backup.Authorization) ([]any, error) {
	sealed, err := s.sealAll(map[string]backup.Secret{
		"nonce": a.SignIn.Nonce, "verifier": a.SignIn.Verifier, "user_code": backup.Secret(a.Device.UserCode), "device_code": a.Device.DeviceCode,
		"setup_token": a.SetupToken, "role_token": a.RoleToken, "role_refresh_token": a.RoleRefreshToken,
	}, place("authorizations", a.OrgID, "secrets", string(a.ID)))
	return []any{a.ID, a.OrgID, a.ConnectionID, a.StartedBy, a.MovedBy, a.Provider, a.Method, a.Flow, workloadsText(a.Workloads), a.Step, a.FailedFrom, problemText(a.Problem), a.Version,
		a.SignIn.State, a.SignIn.Purpose, a.SignIn.Session, millis(a.SignIn.At), a.TenantID, a.TenantName, a.TenantDomain, a.AdminID, a.AdminUPN, a.RoleAdminUPN,
		a.Device.Session, a.Device.VerificationURI, a.Device.Interval.Milliseconds(), millis(a.Device.ExpiresAt), millis(a.Device.PolledAt), millis(a.Device.AuthorizedAt),
		millis(a.SetupTokenExpiresAt), millis(a.RoleTokenExpiresAt), sealed, millis(a.CreatedAt), millis(a.UpdatedAt), a.Purpose, a.Attested}, err
}

// ActiveAuthorization returns the authorization of an organization that still
// waits for something; backup.ErrNotFound if there is none.
func (s *Store) ActiveAuthorization(ctx context.Context, org backup.OrgID) (backup.Authorization, error) {
	return one(ctx, s.read, s.scanAuthorization, `SELECT `+authorizationColumns+` FROM authorizations
		WHERE org_id = $1 AND step NOT IN ('done', 'abandoned') ORDER BY created_at DESC LIMIT 1`, org)
}

// LatestAuthorization returns the newest authorization of an organization,
// whatever its step.
func (s *Store) LatestAuthorization(ctx context.Context, org backup.OrgID) (backup.Authorization, error) {
	return one(ctx, s.read, s.scanAuthorization, `SELECT `+authorizationColumns+` FROM authorizations
		WHERE org_id = $1 ORDER BY created_at DESC, id LIMIT 1`, org)
}

// FailedUndos returns the authorizations of an organization that were given up
// and whose things in the tenant could not be removed, oldest first. What a later
// authorization of the same tenant took over is its business.
func (s *Store) FailedUndos(ctx context.Context, org backup.OrgID) ([]backup.Authorization, error) {
	return collect(ctx, s.read, s.scanAuthorization, `SELECT `+authorizationColumns+` FROM authorizations
		WHERE org_id = $1 AND step = 'abandoned' AND problem <> '' AND NOT EXISTS (SELECT 1 FROM authorizations l
			WHERE l.org_id = $1 AND l.tenant_id = authorizations.tenant_id AND l.created_at > authorizations.created_at AND l.purpose IN ('connect', 'migrate'))
		ORDER BY created_at, id`, org)
}

// ForgetFailedUndo notes that somebody has removed by hand what an authorization
// that was given up left in the tenant, and forgets it here too. One that left
// nothing is backup.ErrNotFound.
func (s *Store) ForgetFailedUndo(ctx context.Context, org backup.OrgID, id backup.AuthorizationID, by backup.Actor) error {
	left, err := s.FailedUndos(ctx, org)
	if err != nil {
		return fmt.Errorf("read what could not be removed: %w", err)
	}
	i := slices.IndexFunc(left, func(a backup.Authorization) bool { return a.ID == id })
	if i < 0 {
		return backup.ErrNotFound
	}
	a := left[i]
	switch a.Purpose {
	case backup.PurposeMigrate:
		err = s.forgetApplications(ctx, org, a.ConnectionID)
	case backup.PurposeConnect:
		err = s.DeleteConnection(ctx, org, a.ConnectionID)
	}
	if err != nil && !errors.Is(err, backup.ErrNotFound) {
		return fmt.Errorf("forget what authorization %s made: %w", id, err)
	}
	return s.inTx(ctx, func(tx *sql.Tx) error {
		a.Problem = backup.Problem{}
		if err := s.saveAuthorization(ctx, tx, &a); err != nil {
			return err
		}
		return s.record(ctx, tx, by, org, "authorization.cleaned", a.TenantDomain, "removed by hand")
	})
}

// forgetApplications forgets the sub-applications that a migration made.
func (s *Store) forgetApplications(ctx context.Context, org backup.OrgID, id backup.ConnectionID) error {
	_, err := s.db.ExecContext(ctx, `UPDATE sub_applications SET state = 'removed' WHERE org_id = $1 AND connection_id = $2
		AND EXISTS (SELECT 1 FROM connections c WHERE c.org_id = $1 AND c.id = $2 AND c.method = 'backup_administrator')`, org, id)
	if err != nil {
		return fmt.Errorf("forget sub-applications: %w", err)
	}
	return s.ForgetMigration(ctx, org, id)
}

// Authorization returns an authorization of an organization.
func (s *Store) Authorization(ctx context.Context, org backup.OrgID, id backup.AuthorizationID) (backup.Authorization, error) {
	return one(ctx, s.read, s.scanAuthorization, `SELECT `+authorizationColumns+` FROM authorizations WHERE org_id = $1 AND id = $2`, org, id)
}

// AuthorizationByState returns the active authorization of an organization
// whose sign-in under way has the given state.
func (s *Store) AuthorizationByState(ctx context.Context, org backup.OrgID, state string) (backup.Authorization, error) {
	if state == "" {
		return backup.Authorization{}, backup.ErrNotFound
	}
	return one(ctx, s.read, s.scanAuthorization, `SELECT `+authorizationColumns+` FROM authorizations
		WHERE sign_in_state = $1 AND org_id = $2 AND step NOT IN ('done', 'abandoned')`, state, org)
}

// WaitingAuthorizations returns the authorizations of all organizations that
// wait for a background job since before a time.
func (s *Store) WaitingAuthorizations(ctx context.Context, before time.Time) ([]backup.Authorization, error) {
	return collect(ctx, s.read, s.scanAuthorization, `SELECT `+authorizationColumns+` FROM authorizations
		WHERE step IN ('create_administrator', 'remove_administrator', 'create_applications', 'remove_applications', 'verify') AND updated_at < $1 ORDER BY updated_at LIMIT 100`, millis(before))
}

// StartAuthorization stores a new authorization. An organization has one
// active authorization per provider: if there is one already, it is returned
// with backup.ErrConflict.
func (s *Store) StartAuthorization(ctx context.Context, a backup.Authorization, by backup.Actor) (backup.Authorization, error) {
	if a.ID == "" {
		a.ID = backup.NewID[backup.AuthorizationID]()
	}
	if a.Purpose == "" {
		a.Purpose = backup.PurposeConnect
	}
	a.Version, a.StartedBy = 1, by.Person.ID
	a.CreatedAt = time.Now()
	a.UpdatedAt = a.CreatedAt
	args, err := s.authorizationArgs(a)
	if err != nil {
		return a, err
	}
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO authorizations (`+authorizationColumns+`)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36)`,
			args...); err != nil {
			return fmt.Errorf("start authorization: %w", conflict(err))
		}
		return s.record(ctx, tx, by, a.OrgID, "authorization.start", string(a.Provider), string(a.Purpose)+" "+string(a.Method))
	})
	if errors.Is(err, backup.ErrConflict) {
		existing, findErr := s.ActiveAuthorization(ctx, a.OrgID)
		return existing, errors.Join(err, findErr)
	}
	return a, err
}

// SaveAuthorization saves a and puts jobs into the queue in the same
// transaction. It returns backup.ErrStale if somebody else saved it since a
// was read; otherwise it counts a.Version up.
func (s *Store) SaveAuthorization(ctx context.Context, a *backup.Authorization, jobs ...river.JobArgs) error {
	return s.inTx(ctx, func(tx *sql.Tx) error { return s.saveAuthorization(ctx, tx, a, jobs...) })
}

func (s *Store) saveAuthorization(ctx context.Context, tx *sql.Tx, a *backup.Authorization, jobs ...river.JobArgs) error {
	next := *a
	next.Version++
	next.UpdatedAt = time.Now()
	args, err := s.authorizationArgs(next)
	if err != nil {
		return err
	}
	err = execOne(ctx, tx, `
		UPDATE authorizations SET connection_id = $3, started_by = $4, moved_by = $5, provider = $6, method = $7, flow = $8, workloads = $9,
			step = $10, failed_from = $11, problem = $12, version = $13, sign_in_state = $14, sign_in_purpose = $15, sign_in_session = $16, sign_in_at = $17,
			tenant_id = $18, tenant_name = $19, tenant_domain = $20, admin_id = $21, admin_upn = $22, role_admin_upn = $23,
			device_session = $24, device_uri = $25, device_interval_ms = $26, device_expires_at = $27, device_polled_at = $28, device_authorized_at = $29,
			setup_token_expires_at = $30, role_token_expires_at = $31, secrets_sealed = $32, created_at = $33, updated_at = $34, purpose = $35, attested = $36
		WHERE id = $1 AND org_id = $2 AND version = $13 - 1`, args...)
	if errors.Is(err, backup.ErrNotFound) {
		return backup.ErrStale
	}
	if err != nil {
		return fmt.Errorf("save authorization: %w", err)
	}
	if err := s.enqueueTx(ctx, tx, jobs...); err != nil {
		return err
	}
	*a = next
	return nil
}

// ConsentGranted saves, in one transaction, the connection that a consent
// makes, its planned sub-applications and the authorization that goes on to
// create them. A tenant that another organization uses is backup.ErrConflict,
// and nothing is saved.
func (s *Store) ConsentGranted(ctx context.Context, a *backup.Authorization, c backup.Connection, apps []backup.SubApplication, by backup.Actor, jobs ...river.JobArgs) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if err := s.saveConnection(ctx, tx, c, by); err != nil {
			return err
		}
		for _, app := range apps {
			if err := s.saveSubApplication(ctx, tx, app); err != nil {
				return err
			}
		}
		return s.saveAuthorization(ctx, tx, a, jobs...)
	})
}

// CompleteAuthorization moves a to StepDone, erases its tokens, and gives the
// connection the method that a was for, all in one transaction. What kept the
// connection from working is forgotten: the jobs that use it will tell.
func (s *Store) CompleteAuthorization(ctx context.Context, a *backup.Authorization, jobs ...river.JobArgs) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if err := s.completeConnection(ctx, tx, *a); err != nil {
			return err
		}
		next := *a
		next.Complete()
		if err := s.saveAuthorization(ctx, tx, &next, jobs...); err != nil {
			return err
		}
		*a = next
		return s.appendFor(ctx, tx, backup.Entry{OrgID: a.OrgID, PersonID: a.StartedBy, Person: a.MovedBy,
			Kind: "authorization.done", Subject: a.TenantDomain, Detail: string(a.Purpose) + " " + string(a.Method)})
	})
}

// completeConnection gives the connection the method and the workloads that it
// has once a is done. What a removed from the tenant is forgotten here.
func (s *Store) completeConnection(ctx context.Context, tx *sql.Tx, a backup.Authorization) error {
	conn, err := one(ctx, tx, scanConnection, `SELECT `+connectionColumns+` FROM connections WHERE org_id = $1 AND id = $2`, a.OrgID, a.ConnectionID)
	if err != nil {
		return fmt.Errorf("complete connection: %w", err)
	}
	for _, w := range a.Workloads {
		if a.Purpose != backup.PurposeRemove {
			if !slices.Contains(conn.Workloads, w) {
				conn.Workloads = append(conn.Workloads, w)
			}
			continue
		}
		conn.Workloads = slices.DeleteFunc(conn.Workloads, func(have backup.Workload) bool { return have == w })
		if _, err := tx.ExecContext(ctx, `DELETE FROM sub_applications WHERE org_id = $1 AND connection_id = $2 AND workload = $3 AND state = 'removed'`, a.OrgID, a.ConnectionID, w); err != nil {
			return fmt.Errorf("forget the %s application: %w", w, err)
		}
		if w != backup.WorkloadExchange {
			continue
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM custom_roles WHERE org_id = $1 AND connection_id = $2`, a.OrgID, a.ConnectionID); err != nil {
			return fmt.Errorf("forget the custom role: %w", err)
		}
	}
	reverted := conn.RevertedAt
	if a.Method == backup.MethodBackupAdministrator && a.Purpose == backup.PurposeRepair {
		conn.Workloads, reverted = a.Workloads, time.Time{} // the administrator has authorized
	} else if a.Purpose == backup.PurposeMigrate {
		reverted = time.Time{}
	}
	if err := execOne(ctx, tx, `UPDATE connections SET method = $1, workloads = $2, problem = '', reverted_at = $3 WHERE org_id = $4 AND id = $5`,
		a.Method, workloadsText(conn.Workloads), millis(reverted), a.OrgID, a.ConnectionID); err != nil {
		return fmt.Errorf("complete connection: %w", err)
	}
	return nil
}

// EraseExpiredTokens removes administrators' tokens past their life from
// authorizations: those for making applications when they end, those for the
// custom role, which can be renewed, RoleGiveUp later. The person of a step
// whose token is gone is asked to sign in again.
func (s *Store) EraseExpiredTokens(ctx context.Context, now time.Time) error {
	old, err := collect(ctx, s.read, s.scanAuthorization, `SELECT `+authorizationColumns+` FROM authorizations
		WHERE (setup_token_expires_at > 0 AND setup_token_expires_at < $1) OR (role_token_expires_at > 0 AND role_token_expires_at < $2) LIMIT 100`,
		millis(now), millis(now.Add(-backup.RoleGiveUp)))
	if err != nil {
		return fmt.Errorf("find expired tokens: %w", err)
	}
	for _, a := range old {
		if a.SetupTokenExpiresAt.Before(now) {
			a.SetupToken, a.SetupTokenExpiresAt = nil, time.Time{}
		}
		if end := a.RoleTokenExpiresAt; !end.IsZero() && end.Before(now.Add(-backup.RoleGiveUp)) {
			a.RoleToken, a.RoleRefreshToken, a.RoleTokenExpiresAt, a.Device = nil, nil, time.Time{}, backup.DeviceAttempt{}
		}
		if err := s.SaveAuthorization(ctx, &a); err != nil && !errors.Is(err, backup.ErrStale) {
			return err
		}
	}
	return nil
}
