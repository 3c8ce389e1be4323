package m365

import (
	"context"
	"fmt"
	"iter"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"holdfast/backup/engine"
)

// messageFields are the fields of a message's state: what lists show, and what
// MIME does not carry. A change of any of them shows in the delta.
const messageFields = "changeKey,parentFolderId,subject,from,toRecipients,receivedDateTime,sentDateTime,createdDateTime,lastModifiedDateTime," +
	"isRead,isDraft,flag,importance,categories,hasAttachments,internetMessageId,conversationId,inferenceClassification"

// A first listing begins with a small page, so that the first messages are read
// while the next page is on its way.
const (
	messagePage      = "odata.maxpagesize=500, " + immutable
	firstMessagePage = "odata.maxpagesize=50, " + immutable
)

// message is a message as the delta tells it.
type message struct {
	Removed    jsontext.Value `json:"@removed"`
	ID         string         `json:"id"`
	ChangeKey  string         `json:"changeKey"`
	Parent     string         `json:"parentFolderId"`
	Subject    string         `json:"subject"`
	From       *recipient     `json:"from"`
	To         []recipient    `json:"toRecipients"`
	Received   string         `json:"receivedDateTime"`
	Sent       string         `json:"sentDateTime"`
	Read       bool           `json:"isRead"`
	Draft      bool           `json:"isDraft"`
	Attached   bool           `json:"hasAttachments"`
	Importance string         `json:"importance"`
	Categories []string       `json:"categories"`
	MessageID  string         `json:"internetMessageId"`
	Flag       struct {
		Status string `json:"flagStatus"`
	} `json:"flag"`
}

type recipient struct {
	Address struct {
		Name    string `json:"name"`
		Address string `json:"address"`
	} `json:"emailAddress"`
}

func (r recipient) String() string {
	name, address := r.Address.Name, r.Address.Address
	switch {
	case address == "" || strings.EqualFold(name, address):
		return name
	case name == "":
		return address
	}
	return name + " <" + address + ">"
}

// Changes implements engine.Source: what changed in one folder since cursor, or
// all of it. Items may come more than once; the last time counts. The cursor on
// the last page is "" for a folder that Graph keeps no track of: it is listed
// anew each time.
func (m *Mailbox) Changes(ctx context.Context, folderID, cursor string) iter.Seq2[engine.Page, error] {
	return func(yield func(engine.Page, error) bool) {
		base := m.path + "/mailFolders/" + url.PathEscape(folderID) + "/messages"
		path := base + "/delta?$select=" + messageFields
		if cursor != "" {
			path = m.app.absolute(cursor)
		}
		listing, prefer := false, messagePage
		if cursor == "" {
			prefer = firstMessagePage
		}
		var pages pager
		for path != "" {
			page, r, err := m.messages(ctx, path, prefer)
			if r != nil && cursor == "" && !listing && noTracking(*r) {
				listing = true
				path = base + "?$select=" + messageFields
				continue
			}
			if r != nil {
				err = m.deltaError(*r, err, cursor)
			}
			if err == nil {
				page.out.Full = cursor == ""
				if path = page.next; path == "" && !listing {
					page.out.Cursor, err = m.app.relative(page.delta)
				} else {
					err = pages.next(path)
				}
			}
			if err != nil {
				yield(engine.Page{}, err)
				return
			}
			if !yield(page.out, nil) {
				return
			}
			prefer = messagePage
		}
	}
}

// messagesPage is one page of a delta or a list.
type messagesPage struct {
	out         engine.Page
	next, delta string
}

