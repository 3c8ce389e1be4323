package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"holdfast/backup/repo"
	"holdfast/backup/repo/s3"
)

// lockConfig is how objects in a bucket are kept from being deleted.
type lockConfig struct {
	Period string // like 30d, "" for no lock
	Mode   string
}

// repositoryFlags declares the flags that say where the repository is.
func (c *config) repositoryFlags(fs *flag.FlagSet) {
	fs.StringVar(&c.Repository, "repository", "", "folder of the backed-up data, or s3://BUCKET/PREFIX?region=…&endpoint=https://…&path-style=1 (default DATA/repository)")
	s3Flags(fs, "", &c.S3)
	lockFlags(fs, &c.Lock)
}

// s3Flags declares the flags with the keys of a bucket.
func s3Flags(fs *flag.FlagSet, prefix string, keys *s3Keys) {
	fs.StringVar(&keys.Access, prefix+"s3-access-key", "", "access key of the bucket (default AWS_ACCESS_KEY_ID, ~/.aws/credentials or the machine's role)")
	fs.StringVar(&keys.Secret, prefix+"s3-secret-key", "", "its secret; give it as a variable, not as a flag")
}

func lockFlags(fs *flag.FlagSet, lock *lockConfig) {
	fs.StringVar(&lock.Period, "object-lock", "", "keep what is in the bucket from being deleted for a time like 30d, prolonged while it is needed; the bucket needs object lock (default none)")
	fs.StringVar(&lock.Mode, "object-lock-mode", string(s3.Compliance), "compliance (nobody shortens it) or governance")
}

// replicaConfig is where workers keep a copy of the repository.
type replicaConfig struct {
	To    string // "" for nowhere
	Every time.Duration
	S3    s3Keys
}

func replicaFlags(fs *flag.FlagSet, r *replicaConfig) {
	fs.StringVar(&r.To, "replicate-to", "", "folder or s3:// address in which the workers keep a copy of the repository (default none)")
	fs.DurationVar(&r.Every, "replicate-every", 24*time.Hour, "how often the copy is brought up to date")
	s3Flags(fs, "replicate-", &r.S3)
}

// s3Keys are the credentials of a bucket.
type s3Keys struct{ Access, Secret string }

// place is where a repository is: a folder or a bucket.
type place struct {
	folder string
	bucket *s3.Config
}

// String says it in words for people.
func (p place) String() string {
	if p.bucket != nil {
		return p.bucket.Place()
	}
	return p.folder
}

// shown is String with the object lock.
func (p place) shown() string {
	if p.bucket == nil || p.bucket.Lock.Period == 0 {
		return p.String()
	}
	days := int(p.bucket.Lock.Period / (24 * time.Hour))
	return fmt.Sprintf("%s, locked for %d days (%s)", p, days, p.bucket.Lock.Mode)
}

// parsePlace reads the value of a flag that names a repository.
func parsePlace(name, address string, keys s3Keys, lock lockConfig, spool string) (place, error) {
	if !s3.Is(address) {
		if strings.Contains(address, "://") {
			return place{}, fmt.Errorf("-%s %q is neither a folder nor an address like s3://bucket/prefix", name, address)
		}
		if lock.Period != "" {
			return place{}, fmt.Errorf("-object-lock needs a bucket, but -%s is the folder %s", name, address)
		}
		folder, err := filepath.Abs(address) // one name for one place, wherever a command is run
		if err != nil {
			return place{}, fmt.Errorf("-%s: %w", name, err)
		}
		return place{folder: folder}, nil
	}
	bucket, err := s3.Parse(address)
	if err != nil {
		return place{}, fmt.Errorf("-%s: %w", name, err)
	}
	if bucket.Lock, err = s3.ParseLock(lock.Period, lock.Mode); err != nil {
		return place{}, fmt.Errorf("-object-lock: %w", err)
	}
	bucket.AccessKey, bucket.SecretKey, bucket.Spool = keys.Access, keys.Secret, spool
	return place{bucket: &bucket}, nil
}

// spool is the folder of files under way.
func (c *config) spool() string { return filepath.Join(c.Data, "spool") }

// completeRepository finds out where the repository is.
func (c *config) completeRepository() error {
	if c.Repository == "" {
		c.Repository = filepath.Join(c.Data, "repository")
	}
	spool := c.spool()
	var err error
	if c.place, err = parsePlace("repository", c.Repository, c.S3, c.Lock, spool); err != nil || c.Replica.To == "" {
		return err
	}
	keys := c.S3
	if c.Replica.S3 != (s3Keys{}) {
		keys = c.Replica.S3
	}
	if c.replica, err = parsePlace("replicate-to", c.Replica.To, keys, lockConfig{}, spool); err != nil {
		return err
	}
	if c.replica.String() == c.place.String() {
		return errors.New("-replicate-to is the repository itself")
	}
	if c.Replica.Every < time.Hour {
		return fmt.Errorf("-replicate-every %s is too often; the least is 1h", c.Replica.Every)
	}
	return nil
}

// openBoth opens the storages of repository and copy.
func (c config) openBoth(ctx context.Context) (from, to repo.Storage, err error) {
	if from, err = c.place.open(ctx); err != nil {
		return nil, nil, fmt.Errorf("open the repository: %w", err)
	}
	if to, err = c.replica.open(ctx); err != nil {
		return nil, nil, fmt.Errorf("open its copy: %w", err)
	}
	return from, to, nil
}

// open opens the storage.
func (p place) open(ctx context.Context) (repo.Storage, error) {
	if p.bucket == nil {
		return repo.OpenDir(p.folder)
	}
	if p.bucket.Spool != "" {
		if err := os.MkdirAll(p.bucket.Spool, 0o700); err != nil {
			return nil, fmt.Errorf("make the folder of uploads: %w", err)
		}
	}
	return s3.Open(ctx, *p.bucket)
}

// existing opens the storage of a repository that is read, without making a
// folder because somebody mistyped it.
func (p place) existing(ctx context.Context) (repo.Storage, error) {
	if p.bucket == nil {
		if _, err := os.Stat(filepath.Join(p.folder, "format.json")); err != nil {
			return nil, fmt.Errorf("there is no repository in %s", p.folder)
		}
	}
	return p.open(ctx)
}

var errSamePlace = errors.New("-from and -to are the same place")
