package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"holdfast/backup"
	"holdfast/backup/repo"
)

// Report is what Verify found.
type Report struct {
	Mailboxes int
	Snapshots int
	Items     int // entries of messages, each counted once per version
	Packs     int
	Damaged   []string // what is damaged, by name and how
}

// Verify checks what the repository has of an organization, and that it has what
// the database knows. Without all it
// checks that every pack is there and every snapshot can be listed; with all it
// opens every blob and proves every message of every snapshot: see proof. Prove
// reads one as a restore does. Damage is in the report; the error is for what
// kept the check itself from going on.
func (e *Engine) Verify(ctx context.Context, org backup.OrgID, all bool) (Report, error) {
	return e.verify(ctx, org, all, true)
}

// Check is Verify, only as deep as watch says for each pack and without looking
// into snapshots. It asks the storage for one list of packs instead of each.
func (e *Engine) Check(ctx context.Context, org backup.OrgID, watch repo.Watch) (Report, error) {
	watched, err := e.Repo.Watched(ctx, string(org), watch)
	if err != nil {
		return Report{}, e.problem(ctx, fromRepository(err))
	}
	return (&Engine{Repo: watched, Catalog: e.Catalog, Log: e.Log}).verify(ctx, org, true, false)
}

func (e *Engine) verify(ctx context.Context, org backup.OrgID, all, walk bool) (Report, error) {
	var report Report
	sources, err := e.Repo.Sources(ctx, string(org))
	if err != nil {
		return report, e.problem(ctx, fromRepository(err))
	}
	level := repo.VerifyStructure
	if all {
		level = repo.VerifyBlobs
	}
	if err := e.Repo.VerifyLog(ctx, string(org)); errors.Is(err, repo.ErrDamaged) {
		report.Damaged = append(report.Damaged, err.Error())
	} else if err != nil {
		return report, e.problem(ctx, fromRepository(err))
	}
	gone, err := e.Repo.AllExpired(ctx, string(org))
	if err != nil && !errors.Is(err, repo.ErrDamaged) { // which is in the report
		return report, e.problem(ctx, fromRepository(err))
	}
	erased := map[string]bool{}
	for _, g := range gone {
		if erased[g.Source] = g.Erased; g.Erased && !slices.Contains(sources, g.Source) {
			sources = append(sources, g.Source) // others may share what it brought
		}
	}
	proven := newProof()
	var follow repo.Proof
	if all && walk {
		follow = proven
	}
	found, err := e.Repo.VerifyAll(ctx, string(org), sources, level, follow)
	for i, source := range sources {
		if !erased[source] {
			report.Mailboxes++
		}
		report.add(found[i])
		proven.damaged(found[i].Broken)
	}
	if err != nil {
		return report, e.problem(ctx, fromRepository(err))
	}
	lost, err := e.missingHeads(ctx, org)
	if err != nil {
		return report, err
	}
	for _, l := range lost {
		report.Damaged = append(report.Damaged, l.String())
	}
	if !walk {
		return report, nil
	}
	for _, source := range sources {
		v := verifier{Engine: e, org: org, mailbox: backup.MailboxID(source), all: all, proven: proven, report: &report, seen: map[short]bool{}}
		v.meta = e.blobs(org, v.mailbox)
		if err := v.walk(ctx); err != nil {
			return report, err
		}
	}
	return report, nil
}

// add adds what was found for one source.
func (r *Report) add(found repo.VerifyReport) {
	r.Snapshots += found.Commits
	r.Packs += found.Packs
	r.Damaged = append(r.Damaged, found.Damaged...)
}

// verifier walks through all snapshots of a mailbox, through what they share once.
type verifier struct {
	*Engine
	org     backup.OrgID
	mailbox backup.MailboxID
	all     bool
	proven  *proof
	meta    metadata
	report  *Report
	seen    map[short]bool
}

// note puts damage into the report and returns other errors.
func (v *verifier) note(err error, what string, args ...any) error {
	if errors.Is(err, repo.ErrDamaged) || errors.Is(err, repo.ErrNotExist) {
		v.report.Damaged = append(v.report.Damaged, fmt.Sprintf("mailbox %s, %s: %v", v.mailbox, fmt.Sprintf(what, args...), err))
		return nil
	}
	return err
}

func (v *verifier) first(id repo.MetaID) bool {
	if v.seen[short(id[:])] {
		return false
	}
	v.seen[short(id[:])] = true
	return true
}

func (v *verifier) walk(ctx context.Context) error {
	for c, err := range v.Repo.Commits(ctx, string(v.org), string(v.mailbox), 0) {
		if err != nil {
			continue // in the report already
		}
		var top root
		if err := decode(ctx, v.meta, kindRoot, c.Root, &top); err != nil {
			if err := v.note(err, "snapshot %d", c.Seq); err != nil {
				return err
			}
			continue
		}
		for _, id := range top.Folders {
			if !v.first(id) {
				continue
			}
			n, err := readNode(ctx, v.meta, id)
			if err == nil {
				err = v.folder(ctx, n)
			}
			if err := v.note(err, "snapshot %d, folder %q", c.Seq, n.Name); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

func (v *verifier) folder(ctx context.Context, n node) error {
	for _, p := range n.Pages {
		if !v.first(p.ID) {
			continue
		}
		entries, err := readPage(ctx, v.meta, p)
		if err := v.note(err, "folder %q", n.Name); err != nil {
			return err
		}
		for _, e := range entries {
			if !v.first(e.Record) {
				continue
			}
			v.report.Items++
			proven, err := v.isProven(ctx, e.Record)
			if err != nil {
				return err
			}
			if proven {
				continue
			}
			if err := v.note(v.item(ctx, e.Record), "folder %q, item %d", n.Name, e.Item); err != nil {
				return err
			}
		}
	}
	return nil
}

// isProven says whether a message need not be read. What is proven in one pack may
// be read from another, which is damaged: then it is not.
func (v *verifier) isProven(ctx context.Context, record repo.MetaID) (bool, error) {
	if !v.all {
		return true, nil
	}
	if !v.proven.item(record) {
		return false, nil
	}
	if len(v.proven.broken) == 0 {
		return true, nil
	}
	touches, err := v.Touches(ctx, v.org, v.mailbox, Record{Meta: record}, v.proven.broken)
	return !touches, err
}

// item reads a message that was not proven, which says what is wrong with it. It
// may be whole: what it needs of a damaged pack may be.
func (v *verifier) item(ctx context.Context, id repo.MetaID) error {
	rec, err := readRecord(ctx, v.meta, id)
	if err != nil || rec.Content == nil {
		return err
	}
	if err := v.Repo.ReadContent(ctx, string(v.org), string(v.mailbox), *rec.Content, io.Discard); err != nil {
		return fmt.Errorf("%q: %w", rec.Subject, err)
	}
	return nil
}
