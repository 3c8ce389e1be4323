package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast/backup"
	"holdfast/backup/repo"
)

// Mended is what Mend did.
type Mended struct {
	repo.Salvaged
	Snapshots int        // whose trees were written anew
	Lost      []LostItem // messages whose records are lost
	// LostSnapshots are those that are not what they were, or gone.
	LostSnapshots []LostSnapshot
}

// LostItem is a message whose record is lost: it is kept by name, and read from
// the provider again.
type LostItem struct {
	Mailbox backup.MailboxID
	Was     backup.ItemID // under which it was known
	Record  Record        // that names it now
}

// Mend does for an organization what can be done about damaged objects, named by
// their keys, without a copy of them: entries of the deletion log are written anew
// from the catalog; what is whole of damaged packs goes to new ones; and snapshots
// whose commits or trees can't be read are written anew from the catalog. Messages
// whose records are lost stay in them by name. What earlier repairs took apart and
// is whole again, or is in a copy, which may be nil, is taken from there first.
// Interrupted, it is called again, and ends what was begun; what snapshots lost by
// then is known to Catalog.NoteLost.
func (e *Engine) Mend(ctx context.Context, org backup.OrgID, damaged []string, from repo.Storage, told func(done, total int) error) (Mended, error) {
	m := mender{Engine: e, org: org, owner: owner{e, org, nil}, damaged: damaged, from: from, told: told}
	err := m.do(ctx)
	return m.result, e.problem(ctx, err)
}

// Suspects names the objects that keep the catalog from being brought up to the
// repository, and the packs that it knows and that are not there, so that they can
// be taken from a copy before Mend does without: checks look at what snapshots name,
// and not into every pack.
func (e *Engine) Suspects(ctx context.Context, org backup.OrgID) ([]string, error) {
	m := mender{Engine: e, org: org, owner: owner{e, org, nil}}
	sources, err := e.Repo.Sources(ctx, string(org))
	if err != nil {
		return nil, e.problem(ctx, fromRepository(err))
	}
	if _, err := m.behind(ctx, sources); err != nil {
		return nil, e.problem(ctx, err)
	}
	err = m.absent(ctx)
	return m.damaged, e.problem(ctx, err)
}

// mender is a Mend under way.
type mender struct {
	*Engine
	org     backup.OrgID
	owner   owner
	damaged []string
	blind   bool         // packs may be needed that only lost commits named
	from    repo.Storage // nil for none
	told    func(done, total int) error
	done    int
	result  Mended
}

func (m *mender) do(ctx context.Context) error {
	gone, err := m.Catalog.GoneSnapshots(ctx, m.org)
	if err != nil {
		return err
	}
	if _, err := m.Repo.Relog(ctx, string(m.org), gone, m.owner); err != nil {
		return fromRepository(err)
	}
	sources, err := m.Repo.Sources(ctx, string(m.org))
	if err != nil {
		return fromRepository(err)
	}
	behind, err := m.catchUp(ctx, sources)
	if err != nil {
		return err
	}
	if err := m.unnamed(ctx); err != nil {
		return err
	}
	if err := m.revive(ctx); err != nil {
		return err
	}
	if err := m.salvage(ctx); err != nil {
		return err
	}
	if m.from != nil && len(m.result.Done) > 0 { // of these, too, a copy has what is lost
		if err := m.revive(ctx); err != nil {
			return err
		}
	}
	if err := m.takeIn(ctx, behind); err != nil {
		return err
	}
	mailboxes, err := m.Catalog.CatalogMailboxes(ctx, m.org)
	if err != nil {
		return err
	}
	for _, mailbox := range mailboxes {
		if err := m.mailbox(ctx, mailbox); err != nil {
			return fmt.Errorf("mailbox %s: %w", mailbox, err)
		}
	}
	return m.dropExpired(ctx)
}

