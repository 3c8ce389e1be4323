package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/backup"
)

const imapServerColumns = `connection_id, org_id, host, port, security, certificates, sign_in, master_user, token_url, client_id, scope, secrets_sealed`

func (s *Store) scanIMAPServer(row scanner) (backup.IMAPServer, error) {
	var v backup.IMAPServer
	var sealed []byte
	if err := row.Scan(&v.ConnectionID, &v.OrgID, &v.Host, &v.Port, &v.Security, &v.Certificates, &v.SignIn, &v.MasterUser, &v.TokenURL, &v.ClientID, &v.Scope, &sealed); err != nil {
		return v, err
	}
	secrets, err := s.unsealAll(sealed, imapServerPlace(v))
	v.MasterPassword, v.ClientSecret = secrets["master_password"], secrets["client_secret"]
	return v, err
}

func imapServerPlace(v backup.IMAPServer) []byte {
	return place("imap_servers", v.OrgID, "secrets", string(v.ConnectionID))
}

func imapSecretPlace(org backup.OrgID, mailbox backup.MailboxID) []byte {
	return place("imap_accounts", org, "secret", string(mailbox))
}

// IMAPServer returns the settings of a connection to an IMAP server, with its
// secrets.
func (s *Store) IMAPServer(ctx context.Context, org backup.OrgID, connection backup.ConnectionID) (backup.IMAPServer, error) {
	return one(ctx, s.read, s.scanIMAPServer, `SELECT `+imapServerColumns+` FROM imap_servers WHERE org_id = $1 AND connection_id = $2`, org, connection)
}

// CreateIMAPConnection makes a connection to an IMAP server with its accounts,
// none of which is backed up yet, and has them tested.
func (s *Store) CreateIMAPConnection(ctx context.Context, v backup.IMAPServer, accounts []backup.IMAPAccount, by backup.Actor) (backup.Connection, error) {
	if err := v.Validate(); err != nil {
		return backup.Connection{}, err
	}
	if len(accounts) == 0 {
		return backup.Connection{}, backup.FieldErrors{"accounts": "Enter at least one account."}
	}
	id := backup.NewID[backup.ConnectionID]()
	c := backup.Connection{ID: id, OrgID: by.Org.ID, Provider: backup.ProviderIMAP, TenantID: string(id), TenantName: v.Host, TenantDomain: v.Host,
		Workloads: []backup.Workload{backup.WorkloadMail}, CreatedAt: time.Now()}
	v.OrgID, v.ConnectionID = c.OrgID, c.ID
	return c, s.inTx(ctx, func(tx *sql.Tx) error {
		if err := s.saveConnection(ctx, tx, c, by); err != nil {
			return err
		}
		if err := s.saveIMAPServer(ctx, tx, v); err != nil {
			return err
		}
		if _, err := s.addIMAPAccounts(ctx, tx, c, accounts); err != nil {
			return err
		}
		return s.enqueueTx(ctx, tx, backup.TestIMAPJob{OrgID: c.OrgID, ConnectionID: c.ID})
	})
}

func (s *Store) saveIMAPServer(ctx context.Context, tx *sql.Tx, v backup.IMAPServer) error {
	sealed, err := s.sealAll(map[string]backup.Secret{"master_password": v.MasterPassword, "client_secret": v.ClientSecret}, imapServerPlace(v))
	if err != nil {
		return err
	}
	err = execOne(ctx, tx, `
		INSERT INTO imap_servers (`+imapServerColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
		ON CONFLICT (connection_id) DO UPDATE SET host = excluded.host, port = excluded.port, security = excluded.security, certificates = excluded.certificates,
			sign_in = excluded.sign_in, master_user = excluded.master_user, token_url = excluded.token_url, client_id = excluded.client_id, scope = excluded.scope,
			secrets_sealed = excluded.secrets_sealed
		WHERE imap_servers.org_id = excluded.org_id`,
		v.ConnectionID, v.OrgID, v.Host, v.Port, v.Security, v.Certificates, v.SignIn, v.MasterUser, v.TokenURL, v.ClientID, v.Scope, sealed)
	if err != nil {
		return fmt.Errorf("save IMAP server: %w", err)
	}
	return nil
}

// SaveIMAPServer changes the settings of a connection and has every account
// tested again; those that are backed up are tried at once.
func (s *Store) SaveIMAPServer(ctx context.Context, v backup.IMAPServer, by backup.Actor) error {
	if err := v.Validate(); err != nil {
		return err
	}
	return s.inTx(ctx, func(tx *sql.Tx) error {
		err := execOne(ctx, tx, `UPDATE connections SET tenant_name = $1, tenant_domain = $1, problem = '' WHERE org_id = $2 AND id = $3 AND provider = 'imap'`, v.Host, v.OrgID, v.ConnectionID)
		if err != nil {
			return fmt.Errorf("name the connection: %w", err)
		}
		if err := s.saveIMAPServer(ctx, tx, v); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE imap_accounts SET tested_at = 0, problem = '' WHERE org_id = $1 AND connection_id = $2`, v.OrgID, v.ConnectionID); err != nil {
			return fmt.Errorf("have the accounts tested: %w", err)
		}
		if _, err := tx.ExecContext(ctx, `UPDATE mailboxes SET next_run_at = $1 WHERE org_id = $2 AND connection_id = $3 AND selected = TRUE AND failures > 0 AND deactivated = '' AND next_run_at > 0`,
			millis(time.Now()), v.OrgID, v.ConnectionID); err != nil {
			return fmt.Errorf("have the mailboxes tried: %w", err)
		}
		if err := s.enqueueTx(ctx, tx, backup.TestIMAPJob{OrgID: v.OrgID, ConnectionID: v.ConnectionID}); err != nil {
			return err
		}
		return s.record(ctx, tx, by, v.OrgID, "imap.server", v.Host, fmt.Sprintf("port %d, %s, %s", v.Port, v.Security, v.SignIn))
	})
}

