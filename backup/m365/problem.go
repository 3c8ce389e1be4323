package m365

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"holdfast/backup"
)

// meaning is what a code of Microsoft means for the person who reads it.
type meaning struct {
	kind      backup.ProblemKind
	text      string
	temporary bool
}

// What a job does after a temporary Problem. Somebody who waits at a page has to
// do it: see Attended.
const (
	goesOn     = "It goes on by itself."
	triesAgain = "Holdfast tries again by itself"
)

var byHand = strings.NewReplacer(goesOn, "Try again then.", "; "+triesAgain, "; try again in a few minutes", triesAgain, "Try again in a few minutes")

// Attended words a Problem for somebody who waits at a page for what they asked
// Microsoft: it is not repeated unless they do.
func Attended(p *backup.Problem) *backup.Problem {
	if !p.Temporary {
		return p
	}
	told := *p
	if p.Kind == backup.ProblemThrottled {
		pause := max(p.RetryAfter, time.Minute)
		told.Text = "Microsoft is busy and asks Holdfast to wait until " + p.At.Add(pause+time.Minute).UTC().Format("15:04 MST") + ". " + goesOn
	}
	told.Text = byHand.Replace(told.Text)
	return &told
}

// refusal is an error answer, taken apart; the three services of Microsoft each
// have their own shape (parseEntra, parseGraph, parseExchange).
type refusal struct {
	status    int
	code      string   // the most specific one
	codes     []string // all of them, outermost first
	message   string
	requestID string
	after     time.Duration // Retry-After
}

// problem makes the Problem of m for r. A zero m means that Holdfast does not
// know the code.
func (r refusal) problem(m meaning, cause error) *backup.Problem {
	p := &backup.Problem{
		Kind: m.kind, Text: m.text, Temporary: m.temporary, Code: r.code, Status: r.status,
		RequestID: r.requestID, RetryAfter: r.after, At: time.Now(), Err: cause,
	}
	if p.Err == nil && r.message != "" {
		p.Err = errors.New(r.message)
	}
	if p.Kind == "" {
		p.Kind = backup.ProblemUnknown
		p.Text = r.unknownText(p.At)
	}
	return p
}

func (r refusal) unknownText(at time.Time) string {
	code := r.code
	if code == "" {
		code = fmt.Sprintf("status %d", r.status)
	}
	text := fmt.Sprintf("Microsoft refused with a code that Holdfast does not know: %s, at %s", code, at.UTC().Format("2006-01-02 15:04:05 MST"))
	if r.requestID != "" {
		text += ", request " + r.requestID
	}
	return text + ". Try again; if it stays, give these three to support."
}

// general is what a status or a transport error means, whoever answered.
func (r refusal) general() (meaning, bool) {
	switch {
	case r.status == http.StatusTooManyRequests || r.status == 509:
		return meaning{backup.ProblemThrottled, "Microsoft asks Holdfast to wait. " + goesOn, true}, true
	case r.status == http.StatusServiceUnavailable && r.after > 0:
		return meaning{backup.ProblemThrottled, "Microsoft is busy and asks Holdfast to wait. " + goesOn, true}, true
	case r.status >= 500 || r.status == http.StatusRequestTimeout:
		return meaning{backup.ProblemUnavailable, "Microsoft's service failed for the moment. " + triesAgain + "; Microsoft's service health page tells whether it is known.", true}, true
	}
	return meaning{}, false
}

// silenceProblem is the Problem for no answer at all, or one that is not what
// Microsoft documents. A context's own error stays as it is.
func silenceProblem(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if _, ok := errors.AsType[*backup.Problem](err); ok {
		return err
	}
	p := &backup.Problem{
		Kind: backup.ProblemUnavailable, Temporary: true, At: time.Now(), Err: err,
		Text: "Microsoft could not be reached, or stopped in the middle of its answer. Check that this server may connect to login.microsoftonline.com, graph.microsoft.com and outlook.office365.com; " + triesAgain + ".",
	}
	if fence, ok := errors.AsType[*fencedError](err); ok {
		p.Kind, p.RetryAfter = backup.ProblemThrottled, time.Until(fence.until)
		p.Text = "Microsoft asks Holdfast to wait until " + fence.until.UTC().Format("15:04 MST") + ". " + goesOn
	}
	if errors.Is(err, errForeignHost) {
		p.Temporary = false
		p.Text = "Microsoft's answer pointed to an address that is not the configured one, so Holdfast stopped. Check the addresses of Microsoft's services in Holdfast's configuration."
	}
	return p
}

// garbage is the Problem for an answer of status 200 that makes no sense.
func garbage(what string, err error) *backup.Problem {
	return &backup.Problem{
		Kind: backup.ProblemUnavailable, Temporary: true, At: time.Now(), Err: fmt.Errorf("%s: %w", what, err),
		Text: "Microsoft's answer could not be understood. " + triesAgain + "; if it stays, a proxy between this server and Microsoft may be changing answers.",
	}
}

// lookup returns the meaning of the first of r's codes, most specific first, that
// a table has. Codes are compared without case: documents and services differ.
func (r refusal) lookup(table map[string]meaning) (meaning, bool) {
	for i := len(r.codes) - 1; i >= 0; i-- {
		if m, ok := table[strings.ToLower(r.codes[i])]; ok {
			return m, true
		}
	}
	return meaning{}, false
}

// graphError is Graph's error object.
type graphError struct {
	Code       string `json:"code"`
	Message    string `json:"message"`
	InnerError *struct {
		graphError
		RequestID       string `json:"request-id"`
		ClientRequestID string `json:"client-request-id"`
	} `json:"innerError"`
}

// parseGraph reads {"error":{…}}, whose innerError may nest further codes
// (https://learn.microsoft.com/graph/errors).
func parseGraph(a *answer) refusal {
	r := refusal{status: a.status, requestID: a.header.Get("request-id"), after: retryAfter(a.header, time.Now())}
	var body struct {
		Error graphError `json:"error"`
	}
	if json.Unmarshal(bytes.TrimLeft(a.body, "\ufeff"), &body) != nil {
		return r
	}
	r.message = body.Error.Message
	for e := &body.Error; e != nil; {
		if e.Code != "" {
			r.codes = append(r.codes, e.Code)
		}
		if e.InnerError == nil {
			break
		}
		if r.requestID == "" {
			r.requestID = e.InnerError.RequestID
		}
		e = &e.InnerError.graphError
	}
	for _, code := range r.codes {
		// innerError repeats the status as a code at times; that says less than the outer one.
		if strings.Trim(code, "0123456789") != "" {
			r.code = code
		}
	}
	return r
}

// has says whether one of the codes is among those given.
func (r refusal) has(codes ...string) bool {
	for _, have := range r.codes {
		for _, want := range codes {
			if strings.EqualFold(have, want) {
				return true
			}
		}
	}
	return false
}

// says says whether the message has one of the fragments, without regard to case.
func (r refusal) says(fragments ...string) bool {
	message := strings.ToLower(r.message)
	for _, f := range fragments {
		if strings.Contains(message, strings.ToLower(f)) {
			return true
		}
	}
	return false
}

// damagedItem says whether an answer is about one item that Exchange can't
// convert; asking again at once does not help.
func damagedItem(a *answer) bool {
	return parseGraph(a).has("ErrorCorruptData", "ErrorInvalidRecipients", "ErrorCannotOpenFileAttachment",
		"ErrorTooManyObjectsOpened", "ErrorMimeContentInvalid", "ErrorContentConversionFailed", "ErrorPropertyRequestFailed")
}