func (m *Mailbox) messages(ctx context.Context, path, prefer string) (messagesPage, *refusal, error) {
	var page struct {
		Value []jsontext.Value `json:"value"`
		Next  string           `json:"@odata.nextLink"`
		Delta string           `json:"@odata.deltaLink"`
	}
	if r, err := m.app.json(ctx, m.get(path, prefer), &page); err != nil {
		return messagesPage{}, r, err
	}
	out := messagesPage{next: page.Next, delta: page.Delta}
	var partial []string
	for _, raw := range page.Value {
		var one message
		if err := decode(raw, &one); err != nil || one.ID == "" {
			return out, nil, garbage("message list", fmt.Errorf("item without id: %w", err))
		}
		switch {
		case one.Removed != nil:
			out.out.Removed = append(out.out.Removed, one.ID)
		case one.ChangeKey == "" || one.Parent == "":
			partial = append(partial, one.ID) // a delta may tell only what changed
		default:
			out.out.Items = append(out.out.Items, one.state(raw))
		}
	}
	whole, err := m.whole(ctx, partial)
	out.out.Items = append(out.out.Items, whole...)
	return out, nil, err
}

// whole reads the state of messages of which a delta told only a part. Those that
// are gone meanwhile are left out; the next delta says so.
func (m *Mailbox) whole(ctx context.Context, ids []string) ([]engine.ItemState, error) {
	parts := make([]*batchPart, len(ids))
	for i, id := range ids {
		parts[i] = &batchPart{path: m.path + "/messages/" + url.PathEscape(id) + "?$select=" + messageFields, prefer: immutable}
	}
	if err := m.app.batch(ctx, m.user, parts); err != nil {
		return nil, err
	}
	var items []engine.ItemState
	for _, part := range parts {
		var one message
		switch r := parseGraph(&part.answer); {
		case part.status == 404 && r.has("ErrorItemNotFound", "itemNotFound"):
			continue
		case part.status >= 300:
			return nil, mailboxProblem(r, fmt.Errorf("%s: status %d %s", part.path, r.status, r.code))
		}
		if err := decode(part.body, &one); err != nil || one.ID == "" {
			return nil, garbage("message", fmt.Errorf("without id: %w", err))
		}
		items = append(items, one.state(part.body))
	}
	return items, nil
}

// state turns a message into what the engine keeps.
func (m message) state(raw []byte) engine.ItemState {
	s := engine.ItemState{
		ID: m.ID, Version: m.ChangeKey, FolderID: m.Parent, Subject: m.Subject,
		Received: instant(m.Received), Sent: instant(m.Sent),
		Read: m.Read, Draft: m.Draft, Flagged: m.Flag.Status == "flagged", HasAttachments: m.Attached,
		Importance: strings.ToLower(m.Importance), Categories: m.Categories, InternetMessageID: m.MessageID, Properties: raw,
	}
	if m.From != nil {
		s.From = m.From.String()
	}
	to := make([]string, len(m.To))
	for i, r := range m.To {
		to[i] = r.String()
	}
	s.To = strings.Join(to, ", ")
	return s
}

// instant reads a time of Graph; one that can't be read is the zero time, since a
// message is worth keeping without it.
func instant(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

// noTracking: Graph keeps no delta for this folder, or cannot because the mailbox
// is full.
func noTracking(r refusal) bool {
	return r.has("ErrorQuotaExceeded") || r.says("Parameter 'DeltaToken' not supported", "Change tracking is not supported")
}

// deltaError reads the refusal of a delta. What needs a new listing wraps
// engine.ErrCursorExpired, a folder that is gone engine.ErrItemGone.
func (m *Mailbox) deltaError(r refusal, cause error, cursor string) error {
	switch {
	case cursor != "" && (r.status == 410 || r.has("SyncStateNotFound", "SyncStateInvalid", "ResyncRequired", "resyncChangesApplyDifferences", "resyncChangesUploadDifferences") || noTracking(r)):
		return fmt.Errorf("%w: %w", engine.ErrCursorExpired, mailboxProblem(r, cause))
	case r.has("ErrorSyncFolderNotFound", "ErrorFolderNotFound", "ErrorItemNotFound", "itemNotFound"):
		return fmt.Errorf("folder: %w: %w", engine.ErrItemGone, mailboxProblem(r, cause))
	}
	return mailboxProblem(r, cause)
}
