package jobs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/riverqueue/river"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"holdfast/backup"
	"holdfast/backup/imap"
)

// imapServers opens the mailboxes of connections to IMAP servers.
type imapServers struct{ *Runner }

func (p imapServers) open(ctx context.Context, conn backup.Connection, m backup.Mailbox) (openMailbox, error) {
	server, login, err := p.credentials(ctx, conn, m)
	if err != nil {
		return nil, err
	}
	return imap.Open(server, login, imap.Options{}), nil
}

// target signs in with what backups sign in with: it may write, too.
func (p imapServers) target(ctx context.Context, conn backup.Connection, m backup.Mailbox) (openTarget, error) {
	server, login, err := p.credentials(ctx, conn, m)
	if errors.Is(err, backup.ErrNotFound) {
		return nil, &backup.Problem{Kind: backup.ProblemPassword, At: time.Now(), Err: err,
			Text: "Holdfast has no user name and password of this mailbox any more. Add the account again under Account Settings, Credentials, or restore to another mailbox."}
	}
	if err != nil {
		return nil, err
	}
	return imap.OpenTarget(server, login, imap.Options{}), nil
}

func (p imapServers) credentials(ctx context.Context, conn backup.Connection, m backup.Mailbox) (backup.IMAPServer, imap.Login, error) {
	server, err := p.Store.IMAPServer(ctx, conn.OrgID, conn.ID)
	if err != nil {
		return server, imap.Login{}, fmt.Errorf("read IMAP server of connection %s: %w", conn.ID, err)
	}
	account, err := p.Store.IMAPAccount(ctx, conn.OrgID, conn.ID, m.ID)
	if err != nil {
		return server, imap.Login{}, fmt.Errorf("read IMAP account of mailbox %s: %w", m.ID, err)
	}
	return server, p.login(server, account), nil
}

// accounts is never asked: what there is was entered by an admin.
func (p imapServers) accounts(context.Context, backup.Connection) ([]backup.Mailbox, error) {
	return nil, errors.New("an IMAP server does not list its accounts")
}

// login is how an account is signed in to.
func (r *Runner) login(server backup.IMAPServer, a backup.IMAPAccount) imap.Login {
	l := imap.Login{User: a.User, Password: a.Secret}
	switch server.SignIn {
	case backup.IMAPMaster:
		l.Master, l.Password = server.MasterUser, server.MasterPassword
	case backup.IMAPOAuth:
		l.Password, l.Token = nil, r.accessToken(server, a)
	}
	return l
}

// accessToken gets access tokens for an account: for its refresh token, or for the
// client's own credentials. One is used until shortly before its end.
func (r *Runner) accessToken(server backup.IMAPServer, a backup.IMAPAccount) func(context.Context) (string, error) {
	var mu sync.Mutex
	var token *oauth2.Token
	refresh := a.Secret.Reveal()
	return func(ctx context.Context) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if token.Valid() {
			return token.AccessToken, nil
		}
		var err error
		if refresh == "" {
			c := clientcredentials.Config{ClientID: server.ClientID, ClientSecret: server.ClientSecret.Reveal(), TokenURL: server.TokenURL}
			if server.Scope != "" {
				c.Scopes = []string{server.Scope}
			}
			token, err = c.Token(ctx)
		} else {
			c := oauth2.Config{ClientID: server.ClientID, ClientSecret: server.ClientSecret.Reveal(), Endpoint: oauth2.Endpoint{TokenURL: server.TokenURL}}
			token, err = c.TokenSource(ctx, &oauth2.Token{RefreshToken: refresh}).Token()
		}
		if err != nil {
			return "", tokenRefused(err)
		}
		if token.RefreshToken != "" && token.RefreshToken != refresh {
			refresh = token.RefreshToken
			if err := r.Store.KeepIMAPToken(context.WithoutCancel(ctx), server.OrgID, a.MailboxID, backup.Secret(refresh)); err != nil {
				return "", fmt.Errorf("keep the new refresh token: %w", err)
			}
		}
		return token.AccessToken, nil
	}
}

