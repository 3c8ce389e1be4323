package backup

import (
	"crypto/sha256"
	"encoding/hex"
	"time"
)

// DestroyedKey is a key of a mailbox that was destroyed. The fingerprint tells
// whether some other copy is of the same key, and does not lead to it.
type DestroyedKey struct {
	Epoch       int       `json:"epoch"`
	Fingerprint string    `json:"fingerprint"`
	MadeAt      time.Time `json:"made_at"`
	DestroyedAt time.Time `json:"destroyed_at"`
}

// KeyFingerprint is the beginning of a hash of a key.
func KeyFingerprint(key []byte) string {
	sum := sha256.Sum256(append([]byte("holdfast key fingerprint\n"), key...))
	return hex.EncodeToString(sum[:16])
}
