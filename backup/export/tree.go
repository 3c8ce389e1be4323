package export

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"holdfast/backup"
	"holdfast/store"
)

// Content reads messages; *engine.Engine implements it.
type Content interface {
	WriteItem(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, item backup.ItemID, w io.Writer) error
}

// Reader finds the messages of mailboxes and writes them.
type Reader struct {
	Store   *store.Store
	Content Content
	// Progress is told after each message how many were written or found missing,
	// and their bytes; nil for nobody.
	Progress func(items, bytes int64)
	// Total is told of messages that will be written, Missing of each that is
	// missing; nil for nobody.
	Total   func(items int64)
	Missing func()
}

// ErrNothing says that there is no backup from the time that was asked for.
var ErrNothing = errors.New("there is no backup from that time")

// itemsPerPage is how many messages are listed at once.
const itemsPerPage = 2000

// Snapshot returns the newest snapshot of a mailbox that is not younger than at,
// or the newest of all if at is zero. There may be none: ErrNothing.
func (r Reader) Snapshot(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, at time.Time) (backup.Snapshot, error) {
	list, err := r.Store.Snapshots(ctx, org, mailbox)
	if err != nil {
		return backup.Snapshot{}, err
	}
	for _, s := range list {
		if at.IsZero() || !s.At.After(at) {
			return s, nil
		}
	}
	return backup.Snapshot{}, ErrNothing
}

// Folders adds the messages of wanted, folders of a snapshot that has all, to
// out. It returns those that are missing.
func (r Reader) Folders(ctx context.Context, out Writer, org backup.OrgID, mailbox backup.MailboxID, seq int64, all, wanted []backup.Folder) (missing []Missing, err error) {
	paths := FolderPaths(all)
	for _, f := range wanted {
		more, err := r.folder(ctx, out, org, mailbox, seq, f, paths[f.ID])
		if err != nil {
			return nil, err
		}
		missing = append(missing, more...)
	}
	return missing, nil
}

func (r Reader) folder(ctx context.Context, out Writer, org backup.OrgID, mailbox backup.MailboxID, seq int64, f backup.Folder, path string) (missing []Missing, err error) {
	for page, seen := 1, 0; ; page++ {
		items, total, err := r.Store.Items(ctx, org, mailbox, seq, store.ItemQuery{FolderID: f.ID, Page: page, PageSize: itemsPerPage})
		if err != nil {
			return nil, fmt.Errorf("read items: %w", err)
		}
		for _, item := range items {
			lost, err := r.item(ctx, out, org, mailbox, item, path)
			if err != nil {
				return nil, fmt.Errorf("export item %s: %w", item.ID, err)
			}
			if lost != nil {
				missing = append(missing, *lost)
				if r.Missing != nil {
					r.Missing()
				}
			}
			if r.Progress != nil {
				r.Progress(1, item.SizeBytes)
			}
		}
		seen += len(items)
		if len(items) == 0 || seen >= int(total) {
			return missing, nil
		}
	}
}

// inMemory is the largest message that is held in memory until all of it was
// read. A larger one is read twice.
const inMemory = 4 << 20

// item adds one message. One whose content can't be read is returned instead,
// before anything of it was written: nobody is to take a part for the whole.
func (r Reader) item(ctx context.Context, out Writer, org backup.OrgID, mailbox backup.MailboxID, item backup.Item, path string) (*Missing, error) {
	if item.Damaged {
		return &Missing{Item: item}, nil
	}
	read := func(w io.Writer) error { return r.Content.WriteItem(ctx, org, mailbox, item.ID, w) }
	var held bytes.Buffer
	var err error
	if item.SizeBytes <= inMemory {
		if err = read(&held); err == nil {
			read = func(w io.Writer) error {
				_, err := held.WriteTo(w)
				return err
			}
		}
	} else {
		err = read(io.Discard)
	}
	if ctx.Err() == nil && backup.KindOf(err) == backup.ProblemRepository {
		return &Missing{Item: item, Damaged: true}, nil
	}
	if err != nil {
		return nil, err
	}
	return nil, out.Add(path, item, read)
}

// FolderPaths gives each folder its place in an archive.
func FolderPaths(folders []backup.Folder) map[string]string {
	byID := make(map[string]backup.Folder, len(folders))
	for _, f := range folders {
		byID[f.ID] = f
	}
	paths := make(map[string]string, len(folders))
	for _, f := range folders {
		names, seen := []string{f.Name}, map[string]bool{f.ID: true}
		for parent, ok := byID[f.ParentID]; ok && !seen[parent.ID]; parent, ok = byID[parent.ParentID] {
			seen[parent.ID] = true
			names = append(names, parent.Name)
		}
		slices.Reverse(names)
		paths[f.ID] = FolderPath(names)
	}
	return paths
}
