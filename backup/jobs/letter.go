package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/riverqueue/river"

	"holdfast/backup"
	"holdfast/backup/outmail"
	"holdfast/store"
)

// How long the links of letters work.
const (
	InvitationLife = 7 * 24 * time.Hour
	ResetLife      = time.Hour
)

// letter sends a person a link.
type letter struct {
	river.WorkerDefaults[backup.LetterJob]
	*Runner
}

// Work implements river.Worker. A mail server that does not answer is tried
// again; each try makes a new link, which replaces the one before.
func (w *letter) Work(ctx context.Context, job *river.Job[backup.LetterJob]) error {
	err := w.SendLetter(ctx, job.Args)
	if p := backup.AsProblem(err); err != nil && !p.Temporary {
		w.Log.Warn("letter not sent", "letter", job.Args.Letter, "error", err)
		return river.JobCancel(err)
	}
	return err
}

// SendLetter makes the link of a letter and sends it. To an address that nobody
// has, nothing is sent, and that is no error: whoever asked is not to know. Nor
// is whoever invites somebody with an account, who gets a letter without a link.
func (r *Runner) SendLetter(ctx context.Context, l backup.LetterJob) error {
	p, taken, err := r.recipient(ctx, l)
	if errors.Is(err, backup.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find the person: %w", err)
	}
	settings, err := r.Store.MailSettingsOf(ctx, p.ID)
	if errors.Is(err, backup.ErrNotFound) {
		return nil // nobody has set outgoing mail up
	}
	if err != nil {
		return fmt.Errorf("read mail settings: %w", err)
	}
	write := r.invitation
	switch {
	case taken:
		write = r.takenInvitation
	case l.Letter == backup.LetterReset:
		write = r.reset
	}
	m, err := write(ctx, p)
	if err != nil {
		return err
	}
	m.To, m.ToName, m.Greeting, m.ID = p.Email, p.Name, "Hello "+p.Name+",", backup.NewID[string]()
	_, err = outmail.Sender{Settings: settings, Roots: r.MailRoots}.Send(ctx, m)
	return err
}

// recipient is whom a letter is for, and whether the address that they are
// invited with is somebody else's.
func (r *Runner) recipient(ctx context.Context, l backup.LetterJob) (p backup.Person, taken bool, err error) {
	if l.PersonID == "" {
		p, err = r.Store.PersonByEmail(ctx, l.Email)
		return p, false, err
	}
	if p, err = r.Store.Person(ctx, l.PersonID); err != nil {
		return p, false, err
	}
	has, err := r.Store.PersonByEmail(ctx, p.Email)
	if errors.Is(err, backup.ErrNotFound) {
		return p, false, nil
	}
	return p, has.ID != p.ID, err
}

// withLink is a letter's link for a person, which replaces the one before.
func (r *Runner) withLink(ctx context.Context, p backup.Person, life time.Duration) (string, error) {
	token, err := r.Store.NewSetUpLink(ctx, store.SetUpLink{Purpose: store.SetUpMailed, PersonID: p.ID, ExpiresAt: time.Now().Add(life)})
	return r.link("/set-up/" + token.Reveal()), err
}

func (r *Runner) invitation(ctx context.Context, p backup.Person) (outmail.Message, error) {
	link, err := r.withLink(ctx, p, InvitationLife)
	return outmail.Message{Link: link, Subject: "You are invited to Holdfast", Button: "Choose a password",
		Lines:  []string{"An account was made for you with this address, to look after backups.", "The link works once, for 7 days."},
		Footer: "If you did not expect this, you need do nothing: without the link nobody gets in."}, err
}

// takenInvitation tells somebody who has an account that they are invited
// elsewhere, which their address can't be used for.
func (r *Runner) takenInvitation(ctx context.Context, p backup.Person) (outmail.Message, error) {
	by, err := r.Store.Actor(ctx, backup.Session{PersonID: p.ID})
	if err != nil {
		return outmail.Message{}, fmt.Errorf("read where %s is invited: %w", p.ID, err)
	}
	place := by.Org.Name
	if place == "" {
		place = by.Partner.Name
	}
	return outmail.Message{Link: r.link("/sign-in"), Subject: "You are invited to Holdfast, and have an account already", Button: "Sign in as before",
		Lines: []string{place + " invited you with this address to look after backups. You sign in with it already, and an address signs in to one place only.",
			"To accept, ask them to invite another address of yours. Or have your present account removed by whoever manages it, and ask for a new invitation."},
		Footer: "If you did not expect this, you need do nothing: your account stays as it is, and nobody is told that you have one."}, nil
}

func (r *Runner) reset(ctx context.Context, p backup.Person) (outmail.Message, error) {
	link, err := r.withLink(ctx, p, ResetLife)
	return outmail.Message{Link: link, Subject: "Choose a new password", Button: "Choose a new password",
		Lines:  []string{"Somebody, probably you, asked for a new password on the sign-in page.", "The link works once, for an hour. Your other browsers are signed out when you use it."},
		Footer: "If it was not you, you need do nothing: your password stays as it is."}, err
}
