package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/export"
	"holdfast/store"
)

// exportFlags say what is exported, and how.
type exportFlags struct {
	org, mailbox, folder, at, format, out, recipient, passphrase string
}

func (x *exportFlags) flags(fs flagSet) {
	fs.StringVar(&x.org, "organization", "", "id or name of the organization")
	fs.StringVar(&x.mailbox, "mailbox", "", "id or address of the mailbox; all of them without")
	fs.StringVar(&x.folder, "folder", "", "id or path of the folder, like Inbox/Projects; all of them without")
	fs.StringVar(&x.at, "at", "", "as of when, like 2026-11-23T14:30:00Z; the newest backups without")
	fs.StringVar(&x.format, "format", "zip", "zip (of .eml files) or mbox")
	fs.StringVar(&x.out, "out", "", "file to write; - for standard output")
	fs.StringVar(&x.recipient, "recipient", "", "encrypt for this age public key: age1…")
	fs.StringVar(&x.passphrase, "passphrase-file", "", "encrypt with the passphrase in the first line of this file")
}

// exportMail writes messages as a file.
func exportMail(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	var x exportFlags
	return tool(ctx, "export", args, getenv, stderr, x.flags, func(st *store.Store, eng *engine.Engine) error {
		e, err := x.export(ctx, st)
		if err != nil {
			return err
		}
		var items, missing int64
		reader := export.Reader{Store: st, Content: eng, Progress: func(n, _ int64) { items += n }, Missing: func() { missing++ }}
		write := func(w io.Writer) error {
			out, err := export.Encrypt(w, e.Recipient, e.Passphrase)
			if err != nil {
				return err
			}
			if err := reader.Export(ctx, e, out); err != nil {
				return err
			}
			return out.Close()
		}
		if x.out == "-" {
			return write(stdout)
		}
		if err := writeWhole(x.out, write); errors.Is(err, export.ErrNothing) {
			return errors.New("there is no backup from that time, or no such folder in it")
		} else if err != nil {
			return err
		}
		partner := backup.PartnerID("")
		if org, err := st.OrganizationByID(ctx, e.OrgID); err == nil {
			partner = org.PartnerID
		}
		if err := st.Record(ctx, backup.Entry{PartnerID: partner, OrgID: e.OrgID, Person: "holdfast export on the server", Kind: "export.download", Subject: e.Name, Detail: "as " + e.Format + ", " + export.At(e.At)}); err != nil {
			return fmt.Errorf("record the export: %w", err)
		}
		_, err = fmt.Fprintf(stdout, "%s: %d messages exported, %d missing (the file says which)\n", e.Name, items-missing, missing)
		return err
	})
}

// export reads what the flags name.
func (x *exportFlags) export(ctx context.Context, st *store.Store) (backup.Export, error) {
	e := backup.Export{Format: x.format, Name: "All mailboxes", Recipient: x.recipient}
	if x.out == "" || x.org == "" {
		return e, errors.New("say whose messages and where to: -organization ID -out FILE")
	}
	if x.passphrase != "" {
		phrase, err := (&kitFlags{passphrase: x.passphrase}).phrase()
		if err != nil {
			return e, err
		}
		e.Passphrase = backup.Secret(phrase)
	}
	if x.recipient != "" {
		if _, err := export.ParseRecipient(x.recipient); err != nil {
			return e, errors.New("-recipient is not a public key of age: it begins with age1")
		}
	}
	if x.at != "" {
		var err error
		if e.At, err = time.Parse(time.RFC3339, x.at); err != nil {
			return e, fmt.Errorf("-at %q is not a time like 2026-11-23T14:30:00Z", x.at)
		}
	}
	org, err := namedOrganization(ctx, st, x.org)
	if err != nil {
		return e, err
	}
	e.OrgID = org.ID
	if x.mailbox != "" {
		m, err := namedMailbox(ctx, st, org.ID, x.mailbox)
		if err != nil {
			return e, err
		}
		e.MailboxID, e.Name = m.ID, m.Address
	}
	if x.folder != "" && e.MailboxID != "" {
		if e.FolderID, err = namedFolder(ctx, st, e, x.folder); err != nil {
			return e, err
		}
		e.Name += ", " + x.folder
	} else if x.folder != "" {
		return e, errors.New("-folder needs -mailbox")
	}
	return e, e.Validate()
}

func namedOrganization(ctx context.Context, st *store.Store, name string) (backup.Organization, error) {
	list, err := st.AllOrganizations(ctx)
	if err != nil {
		return backup.Organization{}, err
	}
	var found []backup.Organization
	for _, o := range list {
		if string(o.ID) == name {
			return o, nil
		}
		if strings.EqualFold(o.Name, name) {
			found = append(found, o)
		}
	}
	switch len(found) {
	case 0:
		return backup.Organization{}, fmt.Errorf("there is no organization with the id or name %q", name)
	case 1:
		return found[0], nil
	}
	return backup.Organization{}, fmt.Errorf("%d organizations have the name %q: say the id of one, which stands in the address of its page in the Partner Portal", len(found), name)
}

func namedMailbox(ctx context.Context, st *store.Store, org backup.OrgID, name string) (backup.Mailbox, error) {
	m, err := st.Mailbox(ctx, org, backup.MailboxID(name))
	if !errors.Is(err, backup.ErrNotFound) {
		return m, err
	}
	page, err := st.Mailboxes(ctx, org, store.MailboxQuery{AllAccounts: true, Search: name, PageSize: 1000})
	if err != nil {
		return m, err
	}
	for _, m := range page.Mailboxes {
		if strings.EqualFold(m.Address, name) {
			return m, nil
		}
	}
	return m, fmt.Errorf("the organization has no mailbox with the id or address %q", name)
}

func namedFolder(ctx context.Context, st *store.Store, e backup.Export, name string) (string, error) {
	snapshot, err := (export.Reader{Store: st}).Snapshot(ctx, e.OrgID, e.MailboxID, e.At)
	if err != nil {
		return "", err
	}
	folders, err := st.Folders(ctx, e.OrgID, e.MailboxID, snapshot.Seq)
	if err != nil {
		return "", err
	}
	paths := export.FolderPaths(folders)
	for _, f := range folders {
		if f.ID == name || strings.EqualFold(paths[f.ID], name) {
			return f.ID, nil
		}
	}
	return "", fmt.Errorf("the mailbox had no folder %q then", name)
}

// writeWhole makes a file of what write writes, whole or not at all, for its
// owner only.
func writeWhole(name string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return fmt.Errorf("write the file: %w", err)
	}
	defer os.Remove(f.Name()) // gone already if all went well
	defer f.Close()
	out := bufio.NewWriterSize(f, 1<<20)
	if err := write(out); err != nil {
		return err
	}
	if err := errors.Join(out.Flush(), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write the file: %w", err)
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return fmt.Errorf("write the file: %w", err)
	}
	return nil
}
