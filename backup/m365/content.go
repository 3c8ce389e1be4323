package m365

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"net/http"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
)

// Content implements engine.Source: the message as MIME, streamed. Exchange makes
// the text at each reading, so a broken transfer is taken up only if the new text
// begins with what was read already.
func (m *Mailbox) Content(ctx context.Context, providerID string) (io.ReadCloser, error) {
	if text, ok := m.ahead.Content(ctx, providerID); ok {
		m.sizes.had(providerID, int64(len(text)))
		return io.NopCloser(bytes.NewReader(text)), nil
	}
	c := &content{ctx: ctx, mailbox: m, id: providerID}
	if err := c.open(); err != nil {
		return nil, err
	}
	return c, nil
}

// contentTries is how often a broken transfer is taken up.
const contentTries = 3

// content is the stream of one message.
type content struct {
	ctx     context.Context
	mailbox *Mailbox
	id      string
	body    io.ReadCloser
	sum     maphash.Hash // of what was read
	read    int64
	tries   int
}

func (c *content) open() error {
	r := c.mailbox.get(c.mailbox.valuePath(c.id), immutable)
	r.accept = "*/*"
	res, refused, err := c.mailbox.app.send(c.ctx, r) //nolint:bodyclose // Close closes it
	if refused != nil {
		return contentError(*refused, err)
	}
	if err != nil {
		return err
	}
	c.body = res.Body
	return nil
}

// contentError reads the refusal of a message.
func contentError(r refusal, cause error) error {
	p := mailboxProblem(r, cause)
	if r.status == http.StatusNotFound && r.has("ErrorItemNotFound", "itemNotFound") {
		return fmt.Errorf("message: %w: %w", engine.ErrItemGone, p)
	}
	return p
}

// Read implements io.Reader. net/http reports a body that is shorter than its
// declared length as io.ErrUnexpectedEOF.
func (c *content) Read(p []byte) (int, error) {
	n, err := c.body.Read(p)
	_, _ = c.sum.Write(p[:n]) // a sum takes all
	c.read += int64(n)
	if errors.Is(err, io.EOF) {
		c.mailbox.sizes.had(c.id, c.read)
		return n, err
	}
	if err == nil {
		return n, nil
	}
	if c.ctx.Err() != nil {
		return n, c.ctx.Err()
	}
	if err := c.resume(err); err != nil {
		return n, err
	}
	return n, nil
}

// resume opens the message again and skips what was read.
func (c *content) resume(cause error) error {
	for c.tries < contentTries {
		c.tries++
		_ = c.body.Close() // broken already
		if err := sleep(c.ctx, backoff(c.tries-1)); err != nil {
			return err
		}
		if err := c.open(); err != nil {
			c.body = http.NoBody
			return err
		}
		var again maphash.Hash
		again.SetSeed(c.sum.Seed())
		_, err := io.CopyN(&again, c.body, c.read)
		switch {
		case err == nil && again.Sum64() == c.sum.Sum64():
			return nil
		case err == nil || errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
			return &backup.Problem{Kind: backup.ProblemItems, Temporary: true, At: time.Now(),
				Err:  fmt.Errorf("message %s differs after a broken transfer: %w", c.id, cause),
				Text: "The transfer of this message broke off, and Microsoft gave a different text the second time. Holdfast tries again at the next run."}
		}
		cause = err
	}
	return silenceProblem(fmt.Errorf("message %s: %w", c.id, cause))
}

// Close implements io.Closer.
func (c *content) Close() error { return c.body.Close() }