// AddIMAPAccounts adds accounts to a connection and has them tested. One that is
// there already gets the new user name and password. It returns how many are new.
func (s *Store) AddIMAPAccounts(ctx context.Context, c backup.Connection, accounts []backup.IMAPAccount, by backup.Actor) (added int, err error) {
	if len(accounts) == 0 {
		return 0, backup.FieldErrors{"accounts": "Enter at least one account."}
	}
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		if _, err := one(ctx, tx, scanValue[string], `SELECT connection_id FROM imap_servers WHERE org_id = $1 AND connection_id = $2`, c.OrgID, c.ID); err != nil {
			return err
		}
		if added, err = s.addIMAPAccounts(ctx, tx, c, accounts); err != nil {
			return err
		}
		if err := s.enqueueTx(ctx, tx, backup.TestIMAPJob{OrgID: c.OrgID, ConnectionID: c.ID}); err != nil {
			return err
		}
		return s.record(ctx, tx, by, c.OrgID, "imap.accounts", c.TenantDomain, fmt.Sprintf("%d accounts, %d of them new", len(accounts), added))
	})
	return added, err
}

func (s *Store) addIMAPAccounts(ctx context.Context, tx *sql.Tx, c backup.Connection, accounts []backup.IMAPAccount) (added int, err error) {
	for _, a := range accounts {
		key := strings.ToLower(clean(a.Address))
		id, err := one(ctx, tx, scanValue[backup.MailboxID], `SELECT id FROM mailboxes WHERE org_id = $1 AND connection_id = $2 AND provider_id = $3`, c.OrgID, c.ID, key)
		if errors.Is(err, backup.ErrNotFound) {
			id = backup.NewID[backup.MailboxID]()
			added++
			err = insertMailbox(ctx, tx, backup.Mailbox{ID: id, OrgID: c.OrgID, ConnectionID: c.ID, ProviderID: key, Address: clean(a.Address), Name: clean(a.Address),
				Kind: backup.KindUser, Licence: backup.LicenceNotNeeded, Enabled: true})
		}
		if err != nil {
			return added, fmt.Errorf("add account: %w", err)
		}
		if err := s.saveIMAPAccount(ctx, tx, c, id, a.User, a.Secret); err != nil {
			return added, err
		}
	}
	return added, nil
}

// saveIMAPAccount writes how an account is opened. It counts as not tested.
func (s *Store) saveIMAPAccount(ctx context.Context, tx *sql.Tx, c backup.Connection, id backup.MailboxID, user string, secret backup.Secret) error {
	sealed, err := s.seal(secret, imapSecretPlace(c.OrgID, id))
	if err != nil {
		return err
	}
	err = execOne(ctx, tx, `
		INSERT INTO imap_accounts (mailbox_id, org_id, connection_id, user_name, secret_sealed) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (mailbox_id) DO UPDATE SET user_name = excluded.user_name, secret_sealed = excluded.secret_sealed, tested_at = 0, problem = ''
		WHERE imap_accounts.org_id = excluded.org_id`, id, c.OrgID, c.ID, user, sealed)
	if err != nil {
		return fmt.Errorf("save IMAP account: %w", err)
	}
	if _, err := tx.ExecContext(ctx, `UPDATE mailboxes SET next_run_at = $1 WHERE org_id = $2 AND id = $3 AND selected = TRUE AND failures > 0 AND deactivated = '' AND next_run_at > 0`,
		millis(time.Now()), c.OrgID, id); err != nil {
		return fmt.Errorf("have the mailbox tried: %w", err)
	}
	return nil
}

