package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"syscall"
	"time"

	"holdfast/backup"
	"holdfast/backup/repo"
)

// LostSnapshot is a snapshot that a repair could not have back as it was, since
// the catalog had not taken it in.
type LostSnapshot struct {
	Mailbox backup.MailboxID
	Seq     int64
	How     string // what is lost, in words
}

// catchUp brings the catalog up to the repository, and returns the mailboxes that
// have commits which it can't take in. If nobody knows which packs those named, all
// are made known that nobody names.
func (m *mender) catchUp(ctx context.Context, sources []string) ([]backup.MailboxID, error) {
	if err := m.recoverAll(ctx, m.org, sources, nil); err != nil && ctx.Err() == nil {
		m.log().Warn("catalog not brought up to the repository before it is mended", "organization", m.org, "error", err)
	}
	behind, err := m.behind(ctx, sources)
	if err != nil || !m.blind {
		return behind, err
	}
	broken, err := m.Repo.AdoptAll(ctx, string(m.org), m.owner)
	m.damaged = append(m.damaged, broken...)
	return behind, fromRepository(err)
}

// behind lists the mailboxes that have commits which the catalog has not. What is in
// the way is taken for damaged, whether a check named it or not.
func (m *mender) behind(ctx context.Context, sources []string) (behind []backup.MailboxID, err error) {
	for _, source := range sources {
		seqs, err := m.notTaken(ctx, backup.MailboxID(source))
		if err != nil {
			return nil, err
		}
		if len(seqs) == 0 {
			continue
		}
		behind = append(behind, backup.MailboxID(source))
		if err := m.suspect(ctx, source, seqs); err != nil {
			return nil, err
		}
	}
	return behind, nil
}

// suspect takes the packs of metadata for damaged that commits name and that are not
// whole.
func (m *mender) suspect(ctx context.Context, source string, seqs []int64) error {
	missing, err := m.Repo.Missing(ctx, string(m.org), source)
	if err != nil && !isDamage(err) { // of the log, which Mend writes anew first
		return fromRepository(err)
	}
	m.blind = m.blind || len(missing) > 0
	for _, seq := range seqs {
		c, err := m.Repo.Commit(ctx, string(m.org), source, seq)
		if isDamage(err) {
			m.blind = true // checks name it
			continue
		}
		if unreachable(err) {
			continue
		}
		if err != nil {
			return fromRepository(err)
		}
		broken, err := m.Repo.BrokenMeta(ctx, string(m.org), c.Packs)
		if err != nil {
			return fromRepository(err)
		}
		m.damaged = append(m.damaged, broken...)
	}
	return nil
}

// notTaken lists the commits of a mailbox that follow the catalog's.
func (m *mender) notTaken(ctx context.Context, mailbox backup.MailboxID) ([]int64, error) {
	head, err := m.Catalog.Head(ctx, m.org, mailbox)
	if err != nil {
		return nil, fmt.Errorf("read the newest snapshot: %w", err)
	}
	seqs, err := m.Repo.Kept(ctx, string(m.org), string(mailbox), head.Seq)
	return seqs, fromRepository(err)
}

// takeIn takes into the catalog what mailboxes have that are behind, as far as it
// can be read by now.
func (m *mender) takeIn(ctx context.Context, behind []backup.MailboxID) error {
	for _, mailbox := range behind {
		release, err := m.await(ctx, mailbox)
		if err != nil {
			return err
		}
		if err = m.recoverMailbox(ctx, m.org, mailbox); err == nil || isDamage(err) {
			err = m.takeLeft(ctx, mailbox) // also what comes after one that is missing
		}
		release()
		if unreachable(err) {
			m.log().Error("mailbox not mended", "organization", m.org, "mailbox", mailbox, "error", err)
		} else if err != nil {
			return fmt.Errorf("mailbox %s: %w", mailbox, err)
		}
	}
	return nil
}

// unreachable says that nobody has the key of a mailbox, or that the disk fails to
// read what it has, which it may do the next time: others are mended all the same.
func unreachable(err error) bool { return errors.Is(err, repo.ErrNoKey) || errors.Is(err, syscall.EIO) }

// takeLeft takes into the catalog what is left of the commits of a mailbox that
// follow the catalog's and can't be read, so that they are written anew from there
// and the next run goes on. That has the provider list again what changed since the
// last snapshot that is whole. Of a commit of which nothing can be found the newest
// one stands for the snapshot before it; others are left to dropUnknown.
func (m *mender) takeLeft(ctx context.Context, mailbox backup.MailboxID) error {
	seqs, err := m.notTaken(ctx, mailbox)
	if err != nil {
		return err
	}
	var dead repo.Commit // the last one, if it has nothing
	for _, seq := range seqs {
		c, err := m.Repo.Commit(ctx, string(m.org), string(mailbox), seq)
		if err == nil {
			err = m.ingestLeft(ctx, mailbox, c)
		}
		switch {
		case err == nil:
			dead = repo.Commit{}
		case isDamage(err):
			dead = repo.Commit{Seq: seq, At: c.At, Packs: c.Packs}
			m.log().Error("nothing is left of a snapshot", "organization", m.org, "mailbox", mailbox, "snapshot", seq, "error", err)
		default:
			return fmt.Errorf("commit %d of mailbox %s: %w", seq, mailbox, fromRepository(err))
		}
	}
	if dead.Seq == 0 {
		return nil
	}
	return m.standIn(ctx, mailbox, dead)
}

