package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"holdfast/backup"
	"holdfast/backup/repo"
	"holdfast/store"
)

// rekey moves everything of an organization to new keys, as far as that is due. A
// server that runs goes on with it by itself.
func rekey(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	var c config
	var id string
	fs := newFlagSet("rekey", stderr)
	c.flags(fs)
	replicaFlags(fs, &c.Replica)
	fs.StringVar(&id, "organization", "", "id or name of the organization whose keys leaked")
	if err := parse(fs, args, getenv); err != nil {
		return err
	}
	if id == "" {
		return errors.New("say whose keys leaked: -organization ID")
	}
	if err := c.complete(); err != nil {
		return err
	}
	r, err := upkeepRunner(ctx, c, c.openBoth, stderr)
	if err != nil {
		return err
	}
	defer r.Store.Close()
	return eachOrganization(ctx, r.Store, id, func(o backup.Organization) error {
		if err := beginRekey(ctx, r.Store, o, stdout); err != nil {
			return err
		}
		u, err := r.Upkeep(ctx, o.ID, backup.UpkeepRekey, progressLine(stderr, o.Name))
		if err != nil {
			return err
		}
		return printRekey(o, u, stdout)
	})
}

// beginRekey makes new keys, unless the organization moves to some already.
func beginRekey(ctx context.Context, st *store.Store, o backup.Organization, stdout io.Writer) error {
	kinds, err := st.Upkeeps(ctx, o.ID)
	if err != nil || kinds[backup.UpkeepRekey].Open() {
		return err
	}
	epoch, err := st.BeginRekey(ctx, o.PartnerID, o.ID, backup.Actor{Partner: backup.Partner{ID: o.PartnerID}})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%s: new keys, epoch %d. Export a new recovery kit: the one you have opens nothing that is written from now on, and soon nothing at all.\n", o.Name, epoch)
	return err
}

func printRekey(o backup.Organization, u backup.Upkeep, stdout io.Writer) error {
	fmt.Fprintf(stdout, "%s: %d packs written anew under the new keys, %d of %d objects stand under them alone\n", o.Name, u.Counted, u.Done, u.Total)
	switch {
	case u.Damaged > 0:
		return fmt.Errorf("%d objects are damaged and stay under the old keys: run \"holdfast repair\", then \"holdfast rekey\" again", u.Damaged)
	case u.NextAt.IsZero():
		fmt.Fprintln(stdout, "Nothing is stored under the old keys any more, and they are destroyed.")
	case u.Done < u.Total:
		fmt.Fprintf(stdout, "What is under the old keys is deleted %d hours after it was written anew, and then they are destroyed. A server that runs does it by itself; otherwise run this again after %s.\n",
			int(repo.Grace/time.Hour), u.EndedAt.Add(repo.Grace).Format("2006-01-02 15:04 MST"))
	case u.Retained == 0:
		fmt.Fprintf(stdout, "Nothing needs the old keys any more. They wait for the last runs that began before; a server that runs goes on by itself, otherwise run this again after %s.\n",
			u.NextAt.Format("2006-01-02 15:04 MST"))
	default:
		fmt.Fprintln(stdout, "Nothing needs the old keys any more.")
	}
	printLocked(u, stdout)
	return nil
}

// printLocked says what stays under the old keys because of locks, and until when.
func printLocked(u backup.Upkeep, stdout io.Writer) {
	switch {
	case u.Retained == 0:
	case u.RetainedUntil.IsZero():
		fmt.Fprintf(stdout, "%d objects under them are locked, and the storage does not say until when. A server that runs deletes them when it can; otherwise run this again each day.\n", u.Retained)
	default:
		fmt.Fprintf(stdout, "%d objects under them are locked until %s at the latest. A server that runs deletes them within a day after that; otherwise run this again then.\n",
			u.Retained, u.RetainedUntil.UTC().Format("2006-01-02 15:04 MST"))
	}
}
