package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"time"

	"filippo.io/age"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/tink"

	"holdfast/backup"
)

// Recovery returns what would bring the portal back.
func (s *Store) Recovery(ctx context.Context) (backup.Recovery, error) {
	return one(ctx, s.read, func(row scanner) (backup.Recovery, error) {
		var r backup.Recovery
		var kit, keys, copied int64
		var problem string
		err := row.Scan(&r.Recipient, &kit, &copied, &r.CopiedBytes, &problem, &keys)
		r.KitAt, r.KeysAt, r.CopiedAt, r.Problem = moment(kit), moment(keys), moment(copied), problemOf(problem)
		return r, err
	}, `SELECT recipient, kit_at, copied_at, copied_bytes, problem,
			(SELECT coalesce(max(created_at), 0) FROM repository_keys WHERE source = '' AND epoch > 0)
		FROM recovery WHERE id = 'main'`)
}

// SetRecoveryRecipient saves whom the copies of the database are encrypted for;
// "" for nobody but who has a recovery kit. It returns backup.FieldErrors if it
// is not the public half of a recovery key.
func (s *Store) SetRecoveryRecipient(ctx context.Context, recipient string, by backup.Actor) error {
	if recipient != "" {
		if _, err := age.ParseX25519Recipient(recipient); err != nil {
			return backup.FieldErrors{"recipient": "This is not the public half of a recovery key. It begins with age1; “holdfast key generate” prints it. The other half, AGE-SECRET-KEY-…, must never be entered here."}
		}
	}
	return s.inTx(ctx, func(tx *sql.Tx) error {
		before, err := one(ctx, tx, scanValue[string], `SELECT recipient FROM recovery WHERE id = 'main'`+s.forUpdate())
		if err != nil || before == recipient {
			return err
		}
		if err := execOne(ctx, tx, `UPDATE recovery SET recipient = $1 WHERE id = 'main'`, recipient); err != nil {
			return err
		}
		name := func(r string) string {
			if r == "" {
				return "none"
			}
			return r
		}
		if err := s.enqueueTx(ctx, tx, backup.PortalCopyJob{}); err != nil {
			return err
		}
		return s.record(ctx, tx, by, "", "recovery.recipient", "Offline recovery key", "before: "+name(before)+"; now: "+name(recipient))
	})
}

// NoteKit says that a recovery kit was exported.
func (s *Store) NoteKit(ctx context.Context, at time.Time) error {
	return execOne(ctx, s.db, `UPDATE recovery SET kit_at = $1 WHERE id = 'main'`, millis(at))
}

// NotePortalCopy says that a copy of so many bytes lies in the repository, or,
// with a problem, why there is none.
func (s *Store) NotePortalCopy(ctx context.Context, at time.Time, size int64, problem backup.Problem) error {
	if !problem.IsZero() {
		return execOne(ctx, s.db, `UPDATE recovery SET problem = $1 WHERE id = 'main'`, problemText(problem))
	}
	return execOne(ctx, s.db, `UPDATE recovery SET copied_at = $1, copied_bytes = $2, problem = '' WHERE id = 'main'`, millis(at), size)
}

// keysetStanza is the type of the header line with which a file of age opens
// under a store's keyset; keysetFileAD binds what it holds to that purpose.
const keysetStanza = "holdfast-keyset"

var keysetFileAD = []byte("holdfast file key")

// keysetCipher wraps the key of a file of age under a keyset, as age.Recipient
// and age.Identity.
type keysetCipher struct{ aead tink.AEAD }

// Wrap implements age.Recipient.
func (k keysetCipher) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	body, err := k.aead.Encrypt(fileKey, keysetFileAD)
	if err != nil {
		return nil, fmt.Errorf("wrap the file's key: %w", err)
	}
	return []*age.Stanza{{Type: keysetStanza, Body: body}}, nil
}

// Unwrap implements age.Identity.
func (k keysetCipher) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	for _, s := range stanzas {
		if s.Type != keysetStanza {
			continue
		}
		if fileKey, err := k.aead.Decrypt(s.Body, keysetFileAD); err == nil {
			return fileKey, nil
		}
	}
	return nil, age.ErrIncorrectIdentity
}

// KeysetRecipient encrypts files that every kit of this store opens, however
// old: the keyset is in it.
func (s *Store) KeysetRecipient() age.Recipient { return keysetCipher{s.aead} }

// KitIdentity opens what was encrypted for the KeysetRecipient of the store that
// the kit is of.
func KitIdentity(kit io.Reader) (age.Identity, error) {
	k, err := openKit(kit)
	if err != nil {
		return nil, err
	}
	opened, err := aead.New(k.keyset)
	if err != nil {
		return nil, errors.Join(errKit, err)
	}
	return keysetCipher{opened}, nil
}

// WritePortalCopy writes a recovery kit encrypted for the store's own keyset
// and, if there is one, the offline recovery key. It returns what is in it.
func (s *Store) WritePortalCopy(ctx context.Context, w io.Writer) (Kit, error) {
	r, err := s.Recovery(ctx)
	if err != nil {
		return Kit{}, fmt.Errorf("read the recovery key: %w", err)
	}
	to := []age.Recipient{s.KeysetRecipient()}
	if r.Recipient != "" {
		offline, err := age.ParseX25519Recipient(r.Recipient)
		if err != nil {
			return Kit{}, fmt.Errorf("use the recovery key: %w", err)
		}
		to = append(to, offline)
	}
	sealed, err := age.Encrypt(w, to...)
	if err != nil {
		return Kit{}, fmt.Errorf("encrypt the copy: %w", err)
	}
	kit, err := s.WriteKit(ctx, sealed)
	if err != nil {
		return kit, err
	}
	return kit, sealed.Close()
}

// OpenPortalCopy decrypts a copy, which open opens anew each time, and checks
// that all of it is there before it returns a reader of the kit in it.
func OpenPortalCopy(open func() (io.Reader, error), identities ...age.Identity) (io.Reader, error) {
	decrypt := func() (io.Reader, error) {
		r, err := open()
		if err != nil {
			return nil, err
		}
		return age.Decrypt(r, identities...)
	}
	plain, err := decrypt()
	if err != nil {
		return nil, err
	}
	if _, err := CheckKit(plain); err != nil {
		return nil, err
	}
	return decrypt()
}
