package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"filippo.io/age"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/jobs"
	"holdfast/backup/repo"
	"holdfast/store"
)

const keyUsage = `Usage: holdfast key COMMAND [flags]

  key generate  make an offline recovery key, to be kept away from the server
  key export    write a recovery kit, encrypted for a recovery key or with a passphrase
  key check     open a recovery kit and say what is in it
  key import    fill a new database from a recovery kit, or from the copy of it in the repository
  key rotate    begin new keys for what an organization writes from now on

docs/recovery.md says when each is needed.
`

// key is the command for recovery keys and recovery kits.
func key(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		fmt.Fprint(stderr, keyUsage)
		return errUsage
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		_, err := fmt.Fprint(stdout, keyUsage)
		return err
	case "generate":
		return keyGenerate(args[1:], getenv, stdout, stderr)
	case "export":
		return keyExport(ctx, args[1:], getenv, stdout, stderr)
	case "check":
		return keyCheck(args[1:], getenv, stdout, stderr)
	case "import":
		return keyImport(ctx, args[1:], getenv, stdout, stderr)
	case "rotate":
		return keyRotate(ctx, args[1:], getenv, stdout, stderr)
	}
	return fmt.Errorf("there is no command \"key %s\"; \"holdfast key help\" lists them", args[0])
}

// keyGenerate makes an offline recovery key. Only its public half has to be on
// the server.
func keyGenerate(args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	if err := parse(newFlagSet("key generate", stderr), args, getenv); err != nil {
		return err
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return fmt.Errorf("make a recovery key: %w", err)
	}
	_, err = fmt.Fprintf(stdout, "# Holdfast recovery key. Keep this away from the server, on paper too.\n# public key: %s\n%s\n", identity.Recipient(), identity)
	return err
}

// kitFlags say which kit, and how it is encrypted.
type kitFlags struct {
	file, recipient, identity, passphrase string
	fromRepository                        bool // the newest copy in the repository, which the kit or the key opens
}

func (k *kitFlags) flags(fs flagSet, reading bool) {
	fs.StringVar(&k.file, "kit", "", "file of the recovery kit")
	fs.StringVar(&k.passphrase, "passphrase-file", "", "file whose first line is the passphrase of the kit")
	if reading {
		fs.StringVar(&k.identity, "identity-file", "", "file with the offline recovery key, as \"holdfast key generate\" printed it")
	} else {
		fs.StringVar(&k.recipient, "recipient", "", "public half of the offline recovery key: age1…")
	}
}

// phrase reads the passphrase.
func (k *kitFlags) phrase() (string, error) {
	data, err := os.ReadFile(k.passphrase)
	if err != nil {
		return "", fmt.Errorf("read the passphrase: %w", err)
	}
	line, _, _ := strings.Cut(string(data), "\n")
	line = strings.TrimSuffix(line, "\r")
	if len(line) < 16 {
		return "", fmt.Errorf("the passphrase in %s is too short: a recovery kit opens everything, so take at least 16 characters", k.passphrase)
	}
	return line, nil
}

func (k *kitFlags) complete(other, flag string) error {
	if k.file == "" && !k.fromRepository {
		return errors.New("say where the recovery kit is: -kit FILE")
	}
	if (other == "") == (k.passphrase == "") {
		return fmt.Errorf("give either %s or -passphrase-file", flag)
	}
	return nil
}

func (k *kitFlags) encryptTo() (age.Recipient, error) {
	if err := k.complete(k.recipient, "-recipient"); err != nil {
		return nil, err
	}
	if k.passphrase != "" {
		phrase, err := k.phrase()
		if err != nil {
			return nil, err
		}
		return age.NewScryptRecipient(phrase)
	}
	r, err := age.ParseX25519Recipient(k.recipient)
	if err != nil {
		return nil, errors.New("-recipient is not the public half of a recovery key: it begins with age1, and \"holdfast key generate\" prints it")
	}
	return r, nil
}

