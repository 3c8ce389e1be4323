package m365

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/mail"
	"net/url"
	"strings"

	abs "github.com/microsoft/kiota-abstractions-go"

	"holdfast/backup"
	"holdfast/backup/engine"
)

// graphRecipient is a recipient as Graph takes it.
type graphRecipient struct {
	Address struct {
		Name    string `json:"name,omitempty"`
		Address string `json:"address,omitempty"`
	} `json:"emailAddress"`
}

func newRecipient(name, address string) graphRecipient {
	var r graphRecipient
	r.Address.Name, r.Address.Address = strings.ToValidUTF8(name, "\uFFFD"), strings.ToValidUTF8(address, "\uFFFD")
	return r
}

// usable says whether the address is one that Graph can't refuse.
func (r graphRecipient) usable() bool {
	if strings.HasPrefix(strings.ToLower(r.Address.Address), "/o=") {
		return true // within an Exchange organization
	}
	a, err := mail.ParseAddress(r.Address.Address)
	return err == nil && a.Address == r.Address.Address
}

// graphFile is a fileAttachment.
type graphFile struct {
	Type        string `json:"@odata.type"`
	Name        string `json:"name"`
	ContentType string `json:"contentType,omitempty"`
	Content     string `json:"contentBytes"`
	ContentID   string `json:"contentId,omitempty"`
	Inline      bool   `json:"isInline"`
}

func (f attached) graph() graphFile {
	return graphFile{Type: "#microsoft.graph.fileAttachment", Name: f.name, ContentType: f.mediaType, ContentID: f.contentID, Inline: f.inline,
		Content: base64.StdEncoding.EncodeToString(f.data)}
}

type extendedProperty struct {
	ID    string `json:"id"`
	Value string `json:"value"`
}

// graphMessage is the body of the call that creates a message.
type graphMessage struct {
	Subject     string             `json:"subject"`
	Body        map[string]string  `json:"body"`
	From        *graphRecipient    `json:"from,omitempty"`
	Sender      *graphRecipient    `json:"sender,omitempty"`
	To          []graphRecipient   `json:"toRecipients,omitempty"`
	Cc          []graphRecipient   `json:"ccRecipients,omitempty"`
	Bcc         []graphRecipient   `json:"bccRecipients,omitempty"`
	ReplyTo     []graphRecipient   `json:"replyTo,omitempty"`
	Importance  string             `json:"importance,omitempty"`
	Read        bool               `json:"isRead"`
	Categories  []string           `json:"categories,omitempty"`
	Flag        json.RawMessage    `json:"flag,omitempty"`
	MessageID   string             `json:"internetMessageId,omitempty"`
	Attachments []graphFile        `json:"attachments,omitempty"`
	Properties  []extendedProperty `json:"singleValueExtendedProperties"`
}

// Bits of PidTagMessageFlags ([MS-OXCMSG] 2.2.1.6). Without messageUnsent the
// message is no draft.
const (
	messageRead   = 0x1
	messageUnsent = 0x8
	messageFromMe = 0x20
)

// compose makes the creating call of a message.
func compose(m engine.Restored, l letter) (graphMessage, []string) {
	notes := l.notes
	kind, text := l.body()
	g := graphMessage{Subject: strings.ToValidUTF8(m.Subject, "\uFFFD"), Body: map[string]string{"contentType": kind, "content": text},
		Importance: m.Importance, Read: m.Read, Categories: m.Categories, MessageID: m.InternetMessageID}
	var known struct { // what Graph said when it was backed up
		From *graphRecipient  `json:"from"`
		To   []graphRecipient `json:"toRecipients"`
		Flag json.RawMessage  `json:"flag"`
	}
	_ = json.Unmarshal(m.Properties, &known) // of another provider: the text says it
	for _, f := range []struct {
		name string
		to   *[]graphRecipient
	}{{"To", &g.To}, {"Cc", &g.Cc}, {"Bcc", &g.Bcc}, {"Reply-To", &g.ReplyTo}} {
		list, ok := l.addresses(f.name)
		if *f.to = list; !ok && (f.name != "To" || known.To == nil) {
			notes = append(notes, "The line "+f.name+" could not be read as addresses, so it is left out.")
		}
	}
	g.From = known.From
	if from, _ := l.addresses("From"); g.From == nil && len(from) > 0 {
		g.From = &from[0]
	}
	if sender, _ := l.addresses("Sender"); len(sender) > 0 {
		g.Sender = &sender[0]
	}
	if known.To != nil {
		g.To = known.To
	}
	if g.Flag = known.Flag; len(g.Flag) == 0 && m.Flagged {
		g.Flag = json.RawMessage(`{"flagStatus":"flagged"}`)
	}
	flags := 0
	for bit, set := range map[int]bool{messageRead: m.Read, messageUnsent: m.Draft, messageFromMe: m.FromMe} {
		if set {
			flags |= bit
		}
	}
	g.Properties = []extendedProperty{{"Integer 0x0E07", fmt.Sprint(flags)}}
	if !m.Sent.IsZero() {
		g.Properties = append(g.Properties, extendedProperty{"SystemTime 0x0039", m.Sent.UTC().Format(timeLayout)})
	}
	if !m.Received.IsZero() {
		g.Properties = append(g.Properties, extendedProperty{"SystemTime 0x0E06", m.Received.UTC().Format(timeLayout)})
	}
	return g, notes
}

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

// strict leaves out addresses that Graph may refuse.
func (g *graphMessage) strict() {
	for _, list := range []*[]graphRecipient{&g.To, &g.Cc, &g.Bcc, &g.ReplyTo} {
		var kept []graphRecipient
		for _, r := range *list {
			if r.usable() {
				kept = append(kept, r)
			}
		}
		*list = kept
	}
	for _, one := range []**graphRecipient{&g.From, &g.Sender} {
		if *one != nil && !(*one).usable() {
			*one = nil
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