// standIn has the newest commit of a mailbox, of which nothing can be found, be as
// the snapshot before it.
func (m *mender) standIn(ctx context.Context, mailbox backup.MailboxID, c repo.Commit) error {
	head, err := m.Catalog.Head(ctx, m.org, mailbox)
	if err != nil {
		return fmt.Errorf("read the newest snapshot: %w", err)
	}
	if c.At.IsZero() {
		c.At = time.UnixMilli(time.Now().UnixMilli()).UTC()
	}
	next := max(head.NextNumber, 1)
	for _, p := range c.Packs {
		if p.Kind == repo.PackMeta {
			next += p.Length / 32 // a record that it numbered takes more, for its identifier alone
		}
	}
	lost := m.lose(mailbox, c.Seq, "nothing of it can be read, so it is as the snapshot before it; the next backup reads from the provider what it had")
	return m.Catalog.ApplyCommit(ctx, m.org, mailbox, Delta{Seq: c.Seq, Gap: c.Seq - head.Seq - 1, At: c.At, Partial: true,
		NextNumber: next, Totals: head.Totals, FolderCursor: head.FolderCursor, Lost: lost})
}

// lose names a snapshot that is not what it was, and returns how it is told of.
func (m *mender) lose(mailbox backup.MailboxID, seq int64, how string) string {
	how = "this snapshot is not what it was: " + how
	m.result.LostSnapshots = append(m.result.LostSnapshots, LostSnapshot{mailbox, seq, how})
	m.log().Error("snapshot is not what it was", "organization", m.org, "mailbox", mailbox, "snapshot", seq, "how", how)
	return how
}

// leftover finds what is left of a commit.
type leftover struct {
	ingester
	head    Head
	folders map[string]FolderState // as they will be
	doubt   bool                   // a part of the tree is lost, so nothing is taken for deleted
	lost    int                    // messages that are known to be left out
}

// ingestLeft takes in what is left of a commit. It is damage if nothing is, and
// nothing is changed then.
func (m *mender) ingestLeft(ctx context.Context, mailbox backup.MailboxID, c repo.Commit) error {
	objects, err := m.objects(ctx, m.org, string(mailbox), c.Packs)
	if err != nil {
		return err
	}
	if err := m.Catalog.AddObjects(ctx, m.org, objects); err != nil {
		return err
	}
	head, err := m.Catalog.Head(ctx, m.org, mailbox)
	if err != nil {
		return fmt.Errorf("read the newest snapshot: %w", err)
	}
	l := leftover{head: head, folders: map[string]FolderState{},
		ingester: ingester{Engine: m.Engine, org: m.org, mailbox: mailbox, meta: m.blobs(m.org, mailbox), now: map[int64]Item{}, gone: map[int64]bool{}}}
	d, err := l.delta(ctx, c)
	if err != nil {
		return err
	}
	if l.doubt || l.lost > 0 {
		d.Lost = m.lose(mailbox, c.Seq, l.how())
	}
	return m.Catalog.ApplyCommit(ctx, m.org, mailbox, d)
}

func (l *leftover) how() string {
	how := "a part of its folder lists is lost"
	if !l.doubt {
		how = fmt.Sprintf("the records of %d messages that it brought are lost", l.lost)
	} else if l.lost > 0 {
		how += fmt.Sprintf(", with at least %d messages that it brought", l.lost)
	}
	return how + "; the next backup reads them from the provider, if it still has them"
}

// delta is the difference between the catalog and what is left of a commit.
func (l *leftover) delta(ctx context.Context, c repo.Commit) (Delta, error) {
	var top root
	if err := decode(ctx, l.meta, kindRoot, c.Root, &top); err != nil {
		return Delta{}, err
	}
	d := Delta{Seq: c.Seq, Gap: c.Seq - l.head.Seq - 1, At: c.At, Partial: c.Partial, Totals: l.head.Totals,
		NextNumber: max(top.NextNumber, l.head.NextNumber), FolderCursor: top.FolderCursor}
	was := map[string]FolderState{}
	for _, f := range l.head.Folders {
		was[f.ID], l.folders[f.ID] = f, f
	}
	named := map[string]bool{}
	for _, id := range top.Folders {
		n, err := readNode(ctx, l.meta, id)
		if err == nil {
			named[n.FolderID] = true
			err = l.folder(ctx, id, n)
		} else if isDamage(err) {
			l.doubt, err = true, nil
		}
		if err != nil {
			return d, err
		}
	}
	for _, f := range l.head.Folders {
		if named[f.ID] {
			continue
		}
		if err := l.removed(ctx, f.ID); err != nil {
			return d, err
		}
		d.RemovedFolders = append(d.RemovedFolders, f.ID)
	}
	if err := l.items(ctx, &d); err != nil {
		return d, err
	}
	l.finish(&d, was)
	return d, nil
}