// open decrypts the kit.
func (k *kitFlags) open() (io.Reader, func(), error) {
	if err := k.complete(k.identity, "-identity-file"); err != nil {
		return nil, nil, err
	}
	identities, err := k.identities()
	if err != nil {
		return nil, nil, err
	}
	f, err := os.Open(k.file)
	if err != nil {
		return nil, nil, fmt.Errorf("open the recovery kit: %w", err)
	}
	r, err := age.Decrypt(f, identities...)
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("the recovery kit does not open with this key or passphrase: %w", err)
	}
	return r, func() { f.Close() }, nil
}

// openCopy opens the newest copy of the portal's database in a repository that is
// whole, with the recovery key or what a kit holds.
func (k *kitFlags) openCopy(ctx context.Context, where place, stdout io.Writer) (io.Reader, error) {
	identities, err := k.copyIdentities()
	if err != nil {
		return nil, err
	}
	storage, err := where.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("open the repository: %w", err)
	}
	files := repo.Files{Storage: storage}
	names, err := files.Names(ctx, jobs.PortalFolder)
	if err != nil {
		return nil, fmt.Errorf("list the copies in %s: %w", where, err)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s holds no copy of the portal's database: import a recovery kit without -from-repository", where)
	}
	var first error
	for _, name := range slices.Backward(names) {
		in, err := store.OpenPortalCopy(func() (io.Reader, error) {
			f, err := files.Open(ctx, name)
			if err != nil {
				return nil, err
			}
			return bufio.NewReaderSize(io.NewSectionReader(f, 0, f.Size()), 1<<20), nil
		}, identities...)
		if err == nil {
			_, err = fmt.Fprintf(stdout, "opened %s\n", name)
			return in, err
		}
		if first == nil {
			first = fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil, fmt.Errorf("none of the %d copies opens with this key or kit: %w", len(names), first)
}

// copyIdentities opens copies: the recovery key that they are encrypted for, or
// the keyset in a kit.
func (k *kitFlags) copyIdentities() ([]age.Identity, error) {
	if k.file == "" {
		if k.identity == "" {
			return nil, errors.New("say what opens the copy: -identity-file with the recovery key, or -kit with a kit and what opens that")
		}
		return k.identities()
	}
	kit, done, err := k.open()
	if err != nil {
		return nil, err
	}
	defer done()
	identity, err := store.KitIdentity(kit)
	return []age.Identity{identity}, err
}

func (k *kitFlags) identities() ([]age.Identity, error) {
	if k.passphrase != "" {
		phrase, err := k.phrase()
		if err != nil {
			return nil, err
		}
		identity, err := age.NewScryptIdentity(phrase)
		return []age.Identity{identity}, err
	}
	f, err := os.Open(k.identity)
	if err != nil {
		return nil, fmt.Errorf("open the recovery key: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("read the recovery key: %w", err)
	}
	list, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil && bytes.Contains(bytes.ToUpper(text), []byte("AGE-SECRET-KEY-")) {
		return nil, fmt.Errorf("the recovery key in %s is not as it was printed: compare its characters with those on paper, one of them is another one, missing or too much: %w", k.identity, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s holds no recovery key: it has a line that begins with AGE-SECRET-KEY-: %w", k.identity, err)
	}
	return list, nil
}

func keyExport(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	var k kitFlags
	return tool(ctx, "key export", args, getenv, stderr, func(fs flagSet) { k.flags(fs, false) }, func(st *store.Store, _ *engine.Engine) error {
		to, err := k.encryptTo()
		if err != nil {
			return err
		}
		kit, err := writeKitFile(ctx, st, k.file, to)
		if err != nil {
			return err
		}
		if err := st.NoteKit(ctx, kit.MadeAt); err != nil {
			return fmt.Errorf("note that a kit was written: %w", err)
		}
		return printKit(stdout, "written", kit)
	})
}

// writeKitFile writes a kit to a file, which is either whole or as it was.
func writeKitFile(ctx context.Context, st *store.Store, name string, to age.Recipient) (store.Kit, error) {
	f, err := os.CreateTemp(filepath.Dir(name), ".kit-*") // mode 0600
	if err != nil {
		return store.Kit{}, fmt.Errorf("write the recovery kit: %w", err)
	}
	defer os.Remove(f.Name()) // gone already if all went well
	defer f.Close()
	sealed, err := age.Encrypt(f, to)
	if err != nil {
		return store.Kit{}, fmt.Errorf("encrypt the recovery kit: %w", err)
	}
	kit, err := st.WriteKit(ctx, sealed)
	if err != nil {
		return kit, err
	}
	if err := errors.Join(sealed.Close(), f.Sync(), f.Close()); err != nil {
		return kit, fmt.Errorf("write the recovery kit: %w", err)
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return kit, fmt.Errorf("write the recovery kit: %w", err)
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return kit, fmt.Errorf("write the recovery kit: %w", err)
	}
	defer dir.Close()
	return kit, dir.Sync()
}

func printKit(stdout io.Writer, what string, kit store.Kit) error {
	_, err := fmt.Fprintf(stdout, "recovery kit of %s %s: %d organizations, %d mailboxes, %d keys\n",
		kit.MadeAt.Format("2006-01-02 15:04 MST"), what, kit.Organizations, kit.Mailboxes, kit.Keys)
	return err
}

func keyCheck(args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	var k kitFlags
	fs := newFlagSet("key check", stderr)
	k.flags(fs, true)
	if err := parse(fs, args, getenv); err != nil {
		return err
	}
	in, done, err := k.open()
	if err != nil {
		return err
	}
	defer done()
	kit, err := store.CheckKit(in)
	if err != nil {
		return err
	}
	return printKit(stdout, "is whole", kit)
}

// keyImport fills a new database. It does not need the repository.
func keyImport(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	var c config
	var k kitFlags
	fs := newFlagSet("key import", stderr)
	c.flags(fs)
	k.flags(fs, true)
	fs.BoolVar(&k.fromRepository, "from-repository", false, "import the newest copy of the portal's database in the repository; the recovery key opens it, or an older kit")
	if err := parse(fs, args, getenv); err != nil {
		return err
	}
	if err := c.complete(); err != nil {
		return err
	}
	var in io.Reader
	var err error
	if k.fromRepository {
		in, err = k.openCopy(ctx, c.place, stdout)
	} else {
		var done func()
		if in, done, err = k.open(); err == nil {
			defer done()
		}
	}
	if err != nil {
		return err
	}
	root, err := rootKey(c.KeyFile)
	if err != nil {
		return err
	}
	st, err := store.Open(ctx, store.Config{URL: c.Database, RootKey: root})
	if err != nil {
		return err
	}
	defer st.Close()
	kit, err := st.ReadKit(ctx, root, in)
	if err != nil {
		return err
	}
	if err := printKit(stdout, "imported", kit); err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, `now run "holdfast rebuild", then "holdfast serve"`)
	return err
}

// keyRotate begins a new key epoch of one organization.
func keyRotate(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	var id string
	return tool(ctx, "key rotate", args, getenv, stderr, func(fs flagSet) {
		fs.StringVar(&id, "organization", "", "id or name of the organization that gets new keys")
	}, func(st *store.Store, _ *engine.Engine) error {
		if id == "" {
			return errors.New("say whose keys: -organization ID")
		}
		return eachOrganization(ctx, st, id, func(o backup.Organization) error {
			epoch, err := st.RotateKey(ctx, o.PartnerID, o.ID, backup.Actor{Partner: backup.Partner{ID: o.PartnerID}})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(stdout, "%s: what is written from now on is sealed under new keys, epoch %d. What was written before still needs the old ones, which stay. "+
				"Export a new recovery kit: the one you have opens nothing that is written from now on.\n", o.Name, epoch)
			return err
		})
	})
}
