package m365

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"

	abs "github.com/microsoft/kiota-abstractions-go"

	"holdfast/backup"
	"holdfast/backup/engine"
)

// markID is the property by which a restored message is found again.
const markID = "String {6f1e2a7c-93d4-4b8e-a0c5-2d7b5e8f4a11} Name HoldfastRestore"

// unfinishedMark ends the mark of a message whose attachments are not all there.
const unfinishedMark = ".unfinished"

// Target is a mailbox that messages are restored to; it implements engine.Target.
// Messages are created as JSON, since one that is created as MIME is a draft for
// ever (https://learn.microsoft.com/graph/api/user-post-messages).
type Target struct {
	*Mailbox

	mu      sync.Mutex
	folders map[string][]folder // children by parent
	begun   map[string]string   // key of an unfinished message to its id
}

var _ engine.Target = (*Target)(nil)

// Target returns the mailbox of a user to restore to. It does not connect.
func (a *App) Target(userID string) *Target {
	return &Target{Mailbox: a.Mailbox(userID), folders: map[string][]folder{}, begun: map[string]string{}}
}

// mark is the value of the property of markID.
func mark(m engine.Restored) string { return m.Key + "." + string(m.Restore) }

// closed reads a refusal that concerns more than one message.
func closed(r *refusal, err error) error {
	if r != nil {
		err = writeProblem(*r, err)
	}
	p, ok := errors.AsType[*backup.Problem](err)
	if !ok {
		return err
	}
	return fmt.Errorf("%w: %w", engine.ErrTargetClosed, p)
}

// WellKnown implements engine.Target.
func (t *Target) WellKnown(ctx context.Context, name string) (string, error) {
	var f folder
	r, err := t.app.json(ctx, t.get(t.path+"/mailFolders/"+url.PathEscape(name)+"?$select="+folderFields, immutable), &f)
	switch {
	case r != nil && r.status == http.StatusNotFound && r.has("ErrorItemNotFound", "ErrorFolderNotFound", "itemNotFound"):
		return "", engine.ErrNoSuchFolder
	case err != nil:
		return "", closed(r, err)
	case f.ID == "":
		return "", closed(nil, garbage("folder", errors.New("no id")))
	}
	return f.ID, nil
}

// Folder implements engine.Target.
func (t *Target) Folder(ctx context.Context, parent, name string) (string, error) {
	if parent == "" {
		parent = "msgfolderroot"
	}
	list, known := t.folders[parent]
	if !known {
		var err error
		if list, err = t.list(ctx, parent); err != nil {
			return "", err
		}
	}
	if id := named(list, name); id != "" {
		t.folders[parent] = list
		return id, nil
	}
	made, err := t.makeFolder(ctx, parent, name)
	if err != nil {
		return "", err
	}
	t.folders[parent] = append(list, made)
	return made.ID, nil
}

// named finds a folder by its name: exactly so, or else without regard to case,
// since Exchange takes no two that differ by case only.
func named(list []folder, name string) string {
	found := ""
	for _, f := range list {
		if text(f.Name) == name {
			return f.ID
		}
		if found == "" && strings.EqualFold(text(f.Name), name) {
			found = f.ID
		}
	}
	return found
}

func (t *Target) list(ctx context.Context, parent string) ([]folder, error) {
	var list []folder
	path := t.path + "/mailFolders/" + url.PathEscape(parent) + "/childFolders?includeHiddenFolders=true&$top=250&$select=" + folderFields
	for path != "" {
		var page folderPage
		if r, err := t.app.json(ctx, t.get(path, immutable), &page); err != nil {
			return nil, closed(r, err)
		}
		list, path = append(list, page.Value...), page.Next
	}
	return list, nil
}

func (t *Target) makeFolder(ctx context.Context, parent, name string) (folder, error) {
	body, err := json.Marshal(map[string]any{"displayName": name})
	if err != nil {
		return folder{}, backup.AsProblem(err)
	}
	for try := 0; ; try++ {
		var f folder
		r, err := t.once(ctx, request{method: abs.POST, path: t.path + "/mailFolders/" + url.PathEscape(parent) + "/childFolders", body: body}, &f)
		if err == nil {
			return f, nil
		}
		doubt := r == nil || r.status >= http.StatusInternalServerError && r.status != http.StatusInsufficientStorage
		if !doubt && !r.has("ErrorFolderExists") || ctx.Err() != nil || try == 3 {
			return folder{}, closed(r, err)
		}
		// It may have been made all the same.
		list, listErr := t.list(ctx, parent)
		if listErr != nil {
			return folder{}, listErr
		}
		if id := named(list, name); id != "" {
			return folder{ID: id, Name: &name}, nil
		}
		if err := sleep(ctx, backoff(try)); err != nil {
			return folder{}, err
		}
	}
}