// unnamed has the log name the packs that only the index knows, since what named
// them is lost, and takes those for damaged that are not whole, or not there: no
// check looks at what nobody names.
func (m *mender) unnamed(ctx context.Context) error {
	broken, err := m.Repo.Adopt(ctx, string(m.org), m.owner)
	if err != nil {
		return fromRepository(err)
	}
	m.damaged = append(m.damaged, broken...)
	return m.absent(ctx)
}

// absent takes the packs for damaged that the index knows and that are not there.
func (m *mender) absent(ctx context.Context) error {
	known, err := m.Catalog.KnownPacks(ctx, m.org)
	if err != nil {
		return err
	}
	absent, err := m.Repo.Absent(ctx, string(m.org), known)
	m.damaged = append(m.damaged, absent...)
	return fromRepository(err)
}

// revive takes what earlier repairs missed from packs that came back.
func (m *mender) revive(ctx context.Context) error {
	some, err := m.Repo.Apart(ctx, string(m.org))
	if err != nil {
		return fromRepository(err)
	}
	if !some {
		return nil
	}
	shared, err := m.sharedKeys(ctx)
	if err != nil {
		return err
	}
	s, err := m.Repo.Revive(ctx, m.from, string(m.org), shared, m.owner)
	m.result.Add(s)
	return notACopy(err)
}

// salvage takes damaged packs apart, those of metadata first: they have the
// recipes with the keys of shared pieces.
func (m *mender) salvage(ctx context.Context) error {
	var meta, data []string
	for _, key := range m.damaged {
		switch {
		case strings.HasPrefix(key, "t/"+string(m.org)+"/m/"):
			meta = append(meta, key)
		case strings.HasPrefix(key, "t/"+string(m.org)+"/d/"):
			data = append(data, key)
		}
	}
	total := len(meta) + len(data)
	for _, keys := range [][]string{meta, data} {
		if len(keys) == 0 {
			continue
		}
		var shared map[repo.PieceID][]byte
		if len(data) > 0 && keys[0] == data[0] {
			var err error
			if shared, err = m.sharedKeys(ctx); err != nil {
				return err
			}
		}
		before := m.done
		s, err := m.Repo.Salvage(ctx, string(m.org), keys, shared, m.owner, func(done int) error {
			m.done = before + done
			return m.told(m.done, total)
		})
		m.result.Add(s)
		if err != nil {
			return fromRepository(err)
		}
	}
	return nil
}

