package engine

import (
	"context"
	"errors"
	"fmt"
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