// once sends a request of the mailbox that must not be repeated without looking
// at what it did, and decodes the answer, if into is not nil.
func (t *Target) once(ctx context.Context, r request, into any) (*refusal, error) {
	r.mailbox, r.prefer, r.once = t.user, immutable, true
	res, refused, err := t.app.send(ctx, r)
	if err != nil {
		return refused, err
	}
	defer res.Body.Close()
	if into == nil {
		return nil, nil
	}
	if err := json.NewDecoder(res.Body).Decode(into); err != nil {
		return nil, silenceProblem(fmt.Errorf("%s %s: %w", r.method, r.path, err))
	}
	return nil, nil
}

// placed is a message as Present reads it.
type placed struct {
	ID         string `json:"id"`
	MessageID  string `json:"internetMessageId"`
	Received   string `json:"receivedDateTime"`
	Properties []struct {
		Value string `json:"value"`
	} `json:"singleValueExtendedProperties"`
}

// Present implements engine.Target. A message is there if it carries the mark of
// an earlier restore, if it is the one that was backed up, which was never
// deleted, or if it has the same message id and came in the same second.
func (t *Target) Present(ctx context.Context, folderID string) (func(engine.Restored) engine.Presence, error) {
	marks, ids, arrived := map[string][]string{}, map[string]bool{}, map[string]bool{}
	path := t.path + "/mailFolders/" + url.PathEscape(folderID) + "/messages?$select=internetMessageId,receivedDateTime&$expand=" +
		url.QueryEscape("singleValueExtendedProperties($filter=id eq '"+markID+"')")
	var pages pager
	for path != "" {
		var page struct {
			Value []placed `json:"value"`
			Next  string   `json:"@odata.nextLink"`
		}
		if r, err := t.app.json(ctx, t.get(path, "odata.maxpagesize=1000, "+immutable), &page); err != nil {
			return nil, closed(r, err)
		}
		for _, m := range page.Value {
			ids[m.ID] = true
			if len(m.Properties) == 0 {
				arrived[m.MessageID+" "+second(m.Received)] = true
				continue
			}
			key, restore, unfinished := splitMark(m.Properties[0].Value)
			if unfinished {
				t.begun[key] = m.ID
				continue
			}
			marks[key] = append(marks[key], restore)
		}
		if err := pages.next(page.Next); err != nil {
			return nil, closed(nil, err)
		}
		path = page.Next
	}
	return func(m engine.Restored) engine.Presence {
		t.mu.Lock()
		begun := t.begun[m.Key] != ""
		t.mu.Unlock()
		for _, restore := range marks[m.Key] {
			if restore == string(m.Restore) {
				return engine.Mine
			}
		}
		switch {
		case begun:
			return engine.Unfinished
		case len(marks[m.Key]) > 0, ids[m.ID], m.InternetMessageID != "" && !m.Received.IsZero() && arrived[m.InternetMessageID+" "+second(m.Received.Format(timeLayout))]:
			return engine.There
		}
		return engine.Absent
	}, nil
}

// splitMark reads a mark.
func splitMark(value string) (key, restore string, unfinished bool) {
	value, unfinished = strings.CutSuffix(value, unfinishedMark)
	i := strings.LastIndexByte(value, '.')
	if i < 0 {
		return value, "", unfinished
	}
	return value[:i], value[i+1:], unfinished
}

// timeLayout is how Graph writes times; second cuts one to the whole second.
const timeLayout = "2006-01-02T15:04:05Z"

func second(at string) string { return at[:min(len(at), len("2006-01-02T15:04:05"))] }

// writeMeanings are Graph's codes for creating messages.
var writeMeanings = map[string]meaning{
	"errorquotaexceeded": {backup.ProblemMailboxFull,
		"The mailbox is full, so Microsoft takes no more messages. Delete some there, or raise its quota, and select Try again; what was restored already is not restored twice.", false},
	"quotaexceeded": {backup.ProblemMailboxFull,
		"The mailbox is full, so Microsoft takes no more messages. Delete some there, or raise its quota, and select Try again; what was restored already is not restored twice.", false},
	"erroraccessdenied": {backup.ProblemPermission,
		"Microsoft refuses to write into this mailbox: the restore permission was withdrawn or is not in effect yet, or a policy of the tenant excludes the mailbox. Select Try again in a while.", true},
}

// writeProblem reads a refusal of a call that writes.
func writeProblem(r refusal, cause error) *backup.Problem {
	if m, ok := r.lookup(writeMeanings); ok {
		return r.problem(m, cause)
	}
	return mailboxProblem(r, cause)
}