// sharedKeys reads from the records that can be read the keys of the shared
// pieces that damaged packs may have.
func (m *mender) sharedKeys(ctx context.Context) (map[repo.PieceID][]byte, error) {
	broken := map[string]bool{}
	for _, key := range m.damaged {
		broken[key[strings.LastIndexByte(key, '/')+1:]] = true
	}
	keys := map[repo.PieceID][]byte{}
	mailboxes, err := m.Catalog.CatalogMailboxes(ctx, m.org)
	if err != nil {
		return nil, err
	}
	for _, mailbox := range mailboxes {
		err := m.eachRecord(ctx, mailbox, func(item Item) error {
			rec, err := readRecord(ctx, m.blobs(m.org, mailbox), item.Record.Meta)
			if isDamage(err) || err == nil && rec.Content == nil {
				return nil
			}
			if err != nil {
				return err
			}
			for _, part := range rec.Content.Parts {
				for _, s := range part.Shared {
					at, err := m.Repo.Locate(ctx, string(m.org), []repo.PieceID{s.ID})
					if err != nil {
						return err
					}
					if l, ok := at[s.ID]; !ok || broken[l.Pack.String()] {
						keys[s.ID] = s.Key
					}
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// mendBatch is how many items or records are asked for at once.
const mendBatch = pageMax

// eachRecord calls do for every record of a mailbox.
func (m *mender) eachRecord(ctx context.Context, mailbox backup.MailboxID, do func(Item) error) error {
	for after := int64(0); ; {
		items, err := m.Catalog.RecordItems(ctx, m.org, mailbox, after, mendBatch)
		if err != nil || len(items) == 0 {
			return err
		}
		for _, item := range items {
			if err := do(item); err != nil {
				return err
			}
		}
		after = items[len(items)-1].Record.Number
	}
}

// mailbox writes the snapshots of a mailbox anew that can't be read.
func (m *mender) mailbox(ctx context.Context, mailbox backup.MailboxID) error {
	release, err := m.await(ctx, mailbox)
	if err != nil {
		return err
	}
	defer release()
	t := newTreeMender(m.Engine, m.org, mailbox)
	if err := t.findLost(ctx, m); err != nil {
		return err
	}
	seqs, err := m.Catalog.SnapshotNumbers(ctx, m.org, mailbox)
	if err != nil {
		return err
	}
	for _, seq := range seqs {
		ok, err := t.readable(ctx, seq, seq == seqs[len(seqs)-1])
		if err != nil {
			return err
		}
		if ok {
			continue
		}
		if err := t.rewrite(ctx, seq); errors.Is(err, repo.ErrRetained) {
			m.log().Warn("snapshot can't be written anew before its lock ends", "organization", m.org, "mailbox", mailbox, "snapshot", seq, "error", err)
			continue
		} else if err != nil {
			return fmt.Errorf("snapshot %d: %w", seq, err)
		}
		m.result.Snapshots++
		m.log().Warn("snapshot written anew from the catalog", "organization", m.org, "mailbox", mailbox, "snapshot", seq)
	}
	if err := t.restate(ctx); err != nil {
		return err
	}
	m.result.Lost = append(m.result.Lost, t.lost...)
	return m.dropUnknown(ctx, t, seqs)
}

// dropUnknown lets snapshots expire that the catalog does not know and that are not
// there or can't be read: the end of the deletion log, which said so, may be lost.
func (m *mender) dropUnknown(ctx context.Context, t *treeMender, known []int64) error {
	if len(known) == 0 {
		return nil
	}
	seqs, err := m.Repo.Kept(ctx, string(m.org), string(t.mailbox), 0)
	if err != nil {
		return fromRepository(err)
	}
	lost, err := m.Repo.Missing(ctx, string(m.org), string(t.mailbox))
	if err != nil {
		return fromRepository(err)
	}
	for _, seq := range seqs {
		if seq >= known[len(known)-1] || slices.Contains(known, seq) {
			continue
		}
		ok, err := t.readable(ctx, seq, false)
		if err != nil {
			return err
		}
		if !ok {
			lost = append(lost, seq)
		}
	}
	for _, seq := range lost {
		if slices.Contains(known, seq) {
			continue
		}
		how := m.lose(t.mailbox, seq, "neither the storage nor the catalog has it any more")
		if err := m.Catalog.NoteLost(ctx, m.org, t.mailbox, seq, how); err != nil {
			return err
		}
		if err := m.Repo.Expire(ctx, string(m.org), string(t.mailbox), repo.SpansOf([]int64{seq})); err != nil {
			return fromRepository(err)
		}
		if err := m.Repo.DropExpired(ctx, string(m.org), string(t.mailbox), seq); err != nil && !isDamage(err) {
			return fromRepository(err)
		}
	}
	return nil
}

// dropExpired removes expired commits that can't be read: what they named is
// adopted.
func (m *mender) dropExpired(ctx context.Context) error {
	for _, key := range m.damaged {
		part := strings.Split(key, "/")
		if len(part) != 5 || part[2] != "c" {
			continue
		}
		var seq int64
		if _, err := fmt.Sscanf(part[4], "%d", &seq); err != nil {
			continue
		}
		gone, err := m.Repo.Expired(ctx, string(m.org), part[3])
		if err != nil {
			return fromRepository(err)
		}
		if !gone.Has(seq) {
			continue
		}
		if err := m.Repo.DropExpired(ctx, string(m.org), part[3], seq); err != nil && !errors.Is(err, repo.ErrDamaged) {
			return fromRepository(err)
		}
	}
	return nil
}