// folder notes how a folder differs from the catalog's.
func (l *leftover) folder(ctx context.Context, id repo.MetaID, n node) error {
	before, err := l.before(ctx, n.FolderID)
	if err != nil {
		return err
	}
	for i, p := range n.Pages {
		entries, err := readPage(ctx, l.meta, p)
		if isDamage(err) {
			end := int64(math.MaxInt64)
			if i+1 < len(n.Pages) {
				end = n.Pages[i+1].First
			}
			for item := range before {
				if p.First <= item && item < end {
					delete(before, item)
				}
			}
			l.doubt = true
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			item := Item{ItemState: ItemState{FolderID: n.FolderID}}
			e.fill(&item)
			l.now[e.Item] = item
			delete(before, e.Item)
		}
	}
	maps.Copy(l.gone, before)
	f := n.state(id)
	f.Items = l.folders[n.FolderID].Items // counted anew
	l.folders[n.FolderID] = f
	return nil
}

// before is what the catalog has in a folder.
func (l *leftover) before(ctx context.Context, folder string) (map[int64]bool, error) {
	numbers, err := l.Catalog.FolderItems(ctx, l.org, l.mailbox, folder)
	if err != nil {
		return nil, fmt.Errorf("read items of folder %s: %w", folder, err)
	}
	before := make(map[int64]bool, len(numbers))
	for _, n := range numbers {
		before[n] = true
	}
	return before, nil
}

func (l *leftover) removed(ctx context.Context, folder string) error {
	before, err := l.before(ctx, folder)
	maps.Copy(l.gone, before)
	return err
}

// items completes d with the items that differ and can be read.
func (l *leftover) items(ctx context.Context, d *Delta) error {
	numbers := slices.AppendSeq(slices.Collect(maps.Keys(l.now)), maps.Keys(l.gone))
	slices.Sort(numbers)
	for part := range slices.Chunk(slices.Compact(numbers), removalBatch) {
		list, err := l.Catalog.ItemsByNumber(ctx, l.org, l.mailbox, part)
		if err != nil {
			return fmt.Errorf("read items: %w", err)
		}
		known := make(map[int64]Item, len(list))
		for _, item := range list {
			known[item.Number] = item
		}
		if err := l.part(ctx, d, part, known); err != nil {
			return err
		}
	}
	return nil
}

// part completes d with a part of the items: all at once, or, if a record is lost,
// one by one.
func (l *leftover) part(ctx context.Context, d *Delta, numbers []int64, known map[int64]Item) error {
	var there []int64
	for _, n := range numbers {
		if _, ok := l.now[n]; ok {
			there = append(there, n)
		} else {
			l.remove(d, known[n])
		}
	}
	list, err := l.changes(ctx, there, known)
	if isDamage(err) && len(there) > 1 {
		for _, n := range there {
			if err := l.part(ctx, d, []int64{n}, known); err != nil {
				return err
			}
		}
		return nil
	}
	if isDamage(err) { // what was known of the item stays, where it was not taken away
		if l.lost++; l.gone[there[0]] {
			l.remove(d, known[there[0]])
		}
		return nil
	}
	for _, c := range list {
		old := known[c.Number]
		if sameItem(old, c.Item) {
			continue
		}
		if old.FolderID != "" {
			l.count(d, old, -1)
		}
		l.count(d, c.Item, 1)
		d.Items = append(d.Items, c)
	}
	return err
}

// remove takes an item out of the snapshot, if all of the tree says so.
func (l *leftover) remove(d *Delta, old Item) {
	if !l.doubt && old.FolderID != "" {
		l.count(d, old, -1)
		d.Removed = append(d.Removed, old.Number)
	}
}

// count adds an item to the sums, or takes it out of them.
func (l *leftover) count(d *Delta, item Item, n int64) {
	d.Totals.add(item, n)
	f := l.folders[item.FolderID]
	f.Items += n
	l.folders[item.FolderID] = f
}

// finish says how the folders are after the commit. If something is lost, the next
// run begins where the snapshot before was.
func (l *leftover) finish(d *Delta, was map[string]FolderState) {
	whole := !l.doubt && l.lost == 0
	if !whole {
		d.Partial, d.FolderCursor = true, l.head.FolderCursor
	}
	if l.doubt {
		d.RemovedFolders = nil
	}
	for _, id := range slices.Sorted(maps.Keys(l.folders)) {
		f := l.folders[id]
		if !whole {
			f.Cursor = was[id].Cursor
		}
		if f != was[id] && !slices.Contains(d.RemovedFolders, id) {
			d.Folders = append(d.Folders, f)
		}
	}
}
