package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/jobs"
	"holdfast/backup/repo"
	"holdfast/store"
)

// gc collects what no snapshot needs.
func gc(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	var org string
	var dry bool
	return tool(ctx, "gc", args, getenv, stderr, func(fs flagSet) {
		fs.StringVar(&org, "organization", "", "id or name of the only organization to collect")
		fs.BoolVar(&dry, "dry-run", false, "say what would be done, and change nothing in the repository")
	}, func(st *store.Store, eng *engine.Engine) error {
		return eachOrganization(ctx, st, org, func(o backup.Organization) error {
			if dry {
				c, err := eng.PlanCollection(ctx, o.ID)
				if err != nil {
					return err
				}
				return printPlan(stdout, o.Name, c)
			}
			c, err := eng.Collect(ctx, o.ID)
			if err != nil {
				return err
			}
			return printCollection(stdout, o.Name, c)
		})
	})
}

// printPlan says what a collection would do, a line for each.
func printPlan(stdout io.Writer, name string, c repo.Collection) error {
	_, err := fmt.Fprintf(stdout, "%s: %d packs (%d bytes)\n  would delete %d packs (%d bytes) and %d expired snapshots\n  would condemn %d packs; %d (%d bytes) would then wait %s until they are deleted\n",
		name, c.Packs, c.Bytes, c.Deleted, c.Freed, c.Commits, c.Fresh, c.Condemned, c.Waiting, repo.Grace)
	if err == nil && c.Moved > 0 {
		_, err = fmt.Fprintf(stdout, "  would write anew what is needed of %d of them (%d bytes)\n", c.Moved, c.Written)
	}
	return err
}

// printCollection says what a collection found and did, a line for each that it did.
func printCollection(stdout io.Writer, name string, c repo.Collection) error {
	_, err := fmt.Fprintf(stdout, "%s: %d packs (%d bytes), %d deleted (%d bytes), %d not needed (%d bytes), which are deleted %s after they were found\n",
		name, c.Packs, c.Bytes, c.Deleted, c.Freed, c.Condemned, c.Waiting, repo.Grace)
	if err == nil && c.Moved > 0 {
		_, err = fmt.Fprintf(stdout, "  %d packs of which less than half is needed: that was written anew (%d bytes), and they are among those not needed\n", c.Moved, c.Written)
	}
	if err == nil && c.Commits > 0 {
		_, err = fmt.Fprintf(stdout, "  %d expired snapshots removed from the storage\n", c.Commits)
	}
	if err == nil && c.Retained > 0 {
		_, err = fmt.Fprintf(stdout, "  %d packs and snapshots are kept by their object lock and deleted when it ends\n", c.Retained)
	}
	return err
}

// expire applies the retention of organizations now.
func expire(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	var org string
	var dry bool
	return tool(ctx, "expire", args, getenv, stderr, func(fs flagSet) {
		fs.StringVar(&org, "organization", "", "id or name of the only organization whose retention is applied")
		fs.BoolVar(&dry, "dry-run", false, "say which snapshots would expire, and change nothing")
	}, func(st *store.Store, eng *engine.Engine) error {
		r := &jobs.Runner{Store: st, Engine: eng, Log: slog.New(slog.NewTextHandler(stderr, nil))}
		return eachOrganization(ctx, st, org, func(o backup.Organization) error {
			if !dry {
				list, err := r.Expire(ctx, o)
				if err != nil {
					return err
				}
				return printExpired(stdout, o.Name, "expired", list)
			}
			list, err := r.Expiring(ctx, o.ID)
			if err != nil {
				return err
			}
			if err := printExpired(stdout, o.Name, "would expire", list); err != nil {
				return err
			}
			return printSnapshots(ctx, st, o.ID, stdout, list)
		})
	})
}

// printExpired says how many snapshots of which mailboxes go, and by which rule.
func printExpired(stdout io.Writer, name, does string, list []backup.Expiry) error {
	if len(list) == 0 {
		_, err := fmt.Fprintf(stdout, "%s: no snapshot expires\n", name)
		return err
	}
	for _, e := range list {
		if _, err := fmt.Fprintf(stdout, "%s, %s: %d snapshots %s and %d stay (%s); %d messages (%d bytes) are in none that stays\n",
			name, e.Address, len(e.Snapshots), does, e.Kept, e.Rule, e.Messages, e.Bytes); err != nil {
			return err
		}
	}
	return nil
}

// printSnapshots lists the snapshots that would expire.
func printSnapshots(ctx context.Context, st *store.Store, org backup.OrgID, stdout io.Writer, list []backup.Expiry) error {
	for _, e := range list {
		snapshots, err := st.Snapshots(ctx, org, e.Mailbox)
		if err != nil {
			return err
		}
		gone := map[int64]bool{}
		for _, seq := range e.Snapshots {
			gone[seq] = true
		}
		for _, s := range snapshots {
			if !gone[s.Seq] {
				continue
			}
			if _, err := fmt.Fprintf(stdout, "  %s: snapshot %d of %s\n", e.Address, s.Seq, s.At.Format("2006-01-02 15:04 MST")); err != nil {
				return err
			}
		}
	}
	return nil
}
