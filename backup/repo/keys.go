package repo

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"
)

// KeyStore keeps the keys of tenants and sources, wrapped, and outside of the
// repository, so that deleting a key makes its data unreadable.
type KeyStore interface {
	// Epoch returns the epoch in which a tenant's new data is written.
	Epoch(ctx context.Context, tenant string) (int, error)
	// TenantKey returns the 32-byte key of a tenant, made on first use in its
	// newest epoch; of another epoch that has none it is ErrNoKey.
	TenantKey(ctx context.Context, tenant string, epoch int) ([]byte, error)
	// SourceKey returns the 32-byte key of a source, made or refused likewise.
	SourceKey(ctx context.Context, tenant, source string, epoch int) ([]byte, error)
	// Secrets returns what SecretsOf made of a tenant's first key, if that was
	// destroyed since; otherwise it is ErrNoKey.
	Secrets(ctx context.Context, tenant string) ([]byte, error)
}

const keySize = 32

// keyring caches keys for KeyLife, since another process may destroy them.
type keyring struct {
	store KeyStore
	mu    sync.Mutex
	keys  map[string]cachedKey

	derived map[string]secrets // of tenants
}

// KeyLife is how long a process uses a key that it has read before it asks for it
// again. Writers use theirs to their end.
const KeyLife = time.Minute

type cachedKey struct {
	key   []byte
	until time.Time
}

func newKeyring(store KeyStore) keyring { return keyring{store: store, keys: map[string]cachedKey{}} }

func (k *keyring) tenant(ctx context.Context, tenant string, epoch uint32) ([]byte, error) {
	return k.key(fmt.Sprintf("%s/%d", tenant, epoch), func() ([]byte, error) { return k.store.TenantKey(ctx, tenant, int(epoch)) })
}

func (k *keyring) source(ctx context.Context, tenant, source string, epoch uint32) ([]byte, error) {
	return k.key(fmt.Sprintf("%s/%s/%d", tenant, source, epoch), func() ([]byte, error) { return k.store.SourceKey(ctx, tenant, source, int(epoch)) })
}

// forget drops the keys of a source, or, with "", of a tenant and all its sources.
func (k *keyring) forget(tenant, source string) {
	prefix := tenant + "/"
	if source != "" {
		prefix += source + "/"
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	maps.DeleteFunc(k.keys, func(name string, _ cachedKey) bool { return strings.HasPrefix(name, prefix) })
}

func (k *keyring) key(name string, load func() ([]byte, error)) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if c, ok := k.keys[name]; ok && time.Now().Before(c.until) {
		return c.key, nil
	}
	delete(k.keys, name)
	key, err := load()
	if errors.Is(err, ErrNoKey) {
		return nil, damaged("key "+name, "there is no such key")
	}
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", name, err)
	}
	if len(key) != keySize {
		return nil, fmt.Errorf("key %s has %d bytes, want %d", name, len(key), keySize)
	}
	k.keys[name] = cachedKey{key, time.Now().Add(KeyLife)}
	return key, nil
}

// secrets are derived from a tenant's first key and stay over all epochs, so
// that deduplication does. Who has them without keys opens nothing that was
// written since the second epoch: identifiers are nowhere in the open, and shared
// pieces are sealed under the tenant's key besides.
type secrets struct{ id, convergence []byte }

// SecretsOf returns what has to be kept of a tenant's first key when that is
// destroyed: it opens nothing by itself, and does not lead back to the key.
func SecretsOf(firstKey []byte) []byte {
	return append(derive(firstKey, nil, "id"), derive(firstKey, nil, "conv")...)
}

func (k *keyring) secrets(ctx context.Context, tenant string) (secrets, error) {
	k.mu.Lock()
	s, ok := k.derived[tenant]
	k.mu.Unlock()
	if ok {
		return s, nil
	}
	kept, err := k.keptSecrets(ctx, tenant)
	if err != nil {
		return secrets{}, err
	}
	s = secrets{kept[:keySize:keySize], kept[keySize:]}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.derived == nil {
		k.derived = map[string]secrets{}
	}
	k.derived[tenant] = s
	return s, nil
}

// keptSecrets are made of the first key, or were when that was destroyed.
func (k *keyring) keptSecrets(ctx context.Context, tenant string) ([]byte, error) {
	key, err := k.tenant(ctx, tenant, 0)
	if err == nil {
		return SecretsOf(key), nil
	}
	if !errors.Is(err, ErrDamaged) {
		return nil, err
	}
	kept, missing := k.store.Secrets(ctx, tenant)
	if errors.Is(missing, ErrNoKey) {
		return nil, err
	}
	if missing == nil && len(kept) != 2*keySize {
		missing = errors.New("they have another length")
	}
	if missing != nil {
		return nil, fmt.Errorf("secrets of %s: %w", tenant, missing)
	}
	return kept, nil
}

// derive is HKDF-SHA-256 to a 32-byte key.
func derive(key, salt []byte, info string) []byte {
	out, err := hkdf.Key(sha256.New, key, salt, "holdfast "+info, keySize)
	if err != nil {
		panic("derive a key: " + err.Error()) // only for lengths that are not used here
	}
	return out
}

func mac(key []byte, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, key)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// length prefixes a part of an HMAC's input, so that parts can't run into each other.
func length(s string) []byte {
	return binary.BigEndian.AppendUint32(nil, uint32(len(s))) //nolint:gosec // names are short
}

// sharedID is the identifier of a piece that all sources of a tenant share.
func (s secrets) sharedID(hash []byte) PieceID {
	return PieceID(mac(s.id, []byte("shared"), hash))
}

// sharedKey is the key of a shared piece: who has the content and the tenant's
// secret has it, and the recipes that refer to the piece.
func (s secrets) sharedKey(hash []byte) []byte { return mac(s.convergence, hash) }

// sourceID is the identifier of a piece that belongs to a source.
func (s secrets) sourceID(source string, hash []byte) PieceID {
	return PieceID(mac(s.id, []byte("source"), length(source), []byte(source), hash))
}

// metaID is the identifier of a metadata blob.
func (s secrets) metaID(source string, kind byte, hash []byte) MetaID {
	return MetaID(mac(s.id, []byte("meta"), []byte{kind}, length(source), []byte(source), hash))
}

func newGCM(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("use a key: " + err.Error()) // keys have 32 bytes here
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("use a key: " + err.Error())
	}
	return aead
}

// blobNonce is unique under a blob's key because the key is the blob's own.
func blobNonce(number uint32) []byte {
	return binary.BigEndian.AppendUint32(make([]byte, 8, 12), number)
}

// blobKey is the key of one blob.
func blobKey(key []byte, pack PackID, kind byte, number uint32) []byte {
	return derive(key, pack[:], string(binary.BigEndian.AppendUint32([]byte{'b', 'l', 'o', 'b', ' ', kind, ' '}, number)))
}

// blobData binds a blob to its place: version, tenant, pack and frame.
func blobData(tenant string, pack PackID, epoch uint32, frame []byte) []byte {
	b := append([]byte{formatVersion}, length(tenant)...)
	b = append(b, tenant...)
	b = append(b, pack[:]...)
	b = binary.BigEndian.AppendUint32(b, epoch)
	return append(b, frame...)
}

// sharedData binds a shared piece to its tenant and identifier only, so that
// it can be moved to another pack as it is.
func sharedData(tenant string, id PieceID) []byte {
	b := append([]byte{formatVersion}, length(tenant)...)
	b = append(b, tenant...)
	return append(b, id[:]...)
}
