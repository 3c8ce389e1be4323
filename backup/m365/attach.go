package m365

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	abs "github.com/microsoft/kiota-abstractions-go"

	"holdfast/backup"
	"holdfast/backup/engine"
)

// attach adds the attachments that did not fit, reading the text once more, and
// then takes the mark of the unfinished away.
func (t *Target) attach(ctx context.Context, id string, m engine.Restored, later []attached) error {
	for len(later) > 0 {
		if later[0].leaf == 0 { // the whole message
			r := m.Open(ctx)
			err := t.add(ctx, id, later[0], r)
			_ = r.Close() // it was read
			if err != nil {
				return err
			}
			later = later[1:]
			continue
		}
		source := &remember{r: m.Open(ctx)}
		_, err := walkLeaves(source, func(p leaf) error {
			if len(later) == 0 || p.n != later[0].leaf {
				return nil
			}
			f := later[0]
			later = later[1:]
			return t.add(ctx, id, f, p.body)
		})
		_ = source.r.Close() // what was needed of it was read
		if err != nil {
			return err
		}
	}
	body, err := json.Marshal(map[string]any{"singleValueExtendedProperties": []extendedProperty{{markID, mark(m)}}})
	if err != nil {
		return backup.AsProblem(err)
	}
	r, err := t.app.json(ctx, request{method: abs.PATCH, path: t.message(id), mailbox: t.user, prefer: immutable, body: body}, &struct{}{})
	return itemError(r, err)
}

// smallFile is what is attached in one call (graph-backup.md, 2.5).
const smallFile = 3 << 20

// add attaches one file.
func (t *Target) add(ctx context.Context, id string, f attached, body io.Reader) error {
	if f.size >= smallFile {
		return t.upload(ctx, id, f, body)
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	f.data = data
	call, err := json.Marshal(f.graph())
	if err != nil {
		return backup.AsProblem(err)
	}
	r, err := t.once(ctx, request{method: abs.POST, path: t.message(id) + "/attachments", body: call}, nil)
	return itemError(r, err)
}

// chunk is the size of a piece of an upload: a multiple of 320 KiB below 4 MB.
const chunk = 12 * 320 << 10

// upload attaches a large file piece by piece. The session's address has its own
// token; Holdfast's is not sent there.
func (t *Target) upload(ctx context.Context, id string, f attached, body io.Reader) error {
	item := map[string]any{"attachmentType": "file", "name": f.name, "contentType": f.mediaType, "size": f.size, "isInline": f.inline}
	if f.contentID != "" {
		item["contentId"] = f.contentID
	}
	call, err := json.Marshal(map[string]any{"AttachmentItem": item})
	if err != nil {
		return backup.AsProblem(err)
	}
	var session struct {
		Address string `json:"uploadUrl"`
	}
	if r, err := t.once(ctx, request{method: abs.POST, path: t.message(id) + "/attachments/createUploadSession", body: call}, &session); err != nil {
		return itemError(r, err)
	}
	if !t.uploadsTo(session.Address) {
		return closed(nil, silenceProblem(fmt.Errorf("upload session: %w", errForeignHost)))
	}
	piece := make([]byte, chunk)
	for at := int64(0); at < f.size; {
		n, err := io.ReadFull(body, piece[:min(chunk, f.size-at)])
		if err != nil {
			return fmt.Errorf("attachment %s: %w", f.name, err)
		}
		if err := t.put(ctx, session.Address, piece[:n], at, f.size); err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}

// uploadsTo says whether an address is one of Exchange's.
func (t *Target) uploadsTo(address string) bool {
	return under(address, t.app.client.exchange) || t.app.client.exchange == DefaultExchangeURL && under(address, "https://outlook.office.com")
}

// put sends one piece. What is sent twice, because its answer was lost, is
// refused; then the message is restored at the next try.
func (t *Target) put(ctx context.Context, address string, piece []byte, at, size int64) error {
	var refused answer
	ctx = withCall(ctx, call{key: t.app.id + "/" + t.user, parallel: MailboxCalls, answer: &refused})
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, address, bytes.NewReader(piece))
	if err != nil {
		return closed(nil, silenceProblem(err))
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", at, at+int64(len(piece))-1, size))
	res, err := t.app.client.http.Do(req)
	if err != nil {
		return closed(nil, silenceProblem(err))
	}
	_, _ = io.Copy(io.Discard, res.Body) // its status says it all
	_ = res.Body.Close()
	if refused.status != 0 {
		r := parseGraph(&refused)
		err := fmt.Errorf("upload: status %d %s", r.status, r.code)
		p := itemError(&r, err)
		if one, ok := errors.AsType[*backup.Problem](p); ok {
			one.Kind, one.Text = backup.ProblemItems, "A large attachment could not be uploaded: Microsoft answered "+codeOf(r)+". Select Try again."
		}
		return p
	}
	return nil
}