// SaveIMAPAccount changes how one account is opened, and has it tested. An empty
// secret keeps the one that is there.
func (s *Store) SaveIMAPAccount(ctx context.Context, c backup.Connection, a backup.IMAPAccount, by backup.Actor) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		now, err := one(ctx, tx, s.scanIMAPAccount(c.OrgID), imapAccountQuery+` AND a.mailbox_id = $3`, c.OrgID, c.ID, a.MailboxID)
		if err != nil {
			return err
		}
		if len(a.Secret) == 0 {
			a.Secret = now.Secret
		}
		if err := s.saveIMAPAccount(ctx, tx, c, a.MailboxID, a.User, a.Secret); err != nil {
			return err
		}
		if err := s.enqueueTx(ctx, tx, backup.TestIMAPJob{OrgID: c.OrgID, ConnectionID: c.ID}); err != nil {
			return err
		}
		return s.record(ctx, tx, by, c.OrgID, "imap.account", now.Address, "user name or password")
	})
}

// KeepIMAPToken keeps a refresh token that the provider gave in place of the last.
func (s *Store) KeepIMAPToken(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, token backup.Secret) error {
	sealed, err := s.seal(token, imapSecretPlace(org, mailbox))
	if err != nil {
		return err
	}
	return execOne(ctx, s.db, `UPDATE imap_accounts SET secret_sealed = $1 WHERE org_id = $2 AND mailbox_id = $3`, sealed, org, mailbox)
}

const imapAccountQuery = `SELECT a.mailbox_id, m.address, a.user_name, a.secret_sealed, m.selected, a.tested_at, a.folders, a.messages, a.problem
	FROM imap_accounts a JOIN mailboxes m ON m.org_id = a.org_id AND m.id = a.mailbox_id WHERE a.org_id = $1 AND a.connection_id = $2`

func (s *Store) scanIMAPAccount(org backup.OrgID) func(scanner) (backup.IMAPAccount, error) {
	return func(row scanner) (backup.IMAPAccount, error) {
		var a backup.IMAPAccount
		var sealed []byte
		var problem string
		var tested int64
		if err := row.Scan(&a.MailboxID, &a.Address, &a.User, &sealed, &a.Selected, &tested, &a.Folders, &a.Messages, &problem); err != nil {
			return a, err
		}
		a.TestedAt, a.Problem = moment(tested), problemOf(problem)
		secret, err := s.unseal(sealed, imapSecretPlace(org, a.MailboxID))
		a.Secret = secret
		return a, err
	}
}

// IMAPAccounts returns the accounts of a connection by address, with their
// secrets.
func (s *Store) IMAPAccounts(ctx context.Context, org backup.OrgID, connection backup.ConnectionID) ([]backup.IMAPAccount, error) {
	return collect(ctx, s.read, s.scanIMAPAccount(org), imapAccountQuery+` ORDER BY m.name_folded, m.id`, org, connection)
}

// IMAPAccount returns one account of a connection.
func (s *Store) IMAPAccount(ctx context.Context, org backup.OrgID, connection backup.ConnectionID, mailbox backup.MailboxID) (backup.IMAPAccount, error) {
	return one(ctx, s.read, s.scanIMAPAccount(org), imapAccountQuery+` AND a.mailbox_id = $3`, org, connection, mailbox)
}

// SetIMAPTested keeps how a test of an account went.
func (s *Store) SetIMAPTested(ctx context.Context, org backup.OrgID, a backup.IMAPAccount) error {
	return execOne(ctx, s.db, `UPDATE imap_accounts SET tested_at = $1, folders = $2, messages = $3, problem = $4 WHERE org_id = $5 AND mailbox_id = $6`,
		millis(a.TestedAt), a.Folders, a.Messages, problemText(a.Problem), org, a.MailboxID)
}

// TestIMAPAccounts has the accounts of a connection tested again.
func (s *Store) TestIMAPAccounts(ctx context.Context, c backup.Connection) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `UPDATE imap_accounts SET tested_at = 0, problem = '' WHERE org_id = $1 AND connection_id = $2`, c.OrgID, c.ID); err != nil {
			return fmt.Errorf("have the accounts tested: %w", err)
		}
		return s.enqueueTx(ctx, tx, backup.TestIMAPJob{OrgID: c.OrgID, ConnectionID: c.ID})
	})
}

// StartIMAPBackup adds accounts to what is backed up, and completes the
// connection. Their first backups start at once; selecting none is
// backup.FieldErrors.
func (s *Store) StartIMAPBackup(ctx context.Context, c backup.Connection, ids []backup.MailboxID, by backup.Actor) error {
	return s.fillAfter(ctx, s.inTx(ctx, func(tx *sql.Tx) error {
		n, _, err := s.selectMailboxes(ctx, tx, c.OrgID, c.ID, ids)
		if err != nil {
			return err
		}
		if n == 0 {
			return backup.FieldErrors{"account": "Select at least one account."}
		}
		if _, err := tx.ExecContext(ctx, `UPDATE connections SET ready_at = $1 WHERE org_id = $2 AND id = $3 AND provider = 'imap' AND ready_at = 0`, millis(time.Now()), c.OrgID, c.ID); err != nil {
			return fmt.Errorf("complete connection: %w", err)
		}
		return s.record(ctx, tx, by, c.OrgID, "backup.add", c.TenantDomain, fmt.Sprintf("%d mailboxes", n))
	}))
}
