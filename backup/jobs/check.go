package jobs

import (
	"context"
	"regexp"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/repo"
)

// checking follows a check of an organization's packs.
type checking struct {
	*task
	now     time.Time
	before  map[string]backup.PackCheck
	damaged map[string]bool // objects that are known to be damaged
	told    map[string]bool // snapshots that a repair, which has not ended, has to tell of
	fresh   []backup.PackCheck
	broken  map[repo.PackID]bool // packs that this check found damaged
	whole   []string             // objects that were damaged and are not any more
	seen    int64
}

// checkStructure looks that everything is there that the snapshots name.
func (t *task) checkStructure(ctx context.Context) error {
	return t.check(ctx, func(*checking, repo.Pack) repo.VerifyLevel { return repo.VerifyLengths })
}

// checkData reads the packs whose turn it is: new ones, and the others in turn.
func (t *task) checkData(ctx context.Context) error { return t.check(ctx, (*checking).turn) }

// checkAll opens every blob and restores every message to nowhere.
func (t *task) checkAll(ctx context.Context) error {
	if err := t.check(ctx, func(*checking, repo.Pack) repo.VerifyLevel { return repo.VerifyBlobs }); err != nil {
		return err
	}
	return t.eachRecord(ctx, func(mailbox backup.MailboxID, r engine.Record) error { return t.compare(ctx, mailbox, r) })
}

// turn says how deep a pack is looked at today. When it is due is spread by its
// identifier, so that packs that came together do not stay together.
func (c *checking) turn(p repo.Pack) repo.VerifyLevel {
	last := c.before[p.ID.String()]
	spread := func(within time.Duration) time.Duration {
		return within/2 + time.Duration(p.ID[0])*(within/2)/256
	}
	switch {
	case c.now.Sub(last.OpenedAt) >= spread(backup.OpenedWithin):
		return repo.VerifyBlobs
	case c.now.Sub(last.HashedAt) >= spread(backup.HashedWithin):
		return repo.VerifyPacks
	}
	return repo.VerifyLengths
}

func (t *task) check(ctx context.Context, depth func(*checking, repo.Pack) repo.VerifyLevel) error {
	c := &checking{task: t, now: time.Now(), damaged: map[string]bool{}, told: map[string]bool{}, broken: map[repo.PackID]bool{}}
	var err error
	if c.before, err = t.Store.PackChecks(ctx, t.u.OrgID); err != nil {
		return err
	}
	known, err := t.Store.Damages(ctx, t.u.OrgID, knownDamages)
	if err != nil {
		return err
	}
	for _, d := range known {
		c.damaged[d.Object], c.told[d.Object] = true, d.Fate == backup.DamageTold
	}
	report, err := t.reader.Check(ctx, t.u.OrgID, repo.Watch{
		Level: func(p repo.Pack) repo.VerifyLevel {
			level := depth(c, p)
			if c.damaged[repo.PackName(string(t.u.OrgID), p)] {
				level = max(level, repo.VerifyPacks) // it may be whole again
			}
			return level
		},
		Checked: func(source string, p repo.Pack, level repo.VerifyLevel, err error) error {
			return c.checked(ctx, source, p, level, err)
		},
	})
	if err != nil {
		return err
	}
	return c.finish(ctx, report, known)
}

// knownDamages is how many damages a check compares itself with.
const knownDamages = 10_000

// checked keeps how one pack was found.
func (c *checking) checked(ctx context.Context, source string, p repo.Pack, level repo.VerifyLevel, err error) error {
	c.seen++
	c.u.Counted++
	if err != nil {
		c.broken[p.ID] = true
		return c.progress(ctx, c.seen, int64(len(c.before)))
	}
	name := p.ID.String()
	mark := backup.PackCheck{Pack: name, MailboxID: backup.MailboxID(source), Bytes: p.Length, SeenAt: c.now,
		HashedAt: c.before[name].HashedAt, OpenedAt: c.before[name].OpenedAt}
	if level >= repo.VerifyPacks {
		mark.HashedAt = c.now
		c.u.Bytes += p.Length
		if object := repo.PackName(string(c.u.OrgID), p); c.damaged[object] {
			c.whole = append(c.whole, object)
		}
	}
	if level >= repo.VerifyBlobs {
		mark.OpenedAt = c.now
	}
	if c.fresh = append(c.fresh, mark); len(c.fresh) >= 500 || level > repo.VerifyLengths {
		if err := c.keep(ctx); err != nil { // a check that is interrupted goes on from here
			return err
		}
	}
	return c.progress(ctx, c.seen, int64(len(c.before)))
}

