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
// has, nothing is sent, and that is no error: whoever asked is not to know.
func (r *Runner) SendLetter(ctx context.Context, l backup.LetterJob) error {
	p, err := r.Store.PersonByEmail(ctx, l.Email)
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
	life := InvitationLife
	if l.Letter == backup.LetterReset {
		life = ResetLife
	}
	token, err := r.Store.NewSetUpLink(ctx, store.SetUpLink{Purpose: store.SetUpMailed, PersonID: p.ID, ExpiresAt: time.Now().Add(life)})
	if err != nil {
		return err
	}
	m := outmail.Message{To: p.Email, ToName: p.Name, Greeting: "Hello " + p.Name + ",", Link: r.link("/set-up/" + token.Reveal()), ID: backup.NewID[string](),
		Subject: "You are invited to Holdfast", Button: "Choose a password",
		Lines:  []string{"An account was made for you with this address, to look after backups.", "The link works once, for 7 days."},
		Footer: "If you did not expect this, you need do nothing: without the link nobody gets in."}
	if l.Letter == backup.LetterReset {
		m.Subject, m.Button = "Choose a new password", "Choose a new password"
		m.Lines = []string{"Somebody, probably you, asked for a new password on the sign-in page.", "The link works once, for an hour. Your other browsers are signed out when you use it."}
		m.Footer = "If it was not you, you need do nothing: your password stays as it is."
	}
	_, err = outmail.Sender{Settings: settings, Roots: r.MailRoots}.Send(ctx, m)
	return err
}
