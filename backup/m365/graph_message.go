package m365

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/mail"
	"strings"

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