func (c *checking) keep(ctx context.Context) error {
	err := c.Store.SavePackChecks(ctx, c.u.OrgID, c.fresh)
	c.fresh = c.fresh[:0]
	return err
}

// objectName finds the key of an object in what a verification says about it.
var objectName = regexp.MustCompile(`t/[^/ ]+/[dmcg]/[^ :]+`)

// finish keeps what the check found, and names the messages that need what is
// damaged.
func (c *checking) finish(ctx context.Context, report engine.Report, known []backup.Damage) error {
	if err := c.keep(ctx); err != nil {
		return err
	}
	if err := c.Store.ForgetPackChecks(ctx, c.u.OrgID, c.now); err != nil {
		return err
	}
	found := map[string]bool{}
	for _, line := range report.Damaged {
		d := backup.Damage{OrgID: c.u.OrgID, Object: objectName.FindString(line), How: line}
		if d.Object == "" {
			d.Object = line
		}
		found[d.Object] = true
		c.finds(d.Object)
		c.Log.Error("object is damaged", "organization", c.u.OrgID, "object", d.Object, "error", line)
		if c.told[d.Object] {
			continue // what it lost is worse, and not told yet
		}
		if err := c.Store.NoteDamage(ctx, d); err != nil {
			return err
		}
	}
	// Commits and the log are read whole in every check; packs only at times.
	for _, d := range known {
		if kind := objectKind(d.Object); (kind == 'c' || kind == 'g') && !found[d.Object] && !c.told[d.Object] {
			c.whole = append(c.whole, d.Object)
		}
	}
	if _, err := c.Store.MendDamage(ctx, c.u.OrgID, c.whole...); err != nil {
		return err
	}
	if len(c.broken) == 0 && len(c.whole) == 0 {
		return nil
	}
	return c.nameItems(ctx, known)
}

// objectKind is d, m, c or g for a key of the repository, and 0 for a message.
func objectKind(object string) byte {
	if name := objectName.FindString(object); name != "" {
		for i, slashes := 0, 0; i < len(name); i++ {
			if name[i] == '/' {
				if slashes++; slashes == 2 {
					return name[i+1]
				}
			}
		}
	}
	return 0
}

// nameItems restores the messages that need a broken pack, and those that were
// damaged before, to nowhere: so that those that are damaged are known by name.
func (c *checking) nameItems(ctx context.Context, known []backup.Damage) error {
	suspect := map[string]bool{}
	for _, d := range known {
		suspect[d.Object] = d.Record > 0
	}
	return c.eachRecord(ctx, func(mailbox backup.MailboxID, r engine.Record) error {
		touches, err := c.reader.Touches(ctx, c.u.OrgID, mailbox, r, c.broken)
		if err != nil || !touches && !suspect[itemObject(mailbox, r.ID())] {
			return err
		}
		return c.compare(ctx, mailbox, r)
	})
}

// compare restores one message to nowhere and keeps whether it is damaged.
func (t *task) compare(ctx context.Context, mailbox backup.MailboxID, r engine.Record) error {
	counted, size := t.u.Counted, t.u.Bytes
	was := t.u.MailboxID
	t.u.MailboxID = mailbox
	err := t.prove(ctx, r.ID())
	t.u.Counted, t.u.Bytes, t.u.MailboxID = counted, size, was // a check counts packs
	return err
}

// eachRecord calls do for the content of every message of every snapshot.
func (t *task) eachRecord(ctx context.Context, do func(backup.MailboxID, engine.Record) error) error {
	mailboxes, err := t.Store.CatalogMailboxes(ctx, t.u.OrgID)
	if err != nil {
		return err
	}
	for _, mailbox := range mailboxes {
		for after := int64(0); ; {
			list, err := t.Store.Records(ctx, t.u.OrgID, mailbox, after, 500)
			if err != nil {
				return err
			}
			if len(list) == 0 {
				break
			}
			for _, r := range list {
				if err := do(mailbox, r); err != nil {
					return err
				}
				if err := t.progress(ctx, t.u.Done, t.u.Total); err != nil {
					return err
				}
			}
			after = list[len(list)-1].Number
		}
	}
	return nil
}
