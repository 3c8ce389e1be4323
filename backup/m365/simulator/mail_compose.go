package simulator

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// newMessage is the body of a POST or PATCH of a message.
type newMessage struct {
	Subject    *string                                `json:"subject"`
	Body       *struct{ ContentType, Content string } `json:"body"`
	From       *graphRecipient                        `json:"from"`
	Sender     *graphRecipient                        `json:"sender"`
	To         []graphRecipient                       `json:"toRecipients"`
	Cc         []graphRecipient                       `json:"ccRecipients"`
	Bcc        []graphRecipient                       `json:"bccRecipients"`
	ReplyTo    []graphRecipient                       `json:"replyTo"`
	Importance string                                 `json:"importance"`
	IsRead     *bool                                  `json:"isRead"`
	Categories []string                               `json:"categories"`
	Flag       *struct {
		FlagStatus                                    string
		DueDateTime, StartDateTime, CompletedDateTime json.RawMessage
	} `json:"flag"`
	MessageID   string                         `json:"internetMessageId"`
	Headers     []struct{ Name, Value string } `json:"internetMessageHeaders"`
	Attachments []newAttachment                `json:"attachments"`
	Properties  []struct{ ID, Value string }   `json:"singleValueExtendedProperties"`
}

type graphRecipient struct {
	EmailAddress struct{ Name, Address string } `json:"emailAddress"`
}

func (r graphRecipient) address() address {
	return address{Name: r.EmailAddress.Name, Address: r.EmailAddress.Address}
}

// newAttachment is a fileAttachment, the only kind that is taken here.
type newAttachment struct {
	Type        string  `json:"@odata.type"`
	Name        *string `json:"name"`
	ContentType string  `json:"contentType"`
	Content     string  `json:"contentBytes"`
	ContentID   *string `json:"contentId"`
	Inline      bool    `json:"isInline"`
}

// decodeMessage reads a message and refuses what Graph does not take: properties
// of other names, and those that only Exchange sets.
func (s *Simulator) decodeMessage(w *answer, r *http.Request, in *newMessage) bool {
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		// MIME is taken at /messages only (graph-backup.md 2.6), which is not simulated.
		s.graphError(w, http.StatusUnsupportedMediaType, "RequestBroker--ParseUri", "The media type is not supported here.")
		return false
	}
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(in); err != nil {
		// assumed: message-read-only
		s.graphError(w, http.StatusBadRequest, "RequestBodyRead", "The request body is not a message: "+err.Error())
		return false
	}
	return true
}

// properties reads extended properties, by id in lower case.
func (s *Simulator) properties(w *answer, in newMessage) (map[string]string, bool) {
	got := map[string]string{}
	for _, p := range in.Properties {
		if !propertyID.MatchString(p.ID) {
			s.graphError(w, http.StatusBadRequest, "ErrorInvalidProperty", "The property id '"+p.ID+"' is not valid.")
			return nil, false
		}
		kind, _, _ := strings.Cut(p.ID, " ")
		_, number := strconv.ParseInt(p.Value, 10, 32)
		_, moment := time.Parse(time.RFC3339, p.Value)
		if kind == "Integer" && number != nil || kind == "SystemTime" && moment != nil {
			s.graphError(w, http.StatusBadRequest, "ErrorInvalidProperty", "The value of '"+p.ID+"' is not of its type.")
			return nil, false
		}
		got[strings.ToLower(p.ID)] = p.Value
	}
	return got, true
}

// fill sets what a request says of a message, or answers why it can't be so.
func (s *Simulator) fill(w *answer, msg *message, in newMessage) bool {
	if in.Subject != nil {
		msg.Subject = *in.Subject
	}
	if in.Body != nil {
		if !named(in.Body.ContentType, "text", "html") {
			s.graphError(w, http.StatusBadRequest, "RequestBodyRead", "contentType must be text or html.")
			return false
		}
		msg.Made.Kind, msg.Made.Content = strings.ToLower(in.Body.ContentType), in.Body.Content
	}
	if in.From != nil {
		msg.From = in.From.address()
	}
	for _, list := range []struct {
		in []graphRecipient
		to *[]address
	}{{in.To, &msg.To}, {in.Cc, &msg.Cc}, {in.Bcc, &msg.Bcc}, {in.ReplyTo, &msg.ReplyTo}} {
		for _, one := range list.in {
			if one.EmailAddress.Address == "" && one.EmailAddress.Name == "" || list.to == &msg.ReplyTo && !strings.Contains(one.EmailAddress.Address, "@") {
				// graph-backup.md 2.7: an invalid replyTo makes the POST fail.
				s.graphError(w, http.StatusBadRequest, "ErrorInvalidRecipients", "At least one recipient isn't valid.")
				return false
			}
			*list.to = append(*list.to, one.address())
		}
	}
	if in.Importance != "" {
		if !named(in.Importance, "low", "normal", "high") {
			s.graphError(w, http.StatusBadRequest, "RequestBodyRead", "importance must be low, normal or high.")
			return false
		}
		msg.Weight = strings.ToLower(in.Importance)
	}
	if in.Categories != nil {
		msg.Category = in.Categories
	}
	if in.Flag != nil {
		if !slices.Contains([]string{"notFlagged", "flagged", "complete"}, in.Flag.FlagStatus) {
			s.graphError(w, http.StatusBadRequest, "RequestBodyRead", "flagStatus is not valid.")
			return false
		}
		msg.Flag = in.Flag.FlagStatus
	}
	if in.MessageID != "" {
		msg.MessageID = in.MessageID
	}
	for _, h := range in.Headers {
		// https://learn.microsoft.com/graph/api/resources/internetmessageheader: custom ones begin with x-.
		if len(in.Headers) > 5 || !strings.HasPrefix(strings.ToLower(h.Name), "x-") {
			s.graphError(w, http.StatusBadRequest, "InvalidInternetMessageHeader", "The internet message header name '"+h.Name+"' should start with 'x-' or 'X-', and there may be five.")
			return false
		}
		msg.Made.Headers = append(msg.Made.Headers, object{"name": h.Name, "value": h.Value})
	}
	for _, a := range in.Attachments {
		if !s.attach(w, msg, a) {
			return false
		}
	}
	return true
}

// attach adds an attachment of a request.
func (s *Simulator) attach(w *answer, msg *message, a newAttachment) bool {
	data, err := base64.StdEncoding.DecodeString(a.Content)
	switch {
	case a.Type != "#microsoft.graph.fileAttachment":
		s.graphError(w, http.StatusBadRequest, "RequestBodyRead", "The simulated Microsoft Graph takes fileAttachment only.")
	case a.Name == nil || *a.Name == "":
		s.graphError(w, http.StatusBadRequest, "ErrorRequiredPropertyMissing", "Required property is missing: name.")
	case err != nil:
		s.graphError(w, http.StatusBadRequest, "RequestBodyRead", "contentBytes is not base64.")
	case len(data) >= 3<<20:
		// graph-backup.md 2.5: larger ones need an upload session.
		s.graphError(w, http.StatusRequestEntityTooLarge, "ErrorMessageSizeExceeded", "The attachment is too large. Use an upload session.")
	default:
		one := file{Name: *a.Name, Type: firstOf(a.ContentType, "application/octet-stream"), Inline: a.Inline, Data: data}
		if a.ContentID != nil {
			one.ContentID = *a.ContentID
		}
		msg.add(one)
		return true
	}
	return false
}
