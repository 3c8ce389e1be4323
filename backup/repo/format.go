package repo

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// format is format.json.
type format struct {
	Product   string   `json:"product"`
	ID        string   `json:"id"`
	Version   int      `json:"version"`
	MinReader int      `json:"min_reader"` // least version a program must know to read
	MinWriter int      `json:"min_writer"` // and to write
	Features  features `json:"features"`
	SHA256    string   `json:"sha256"` // of the file with this field empty
}

// features are what a program must know beyond the version, per operation. No
// feature is defined yet.
type features struct {
	Read   []string `json:"read,omitempty"`
	Write  []string `json:"write,omitempty"`
	Delete []string `json:"delete,omitempty"`
	Check  []string `json:"check,omitempty"`
}

const (
	formatKey     = "format.json"
	formatProduct = "holdfast repository"
	maxFormat     = 64 << 10
)

// newFormat returns the format.json of a new repository.
func newFormat() ([]byte, error) {
	data, err := json.MarshalIndent(format{Product: formatProduct, ID: rand.Text(), Version: formatVersion, MinReader: formatVersion, MinWriter: formatVersion}, "", "\t")
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", formatKey, err)
	}
	data = append(data, '\n')
	empty := []byte(`"sha256": "`)
	return bytes.Replace(data, empty, append(empty, formatSum(data, "")...), 1), nil
}

// formatSum is the checksum of a format.json that has sum in it.
func formatSum(data []byte, sum string) string {
	hash := sha256.Sum256(bytes.Replace(data, []byte(sum), nil, 1))
	return hex.EncodeToString(hash[:])
}

// openFormat reads format.json, and writes it first in an empty storage.
func openFormat(ctx context.Context, storage Storage) (format, error) {
	for range 2 {
		data, err := get(ctx, storage, formatKey, 0, -1, maxFormat)
		if err == nil {
			return parseFormat(data)
		}
		if !errors.Is(err, ErrNotExist) {
			return format{}, fmt.Errorf("read %s: %w", formatKey, err)
		}
		for e, err := range storage.List(ctx, "t/") {
			if err != nil {
				return format{}, fmt.Errorf("list the repository: %w", err)
			}
			return format{}, damaged(formatKey, "it is missing although there is data ("+e.Key+"); put the file back from a copy")
		}
		if data, err = newFormat(); err != nil {
			return format{}, err
		}
		// If another program writes it first, its file is read next.
		if err := put(ctx, storage, formatKey, data); err != nil && !errors.Is(err, ErrExist) {
			return format{}, fmt.Errorf("write %s: %w", formatKey, err)
		}
	}
	return format{}, fmt.Errorf("%s was written but can't be read", formatKey)
}

// parseFormat refuses a newer format before it looks at anything else, since
// what else is in its file may differ.
func parseFormat(data []byte) (format, error) {
	var f format
	if err := json.Unmarshal(data, &f); err != nil || f.Product != formatProduct {
		return f, damaged(formatKey, "it does not describe a repository of Holdfast")
	}
	if f.MinReader > formatVersion || f.MinWriter > formatVersion {
		return f, fmt.Errorf("the repository has format %d, this program knows %d: start a newer version of Holdfast", f.Version, formatVersion)
	}
	for _, list := range [][]string{f.Features.Read, f.Features.Write, f.Features.Delete, f.Features.Check} {
		if len(list) > 0 {
			return f, fmt.Errorf("the repository uses %q, which this program does not know: start a newer version of Holdfast", list[0])
		}
	}
	if f.Version < 1 || len(f.SHA256) != 2*sha256.Size || f.SHA256 != formatSum(data, f.SHA256) {
		return f, damaged(formatKey, "its checksum is wrong; put the file back from a copy")
	}
	return f, nil
}

// Ready returns an error if the storage of the repository can't be reached.
func (r *Repository) Ready(ctx context.Context) error {
	if _, err := r.storage.Stat(ctx, formatKey); err != nil {
		return fmt.Errorf("reach the repository: %w", err)
	}
	return nil
}
