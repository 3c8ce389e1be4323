package m365

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	abs "github.com/microsoft/kiota-abstractions-go"

	"holdfast/backup"
	"holdfast/backup/engine"
)

// Create implements engine.Target. What fits goes into the creating call; larger
// attachments follow, and until they are there the message is marked as
// unfinished.
func (t *Target) Create(ctx context.Context, folderID string, m engine.Restored) ([]string, error) {
	if err := t.dropUnfinished(ctx, m); err != nil {
		return nil, err
	}
	l, err := t.read(ctx, m)
	if err != nil {
		return nil, err
	}
	g, notes := compose(m, l)
	var later []attached
	for _, f := range l.files {
		switch {
		case f.data != nil:
			g.Attachments = append(g.Attachments, f.graph())
		case f.size > maxFile:
			notes = append(notes, fmt.Sprintf("The attachment %s of %d MB is left out: Microsoft takes 150 MB at most.", f.name, f.size>>20))
		default:
			later = append(later, f)
		}
	}
	value := mark(m)
	if len(later) > 0 {
		value += unfinishedMark
	}
	g.Properties = append(g.Properties, extendedProperty{markID, value})
	id, more, err := t.post(ctx, folderID, g, value)
	if err != nil || len(later) == 0 {
		return append(notes, more...), err
	}
	if err := t.attach(ctx, id, m, later); err != nil {
		// Whole or not at all; the context may be over, and then the next try does it.
		_, _ = t.once(context.WithoutCancel(ctx), request{method: abs.DELETE, path: t.message(id)}, nil)
		return nil, err
	}
	return append(notes, more...), nil
}

func (t *Target) message(id string) string { return t.path + "/messages/" + url.PathEscape(id) }

// dropUnfinished removes what an interrupted try has left of a message.
func (t *Target) dropUnfinished(ctx context.Context, m engine.Restored) error {
	t.mu.Lock()
	id := t.begun[m.Key]
	delete(t.begun, m.Key)
	t.mu.Unlock()
	if id == "" {
		return nil
	}
	r, err := t.once(ctx, request{method: abs.DELETE, path: t.message(id)}, nil)
	if r != nil && r.status == http.StatusNotFound {
		return nil
	}
	return itemError(r, err)
}

// read takes the text of a message apart. One that is not well formed is attached
// as it is.
func (t *Target) read(ctx context.Context, m engine.Restored) (letter, error) {
	source := &remember{r: m.Open(ctx)}
	defer source.r.Close()
	l, err := readLetter(source)
	if source.err != nil {
		return l, source.err
	}
	if err == nil {
		_, err = io.Copy(io.Discard, source) // what follows the last part, and the check of the whole
		return l, err
	}
	l.pieces = []piece{{text: "This message is not well formed. It is attached as it was kept."}}
	l.notes = []string{"The message is not well formed, so it is attached as it was kept, as message.eml."}
	l.files, l.room = nil, filesRoom
	whole := attached{name: "message.eml", mediaType: "message/rfc822", size: m.Bytes}
	if m.Bytes <= filesRoom {
		again := m.Open(ctx)
		defer again.Close()
		if whole.data, err = io.ReadAll(again); err != nil {
			return l, err
		}
	}
	l.files = []attached{whole}
	return l, nil
}

// remember tells errors of a text from those of the stream that it comes in.
type remember struct {
	r   io.ReadCloser
	err error
}

func (s *remember) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// postTries is how often a message is created whose creation failed without a
// reason.
const postTries = 4

// post creates a message. If no answer came, it is looked for by its mark before
// it is created again.
func (t *Target) post(ctx context.Context, folderID string, g graphMessage, value string) (id string, notes []string, err error) {
	path := t.path + "/mailFolders/" + url.PathEscape(folderID) + "/messages"
	strict := false
	for try := 0; ; try++ {
		body, err := json.Marshal(g)
		if err != nil {
			return "", notes, backup.AsProblem(err)
		}
		var made struct {
			ID string `json:"id"`
		}
		r, err := t.once(ctx, request{method: abs.POST, path: path, body: body}, &made)
		switch {
		case err == nil && made.ID != "":
			return made.ID, notes, nil
		case ctx.Err() != nil:
			return "", notes, ctx.Err()
		case r != nil && r.has("ErrorInvalidRecipients") && !strict:
			strict = true
			g.strict()
			notes = append(notes, "Microsoft refuses an address of this message, so addresses that are not complete are left out.")
			continue
		case r != nil && (r.status < http.StatusInternalServerError || r.status == http.StatusInsufficientStorage):
			return "", notes, itemError(r, err)
		}
		found, findErr := t.find(ctx, path, value)
		if findErr != nil || found != "" {
			return found, notes, findErr
		}
		if try+1 == postTries {
			return "", notes, itemError(r, err)
		}
		if err := sleep(ctx, backoff(try)); err != nil {
			return "", notes, err
		}
	}
}

// find looks for a message by its mark.
func (t *Target) find(ctx context.Context, path, value string) (string, error) {
	filter := fmt.Sprintf("singleValueExtendedProperties/Any(ep: ep/id eq '%s' and ep/value eq '%s')", markID, strings.ReplaceAll(value, "'", "''"))
	var page struct {
		Value []placed `json:"value"`
	}
	if r, err := t.app.json(ctx, t.get(path+"?$select=internetMessageId&$filter="+url.QueryEscape(filter), immutable), &page); err != nil {
		return "", closed(r, err)
	}
	if len(page.Value) == 0 {
		return "", nil
	}
	return page.Value[0].ID, nil
}

// itemError tells what concerns one message from what concerns them all.
func itemError(r *refusal, err error) error {
	if r == nil {
		if err == nil {
			return nil
		}
		return closed(nil, silenceProblem(err))
	}
	p := writeProblem(*r, err)
	switch {
	case r.status == http.StatusRequestEntityTooLarge || r.has("ErrorMessageSizeExceeded"):
		p.Kind, p.Text, p.Temporary = backup.ProblemItems, "The message is larger than this mailbox, or Microsoft, takes.", false
	case r.status == http.StatusInternalServerError, p.Kind == backup.ProblemUnknown:
		p.Kind, p.Text, p.Temporary = backup.ProblemItems, "Microsoft refuses this message ("+codeOf(*r)+").", false
	case p.Kind != backup.ProblemItems:
		return closed(nil, p)
	default:
		p.Text, p.Temporary = "Microsoft refuses this message ("+codeOf(*r)+").", false
	}
	return p
}

func codeOf(r refusal) string {
	if r.code == "" {
		return fmt.Sprintf("status %d", r.status)
	}
	return r.code
}
