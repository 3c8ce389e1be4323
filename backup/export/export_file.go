package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"filippo.io/age"

	"holdfast/backup"
	"holdfast/store"
)

// Folder is where the files of an export lie among repo.Files, those of tries
// that were killed included; File is the one of its newest try.
func Folder(e backup.Export) string { return "exports/" + string(e.ID) + "/" }

// File is the file of the newest try of an export.
func File(e backup.Export) string { return fmt.Sprintf("%s%d", Folder(e), e.Attempt) }

// ErrRecipient says that a text is not the public half of an age key.
var ErrRecipient = errors.New("not an age recipient")

// ParseRecipient reads a public key, age1….
func ParseRecipient(s string) (age.Recipient, error) {
	if r, err := age.ParseX25519Recipient(s); err == nil {
		return r, nil
	}
	r, err := age.ParseHybridRecipient(s)
	if err != nil {
		return nil, ErrRecipient
	}
	return r, nil
}

// Encrypt returns a writer that encrypts to w in the age format
// (https://age-encryption.org/v1), for a recipient or with a passphrase; with
// neither it hands on what it gets. Closing it does not close w.
func Encrypt(w io.Writer, recipient string, passphrase backup.Secret) (io.WriteCloser, error) {
	var to age.Recipient
	var err error
	switch {
	case len(passphrase) > 0:
		to, err = age.NewScryptRecipient(passphrase.Reveal())
	case recipient != "":
		to, err = ParseRecipient(recipient)
	default:
		return keepOpen{w}, nil
	}
	if err != nil {
		return nil, err
	}
	return age.Encrypt(w, to)
}

// keepOpen is a writer whose Close does nothing.
type keepOpen struct{ io.Writer }

// Close implements io.Closer.
func (keepOpen) Close() error { return nil }

// Export writes all that an export asks for.
func (r Reader) Export(ctx context.Context, e backup.Export, w io.Writer) error {
	if e.MailboxID != "" {
		m, err := r.Store.Mailbox(ctx, e.OrgID, e.MailboxID)
		if err != nil {
			return fmt.Errorf("read mailbox: %w", err)
		}
		snapshot, err := r.Snapshot(ctx, e.OrgID, m.ID, e.At)
		if err != nil {
			return err
		}
		out, ok := New(Format(e.Format), w)
		if !ok {
			return fmt.Errorf("there is no format %q", e.Format)
		}
		return r.mailbox(ctx, out, m, snapshot, e.FolderID)
	}
	return r.organization(ctx, e, w)
}

// mailbox writes one mailbox, or one folder of it, and closes out.
func (r Reader) mailbox(ctx context.Context, out Writer, m backup.Mailbox, snapshot backup.Snapshot, folder string) error {
	all, err := r.Store.Folders(ctx, m.OrgID, m.ID, snapshot.Seq)
	if err != nil {
		return fmt.Errorf("read folders: %w", err)
	}
	wanted := all
	if folder != "" {
		wanted = nil
		for _, f := range all {
			if f.ID == folder {
				wanted = []backup.Folder{f}
			}
		}
		if wanted == nil {
			return ErrNothing
		}
		r.expect(wanted[0].Items)
	} else {
		r.expect(snapshot.Items)
	}
	missing, err := r.Folders(ctx, out, m.OrgID, m.ID, snapshot.Seq, all, wanted)
	if err != nil {
		return err
	}
	return out.Close(missing)
}

func (r Reader) expect(items int64) {
	if r.Total != nil {
		r.Total(items)
	}
}

// mailboxesPerPage is how many mailboxes are listed at once.
const mailboxesPerPage = 1000

// organization writes all mailboxes that have a backup from the time.
func (r Reader) organization(ctx context.Context, e backup.Export, w io.Writer) error {
	archive, ok := NewArchive(Format(e.Format), w)
	if !ok {
		return fmt.Errorf("there is no format %q", e.Format)
	}
	type found struct {
		mailbox  backup.Mailbox
		snapshot backup.Snapshot
	}
	var list []found
	for page := 1; ; page++ {
		got, err := r.Store.Mailboxes(ctx, e.OrgID, store.MailboxQuery{AllAccounts: true, Page: page, PageSize: mailboxesPerPage})
		if err != nil {
			return fmt.Errorf("list mailboxes: %w", err)
		}
		for _, m := range got.Mailboxes {
			snapshot, err := r.Snapshot(ctx, e.OrgID, m.ID, e.At)
			if errors.Is(err, ErrNothing) {
				continue
			}
			if err != nil {
				return err
			}
			r.expect(snapshot.Items)
			list = append(list, found{m, snapshot})
		}
		if len(got.Mailboxes) < mailboxesPerPage {
			break
		}
	}
	if len(list) == 0 {
		return ErrNothing
	}
	counted := r
	counted.Total = nil
	for _, f := range list {
		out, err := archive.Mailbox(f.mailbox.Address)
		if err != nil {
			return err
		}
		if err := counted.mailbox(ctx, out, f.mailbox, f.snapshot, ""); err != nil {
			return fmt.Errorf("mailbox %s: %w", f.mailbox.ID, err)
		}
	}
	return archive.Close()
}

// Open opens the stored file of a finished export for reading from any place.
// stored reads it as it lies in the storage.
func Open(e backup.Export, stored io.ReaderAt, storedSize int64) (*io.SectionReader, error) {
	identity, err := age.ParseX25519Identity(e.Key.Reveal())
	if err != nil {
		return nil, fmt.Errorf("use the key of export %s: %w", e.ID, errors.Join(backup.ErrNotFound, err))
	}
	plain, size, err := age.DecryptReaderAt(stored, storedSize, identity)
	if err != nil {
		return nil, fmt.Errorf("open the file of export %s: %w", e.ID, err)
	}
	return io.NewSectionReader(plain, 0, size), nil
}

// At says as of when an export is, for people.
func At(t time.Time) string {
	if t.IsZero() {
		return "the newest backups"
	}
	return t.UTC().Format("2 Jan 2006, 15:04 MST")
}
