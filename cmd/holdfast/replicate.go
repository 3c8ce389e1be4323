package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"holdfast/backup/jobs"
	"holdfast/backup/repo"
	"holdfast/store"
)

// replicateConfig is what replicate and move are told.
type replicateConfig struct {
	config
	from, to  string
	fromKeys  s3Keys
	unchecked bool
}

// replicate copies what another place lacks of the repository.
func replicate(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	return copyRepository(ctx, "replicate", args, getenv, stdout, stderr,
		func(from, to repo.Storage, _ string, sums repo.Sums, progress func(repo.Replication)) (repo.Replication, error) {
			return repo.Replicate(ctx, from, to, sums, progress)
		})
}

// move is replicate, after which the old place takes no more backups.
func move(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	return copyRepository(ctx, "move", args, getenv, stdout, stderr,
		func(from, to repo.Storage, place string, sums repo.Sums, progress func(repo.Replication)) (repo.Replication, error) {
			return repo.Move(ctx, from, to, place, sums, progress)
		})
}

type copyFunc func(from, to repo.Storage, place string, sums repo.Sums, progress func(repo.Replication)) (repo.Replication, error)

func copyRepository(ctx context.Context, name string, args []string, getenv func(string) string, stdout, stderr io.Writer, do copyFunc) error {
	var c replicateConfig
	fs := newFlagSet(name, stderr)
	c.dataFlags(fs)
	s3Flags(fs, "", &c.S3)
	lockFlags(fs, &c.Lock)
	s3Flags(fs, "from-", &c.fromKeys)
	fs.StringVar(&c.from, "from", "", "folder or s3:// address of the repository (default DATA/repository)")
	fs.StringVar(&c.to, "to", "", "folder or s3:// address to copy it to")
	fs.BoolVar(&c.unchecked, "unchecked", false, "do without the database and the root key: copy packs without comparing them with what their snapshots say")
	if err := parse(fs, args, getenv); err != nil {
		return err
	}
	from, to, err := c.places()
	if err != nil {
		return err
	}
	source, err := from.existing(ctx)
	if err != nil {
		return fmt.Errorf("-from: %w", err)
	}
	target, err := to.open(ctx)
	if err != nil {
		return fmt.Errorf("-to: %w", err)
	}
	var st *store.Store // nil for none
	var sums repo.Sums
	if !c.unchecked {
		if st, err = c.openKeys(ctx); err != nil {
			return err
		}
		defer st.Close()
		if sums, err = repo.ReadSums(ctx, source, st); err != nil {
			return err
		}
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: c.LogLevel}))
	done, err := do(source, target, to.String(), sums, progressTo(log))
	if err != nil {
		return fmt.Errorf("%d of %d objects are at %s; run the command again to go on: %w", done.There, done.Objects, to, err)
	}
	fmt.Fprintf(stdout, "%d objects (%d bytes) are at %s; %d objects (%d bytes) were copied now\n", done.Objects, done.Bytes, to, done.Copied, done.Written)
	if name == "move" {
		fmt.Fprintf(stdout, "%s takes no more backups: start Holdfast with -repository set to the new place\n", from)
	}
	if name == "replicate" && st != nil {
		if err := pruneCopy(ctx, st, source, target, stdout); err != nil {
			return err
		}
	}
	for _, key := range done.Damaged {
		fmt.Fprintln(stdout, "  damaged before it was copied:", key)
	}
	if len(done.Damaged) > 0 {
		return fmt.Errorf("%d packs are damaged and were copied as they are; holdfast verify -all says what they held", len(done.Damaged))
	}
	return nil
}

// places reads -from and -to.
func (c *replicateConfig) places() (from, to place, err error) {
	if c.to == "" {
		return from, to, errors.New("say where to copy the repository: -to FOLDER or -to s3://BUCKET/PREFIX")
	}
	c.Repository = c.from
	lock := c.Lock
	keys := c.S3
	if c.fromKeys != (s3Keys{}) {
		c.S3 = c.fromKeys
	}
	c.Lock = lockConfig{}
	if err := c.complete(); err != nil {
		return from, to, err
	}
	if to, err = parsePlace("to", c.to, keys, lock, filepath.Join(c.Data, "spool")); err != nil {
		return from, to, err
	}
	if c.place.String() == to.String() {
		return from, to, errSamePlace
	}
	return c.place, to, nil
}

// pruneCopy deletes from the copy what the repository does not need any more.
func pruneCopy(ctx context.Context, st *store.Store, from, to repo.Storage, stdout io.Writer) error {
	done, err := jobs.PruneCopy(ctx, st, from, to)
	if err != nil {
		return fmt.Errorf("everything is copied, but what is not needed any more could not be deleted there: %w", err)
	}
	if done.Deleted+done.Retained > 0 {
		fmt.Fprintf(stdout, "%d objects that the repository does not need any more were deleted there, %d are kept by their object lock\n", done.Deleted, done.Retained)
	}
	for _, why := range done.Left {
		fmt.Fprintln(stdout, "  nothing deleted there of organization", why)
	}
	return nil
}

// openKeys opens the database, whose keys read what packs have to be.
func (c *replicateConfig) openKeys(ctx context.Context) (*store.Store, error) {
	if _, err := os.Stat(c.KeyFile); err != nil {
		return nil, fmt.Errorf("there is no root key in %s to read the snapshots with: name the data folder (-data), or copy without comparing (-unchecked)", c.KeyFile)
	}
	key, err := rootKey(c.KeyFile)
	if err != nil {
		return nil, err
	}
	return store.Open(ctx, store.Config{URL: c.Database, RootKey: key})
}

// progressEvery is how often progress is told.
const progressEvery = 5 * time.Second

func progressTo(log *slog.Logger) func(repo.Replication) {
	last := time.Now()
	return func(r repo.Replication) {
		if time.Since(last) < progressEvery {
			return
		}
		last = time.Now()
		log.Info("copying", "objects", r.There, "of", r.Objects, "copied_bytes", r.Written)
	}
}
