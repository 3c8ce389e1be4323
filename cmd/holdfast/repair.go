package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"holdfast/backup"
	"holdfast/backup/jobs"
	"holdfast/backup/repo"
	"holdfast/store"
)

// repair puts damaged objects of the repository back from a copy of it, or mends
// it without one.
func repair(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	var c config
	var org, from string
	fs := newFlagSet("repair", stderr)
	c.flags(fs)
	replicaFlags(fs, &c.Replica)
	fs.StringVar(&from, "from", "", "folder or s3:// address of a copy of the repository (default -replicate-to; none: what is whole of damaged objects is saved without)")
	fs.StringVar(&org, "organization", "", "id or name of the only organization to repair")
	if err := parse(fs, args, getenv); err != nil {
		return err
	}
	if from != "" {
		c.Replica.To = from
	}
	if err := c.complete(); err != nil {
		return err
	}
	r, err := upkeepRunner(ctx, c, c.openCopy, stderr)
	if err != nil {
		return err
	}
	defer r.Store.Close()
	if from != "" {
		r.Replica.Once = true
	}
	return repairAll(ctx, r.Store, r, org, stdout, stderr)
}

// upkeepRunner does for a command what workers do otherwise, with the copy that
// open opens where there is one. The caller closes its store.
func upkeepRunner(ctx context.Context, c config, open func(context.Context) (from, to repo.Storage, err error), stderr io.Writer) (*jobs.Runner, error) {
	if err := c.existing(); err != nil {
		return nil, err
	}
	st, eng, _, err := openData(ctx, c, slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: c.LogLevel})))
	if err != nil {
		return nil, err
	}
	r := &jobs.Runner{Store: st, Engine: eng, Log: slog.New(slog.DiscardHandler), Spool: c.spool()}
	if c.Replica.To != "" {
		r.Replica = &jobs.Replica{Place: c.replica.String(), Open: open}
	}
	return r, nil
}

// openCopy is openBoth for a copy that has to be there.
func (c config) openCopy(ctx context.Context) (from, to repo.Storage, err error) {
	if _, err := c.replica.existing(ctx); err != nil {
		return nil, nil, fmt.Errorf("-from: %w", err)
	}
	return c.openBoth(ctx)
}

func repairAll(ctx context.Context, st *store.Store, r *jobs.Runner, id string, stdout, stderr io.Writer) error {
	damaged := int64(0)
	err := eachOrganization(ctx, st, id, func(o backup.Organization) error {
		u, err := r.Upkeep(ctx, o.ID, backup.UpkeepRepair, progressLine(stderr, o.Name))
		if err != nil {
			return err
		}
		from := "without a copy"
		if r.Replica != nil {
			from = "from " + r.Replica.Place + " and without it"
		}
		fmt.Fprintf(stdout, "%s: %d objects repaired %s, %d still damaged\n", o.Name, u.Counted, from, u.Damaged)
		damaged += u.Damaged
		return printDamages(ctx, st, o.ID, stdout)
	})
	if err == nil && damaged > 0 {
		err = fmt.Errorf("%d objects and messages are still damaged; they are listed above", damaged)
	}
	return err
}
