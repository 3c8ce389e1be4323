package engine

import (
	"context"
	"fmt"
	"io"

	"holdfast/backup"
	"holdfast/backup/repo"
)

// blobs reads the metadata of a mailbox, and writes it through write.
type blobs struct {
	repo            *repo.Repository
	tenant, mailbox string
	put             func(ctx context.Context, kind byte, data []byte) (repo.MetaID, error) // nil to read only
}

func (b blobs) read(ctx context.Context, kind byte, id repo.MetaID) ([]byte, error) {
	data, err := b.repo.ReadMeta(ctx, b.tenant, b.mailbox, kind, id)
	if err != nil {
		return nil, fromRepository(fmt.Errorf("metadata %s: %w", id, err))
	}
	return data, nil
}

func (b blobs) write(ctx context.Context, kind byte, data []byte) (repo.MetaID, error) {
	return b.put(ctx, kind, data)
}

func (e *Engine) blobs(org backup.OrgID, mailbox backup.MailboxID) blobs {
	return blobs{repo: e.Repo, tenant: string(org), mailbox: string(mailbox)}
}

// reader reads metadata of the run's mailbox; meta writes it too.
func (r *run) reader() metadata { return r.blobs(r.job.Org, r.job.Mailbox) }

func (r *run) meta() metadata {
	b := r.blobs(r.job.Org, r.job.Mailbox)
	b.put = r.putMeta
	return b
}

// decode reads metadata of a kind into v.
func decode(ctx context.Context, m metadata, kind byte, id repo.MetaID, v any) error {
	data, err := m.read(ctx, kind, id)
	if err != nil {
		return err
	}
	if err := decoding.Unmarshal(data, v); err != nil {
		return fromRepository(fmt.Errorf("metadata %s: %w: %w", id, err, repo.ErrDamaged))
	}
	return nil
}

func readNode(ctx context.Context, m metadata, id repo.MetaID) (node, error) {
	var n node
	return n, decode(ctx, m, kindNode, id, &n)
}

func readRecord(ctx context.Context, m metadata, id repo.MetaID) (*itemRecord, error) {
	var r itemRecord
	if err := decode(ctx, m, kindRecord, id, &r); err != nil {
		return nil, err
	}
	return &r, nil
}

// WriteItem writes the exact bytes of an item to w and checks their hash. An
// item of another organization or mailbox, and one whose content was never
// read, is backup.ErrNotFound. Bytes may have been written before an error is
// found; then it says that the content is damaged.
func (e *Engine) WriteItem(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, item backup.ItemID, w io.Writer) error {
	r, err := e.Catalog.ItemRecord(ctx, org, mailbox, item)
	if err != nil {
		return err
	}
	rec, err := readRecord(ctx, e.blobs(org, mailbox), r.Meta)
	if err != nil {
		return e.problem(ctx, err)
	}
	if rec.Content == nil {
		return fmt.Errorf("content of item %s: %w", item, backup.ErrNotFound)
	}
	out := &sink{w: w}
	err = e.Repo.ReadContent(ctx, string(org), string(mailbox), *rec.Content, out)
	if out.err != nil {
		return out.err
	}
	if err != nil {
		return e.problem(ctx, fromRepository(fmt.Errorf("content of item %s: %w", item, err)))
	}
	return nil
}

// sink tells errors of the reader of a content from those of the repository.
type sink struct {
	w   io.Writer
	err error
}

// Write implements io.Writer.
func (s *sink) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err != nil {
		s.err = err
	}
	return n, err
}
