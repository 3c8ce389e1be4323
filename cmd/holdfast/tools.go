package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/store"
)

// tool opens the data for an operator's command and runs do.
func tool(ctx context.Context, name string, args []string, getenv func(string) string, stderr io.Writer,
	flags func(set flagSet), do func(st *store.Store, eng *engine.Engine) error) error {
	var c config
	fs := newFlagSet(name, stderr)
	c.flags(fs)
	if flags != nil {
		flags(fs)
	}
	if err := parse(fs, args, getenv); err != nil {
		return err
	}
	if err := c.complete(); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: c.LogLevel}))
	if err := c.existing(); err != nil {
		return err
	}
	st, eng, _, err := openData(ctx, c, log)
	if err != nil {
		return err
	}
	defer st.Close()
	return do(st, eng)
}

// flagSet is the part of flag.FlagSet that a command adds flags with.
type flagSet interface {
	BoolVar(p *bool, name string, value bool, usage string)
	StringVar(p *string, name, value, usage string)
}

// eachOrganization calls do for the organization named by its id or name, or for
// all. Where there is none, nothing was done, which is no success.
func eachOrganization(ctx context.Context, st *store.Store, id string, do func(backup.Organization) error) error {
	if id != "" {
		org, err := namedOrganization(ctx, st, id)
		if err != nil {
			return err
		}
		return do(org)
	}
	orgs, err := st.AllOrganizations(ctx)
	if err != nil {
		return err
	}
	if len(orgs) == 0 {
		return errors.New("the database has no organization, so there was nothing to do: is it the right one?")
	}
	for _, org := range orgs {
		if err := do(org); err != nil {
			return fmt.Errorf("organization %s (%s): %w", org.Name, org.ID, err)
		}
	}
	return nil
}

func verify(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	var org, level string
	var all bool
	return tool(ctx, "verify", args, getenv, stderr, func(fs flagSet) {
		fs.StringVar(&org, "organization", "", "id or name of the only organization to check")
		fs.StringVar(&level, "level", "", "structure (everything is there), data (what the daily check would read) or all, kept as the workers' checks are")
		fs.BoolVar(&all, "all", false, "open every blob and prove every message by it, not only the structure")
	}, func(st *store.Store, eng *engine.Engine) error {
		if level != "" {
			return check(ctx, st, eng, org, level, stdout, stderr)
		}
		damaged := 0
		err := eachOrganization(ctx, st, org, func(o backup.Organization) error {
			report, err := eng.Verify(ctx, o.ID, all)
			if err != nil {
				return err
			}
			fmt.Fprintf(stdout, "%s: %d mailboxes, %d snapshots, %d messages, %d packs checked, %d damaged\n",
				o.Name, report.Mailboxes, report.Snapshots, report.Items, report.Packs, len(report.Damaged))
			for _, d := range report.Damaged {
				fmt.Fprintln(stdout, "  damaged:", d)
			}
			damaged += len(report.Damaged)
			return nil
		})
		if err == nil && damaged > 0 {
			err = fmt.Errorf("%d objects are damaged; they are listed above", damaged)
		}
		return err
	})
}

func rebuild(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	var org string
	return tool(ctx, "rebuild", args, getenv, stderr, func(fs flagSet) {
		fs.StringVar(&org, "organization", "", "id or name of the only organization to rebuild")
	}, func(st *store.Store, eng *engine.Engine) error {
		if err := knowsTenants(ctx, st, eng); err != nil {
			return err
		}
		return eachOrganization(ctx, st, org, func(o backup.Organization) error {
			if err := eng.Rebuild(ctx, o.ID); err != nil {
				return err
			}
			_, err := fmt.Fprintf(stdout, "%s: catalog rebuilt from the repository\n", o.Name)
			return err
		})
	})
}

// knowsTenants refuses a database that knows nothing of what is in the
// repository: its keys are gone, and new ones would open nothing.
func knowsTenants(ctx context.Context, st *store.Store, eng *engine.Engine) error {
	tenants, err := eng.Repo.Tenants(ctx)
	if err != nil {
		return fmt.Errorf("list the organizations in the repository: %w", err)
	}
	for _, tenant := range tenants {
		_, err := st.OrganizationByID(ctx, backup.OrgID(tenant))
		if !errors.Is(err, backup.ErrNotFound) {
			return err
		}
	}
	if len(tenants) == 0 {
		return nil
	}
	return fmt.Errorf("the repository has data of %d organizations, and this database knows none of them nor their keys: "+
		"import the recovery kit into a new database first (holdfast key import)", len(tenants))
}

func audit(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	switch {
	case len(args) > 0 && args[0] == "verify":
		args = args[1:]
	case len(args) == 0 || !strings.HasPrefix(args[0], "-"):
		return errors.New(`say "holdfast audit verify"`)
	}
	var org string
	return tool(ctx, "audit verify", args, getenv, stderr, func(fs flagSet) {
		fs.StringVar(&org, "organization", "", "id or name of the only organization to check")
	}, func(st *store.Store, _ *engine.Engine) error {
		logs, err := auditLogs(ctx, st, org)
		if err != nil {
			return err
		}
		broken := 0
		for _, l := range logs {
			n, err := st.VerifyActivity(ctx, l.partner, l.org)
			switch {
			case errors.Is(err, store.ErrBroken):
				broken++
				_, err = fmt.Fprintf(stdout, "%s: BROKEN: %v\n", l.name, err)
			case err == nil:
				_, err = fmt.Fprintf(stdout, "%s: %d entries, unbroken\n", l.name, n)
			}
			if err != nil {
				return fmt.Errorf("activity of %s: %w", l.name, err)
			}
		}
		if broken > 0 {
			return fmt.Errorf("%d of %d activity logs were changed after they were written; they are named above", broken, len(logs))
		}
		return nil
	})
}

// auditLog is one chain of entries.
type auditLog struct {
	name    string
	partner backup.PartnerID
	org     backup.OrgID
}

// auditLogs lists the log of the organization named by id, or all: each
// organization's, and the partner's own.
func auditLogs(ctx context.Context, st *store.Store, id string) ([]auditLog, error) {
	var logs []auditLog
	err := eachOrganization(ctx, st, id, func(o backup.Organization) error {
		logs = append(logs, auditLog{o.Name, o.PartnerID, o.ID})
		return nil
	})
	if err != nil || id != "" {
		return logs, err
	}
	partners, err := st.Partners(ctx)
	for _, p := range partners {
		logs = append(logs, auditLog{p.Name + " (Partner Portal)", p.ID, ""})
	}
	return logs, err
}
