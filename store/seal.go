package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"holdfast/backup"
)

// sealer encrypts secrets at rest under the store's keyset.
type sealer struct {
	aead   tink.AEAD
	keyset *keyset.Handle // of aead
}

// keysetAD binds the wrapped keyset to its purpose.
var keysetAD = []byte("holdfast keyset")

// loadKeyset reads the keyset, making it in a new store. The root key only
// wraps it, so that it can be wrapped anew without touching rows.
func (s *Store) loadKeyset(ctx context.Context, rootKey []byte) error {
	root, err := subtle.NewAESGCM(rootKey)
	if err != nil {
		return fmt.Errorf("use the root key: %w", err)
	}
	wrapped, err := one(ctx, s.db, scanValue[[]byte], `SELECT wrapped FROM keyset WHERE id = 'main'`)
	if errors.Is(err, backup.ErrNotFound) {
		if wrapped, err = s.newKeyset(ctx, root); err != nil {
			return fmt.Errorf("make the keyset: %w", err)
		}
	} else if err != nil {
		return fmt.Errorf("read the keyset: %w", err)
	}
	handle, err := keyset.ReadWithAssociatedData(keyset.NewBinaryReader(bytes.NewReader(wrapped)), root, keysetAD)
	if err != nil {
		return errors.New("the root key does not belong to this database: put the key file back that it was made with (-key-file)")
	}
	s.keyset = handle
	if s.aead, err = aead.New(handle); err != nil {
		return fmt.Errorf("use the keyset: %w", err)
	}
	return nil
}

// newKeyset stores a fresh keyset, unless another process was faster, and
// returns the stored one.
func (s *Store) newKeyset(ctx context.Context, root tink.AEAD) ([]byte, error) {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	if err := handle.WriteWithAssociatedData(keyset.NewBinaryWriter(&buf), root, keysetAD); err != nil {
		return nil, err
	}
	if _, err := s.db.ExecContext(ctx, `INSERT INTO keyset (id, wrapped) VALUES ('main', $1) ON CONFLICT (id) DO NOTHING`, buf.Bytes()); err != nil {
		return nil, err
	}
	return one(ctx, s.db, scanValue[[]byte], `SELECT wrapped FROM keyset WHERE id = 'main'`)
}

// place says where a sealed value lives: table/organization/column/id. A value
// that is moved elsewhere does not open.
func place(table string, org backup.OrgID, column, id string) []byte {
	return []byte(table + "/" + string(org) + "/" + column + "/" + id)
}

// seal encrypts plain for its place; nothing stays nothing.
func (s *sealer) seal(plain, place []byte) ([]byte, error) {
	if len(plain) == 0 {
		return nil, nil
	}
	sealed, err := s.aead.Encrypt(plain, place)
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", place, err)
	}
	return sealed, nil
}

// unseal reverses seal.
func (s *sealer) unseal(sealed, place []byte) ([]byte, error) {
	if len(sealed) == 0 {
		return nil, nil
	}
	plain, err := s.aead.Decrypt(sealed, place)
	if err != nil {
		return nil, fmt.Errorf("unseal %s: %w", place, err)
	}
	return plain, nil
}

// sealAll encrypts several named secrets as one value; none at all is nothing.
func (s *sealer) sealAll(secrets map[string]backup.Secret, place []byte) ([]byte, error) {
	plain := map[string][]byte{}
	for name, secret := range secrets {
		if len(secret) > 0 {
			plain[name] = secret
		}
	}
	if len(plain) == 0 {
		return nil, nil
	}
	data, err := json.Marshal(plain)
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", place, err)
	}
	return s.seal(data, place)
}

// unsealAll reverses sealAll.
func (s *sealer) unsealAll(sealed, place []byte) (map[string]backup.Secret, error) {
	data, err := s.unseal(sealed, place)
	if err != nil || data == nil {
		return nil, err
	}
	var plain map[string][]byte
	if err := json.Unmarshal(data, &plain); err != nil {
		return nil, fmt.Errorf("unseal %s: %w", place, err)
	}
	secrets := make(map[string]backup.Secret, len(plain))
	for name, value := range plain {
		secrets[name] = value
	}
	return secrets, nil
}