// tokenRefused keeps an answer of the token endpoint out of the log, but for its
// code: it may repeat what was sent.
func tokenRefused(err error) error {
	if refused, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		status := 0
		if refused.Response != nil {
			status = refused.Response.StatusCode
		}
		return fmt.Errorf("token endpoint: status %d %s", status, refused.ErrorCode)
	}
	return err
}

// testIMAP signs in to the accounts of a connection that wait for it.
type testIMAP struct {
	river.WorkerDefaults[backup.TestIMAPJob]
	*Runner
}

// testsAtATime is how many accounts of a server are tested at the same time.
const testsAtATime = 4

// Timeout implements river.Worker: a long list takes as long as it takes.
func (*testIMAP) Timeout(*river.Job[backup.TestIMAPJob]) time.Duration { return -1 }

// Work implements river.Worker. Accounts that came while it worked are tested too.
func (w *testIMAP) Work(ctx context.Context, job *river.Job[backup.TestIMAPJob]) error {
	for {
		server, err := w.Store.IMAPServer(ctx, job.Args.OrgID, job.Args.ConnectionID)
		if errors.Is(err, backup.ErrNotFound) {
			return nil // given up
		}
		if err != nil {
			return fmt.Errorf("read IMAP server: %w", err)
		}
		accounts, err := w.Store.IMAPAccounts(ctx, server.OrgID, server.ConnectionID)
		if err != nil {
			return fmt.Errorf("read IMAP accounts: %w", err)
		}
		waiting := accounts[:0]
		for _, a := range accounts {
			if a.TestedAt.IsZero() {
				waiting = append(waiting, a)
			}
		}
		if len(waiting) == 0 {
			return nil
		}
		if err := w.tests(ctx, server, waiting); err != nil {
			return err
		}
	}
}

// tests tests some accounts at a time.
func (w *testIMAP) tests(ctx context.Context, server backup.IMAPServer, accounts []backup.IMAPAccount) error {
	turns := make(chan struct{}, testsAtATime)
	errs := make([]error, len(accounts))
	var tests sync.WaitGroup
	for i, a := range accounts {
		select {
		case turns <- struct{}{}:
		case <-ctx.Done():
			tests.Wait()
			return ctx.Err()
		}
		tests.Go(func() {
			errs[i] = w.test(ctx, server, a)
			<-turns
		})
	}
	tests.Wait()
	return errors.Join(errs...)
}

// testTimeout bounds the test of one account.
const testTimeout = time.Minute

func (w *testIMAP) test(ctx context.Context, server backup.IMAPServer, a backup.IMAPAccount) error {
	limited, cancel := context.WithTimeout(ctx, testTimeout)
	defer cancel()
	report, err := imap.Test(limited, server, w.login(server, a), imap.Options{Timeout: testTimeout / 2})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	a.TestedAt, a.Folders, a.Messages, a.Problem = time.Now(), int64(report.Folders), report.Messages, backup.Problem{}
	if err != nil {
		a.Problem = *backup.AsProblem(err)
		w.Log.Warn("IMAP account can't be opened", "connection", server.ConnectionID, "mailbox", a.MailboxID, "error", err)
	}
	err = w.Store.SetIMAPTested(context.WithoutCancel(ctx), server.OrgID, a)
	if errors.Is(err, backup.ErrNotFound) {
		return nil // given up meanwhile
	}
	return err
}

// settleIMAP notes of a run what it says about the whole server: its certificate,
// and a password that opens every account. A run that works takes that back.
func (w *backUp) settleIMAP(ctx context.Context, conn backup.Connection, run backup.Run) error {
	problem := backup.Problem{}
	switch run.State {
	case backup.RunInterrupted:
		return nil
	case backup.RunFailed:
		server, err := w.Store.IMAPServer(ctx, conn.OrgID, conn.ID)
		if err != nil {
			return err
		}
		shared := run.Problem.Kind == backup.ProblemPassword && server.SignIn == backup.IMAPMaster
		if run.Problem.Kind != backup.ProblemCertificate && !shared {
			return nil
		}
		problem = run.Problem
	}
	if problem.Kind == conn.Problem.Kind {
		return nil
	}
	return w.Store.SetConnectionProblem(ctx, conn.OrgID, conn.ID, problem)
}
