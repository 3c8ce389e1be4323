package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/jobs"
	"holdfast/store"
	"holdfast/views"
)

// checkLevels are the levels of "holdfast verify -level".
var checkLevels = map[string]backup.UpkeepKind{"structure": backup.UpkeepStructure, "data": backup.UpkeepData, "all": backup.UpkeepAll}

// check does a check as the workers do it, and keeps the result for the portal.
func check(ctx context.Context, st *store.Store, eng *engine.Engine, id, level string, stdout, stderr io.Writer) error {
	kind, ok := checkLevels[level]
	if !ok {
		return fmt.Errorf("there is no level %q: say structure, data or all", level)
	}
	r := &jobs.Runner{Store: st, Engine: eng, Log: slog.New(slog.DiscardHandler)}
	damaged := int64(0)
	err := eachOrganization(ctx, st, id, func(o backup.Organization) error {
		u, err := r.Upkeep(ctx, o.ID, kind, progressLine(stderr, o.Name))
		if errors.Is(err, backup.ErrNotFound) {
			err = nil
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "%s: %d packs checked, %d bytes read, %d damaged\n", o.Name, u.Counted, u.Bytes, u.Damaged)
		damaged += u.Damaged
		return printDamages(ctx, st, o.ID, stdout)
	})
	if err == nil && damaged > 0 {
		err = fmt.Errorf("%d objects and messages are damaged; they are listed above", damaged)
	}
	return err
}

// progressLine writes how far work is.
func progressLine(stderr io.Writer, name string) func(backup.Upkeep) {
	return func(u backup.Upkeep) { fmt.Fprintf(stderr, "%s: %d of %d\n", name, u.Done, u.Total) }
}

// printDamages lists by name what is damaged.
func printDamages(ctx context.Context, st *store.Store, org backup.OrgID, stdout io.Writer) error {
	list, err := st.Damages(ctx, org, 1_000_000)
	for _, d := range list {
		name := d.Object
		if d.Record > 0 {
			name = fmt.Sprintf("message %q of %s, folder %q, received %s", d.Subject, d.MailboxName, d.Folder, d.ReceivedAt.Format("2006-01-02 15:04 MST"))
		}
		fmt.Fprintf(stdout, "  %s since %s: %s: %s\n", views.DamageStates[d.Fate], d.FoundAt.Format("2006-01-02 15:04 MST"), name, views.DamageHow(d))
	}
	return err
}
