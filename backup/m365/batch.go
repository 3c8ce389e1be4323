package m365

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	abs "github.com/microsoft/kiota-abstractions-go"
	"golang.org/x/sync/errgroup"

	"holdfast/backup"
)

// batchSize is how many calls Graph takes in one batch.
const batchSize = 20

// batchesAtATime bounds the batches of one list of accounts.
const batchesAtATime = 4

// batchPart is one GET of a batch and, after it, its answer.
type batchPart struct {
	path   string // below /v1.0
	prefer string
	answer
}

// batch makes GETs in batches of at most 20. Each part is throttled by itself and
// the transport does not see that, so parts that were are asked again here, after
// the longest of their waits. mailbox is the one that all parts are about, or "";
// as Graph works on four of a batch at a time, one batch is all calls that there
// may be on a mailbox.
func (a *App) batch(ctx context.Context, mailbox string, parts []*batchPart) error {
	for start := time.Now(); len(parts) > 0; {
		var again []*batchPart
		var wait time.Duration
		g, each := errgroup.WithContext(ctx)
		g.SetLimit(batchesAtATime)
		for chunk := range slices.Chunk(parts, batchSize) {
			g.Go(func() error { return a.batchOnce(each, mailbox, bodyLimit, chunk) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
		for _, p := range parts {
			if throttled(&p.answer) || p.status == http.StatusFailedDependency {
				again = append(again, p)
				wait = max(wait, retryAfter(p.header, time.Now()), time.Second)
			}
		}
		if len(again) > 0 && time.Since(start)+wait > usualPatience {
			return mailboxProblem(parseGraph(&again[0].answer), fmt.Errorf("%d of a batch are throttled", len(again)))
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
		parts = again
	}
	return nil
}

// batchOnce makes the GETs of one batch, whose answer may have limit bytes.
func (a *App) batchOnce(ctx context.Context, mailbox string, limit int64, parts []*batchPart) error {
	body, err := encodeBatch(parts)
	if err != nil {
		return err
	}
	var out struct {
		Responses []struct {
			ID      string            `json:"id"`
			Status  int               `json:"status"`
			Headers map[string]string `json:"headers"`
			Body    jsontext.Value    `json:"body"`
		} `json:"responses"`
	}
	r, err := a.json(ctx, request{method: abs.POST, path: "/$batch", mailbox: mailbox, body: body, weight: MailboxCalls, limit: limit}, &out)
	if r != nil {
		return mailboxProblem(*r, err)
	}
	if err != nil {
		return err
	}
	for _, p := range parts {
		p.answer = answer{}
	}
	for _, o := range out.Responses { // in any order
		i, err := strconv.Atoi(o.ID)
		if err != nil || i < 1 || i > len(parts) {
			return garbage("batch", fmt.Errorf("answer to unknown part %q", o.ID))
		}
		header := http.Header{}
		for name, value := range o.Headers {
			header.Set(name, value)
		}
		parts[i-1].answer = answer{status: o.Status, header: header, body: o.Body}
	}
	for _, p := range parts {
		if p.status == 0 {
			return garbage("batch", fmt.Errorf("no answer to %s", p.path))
		}
	}
	return nil
}

// encodeBatch writes the body of a batch.
func encodeBatch(parts []*batchPart) ([]byte, error) {
	type asked struct {
		ID      string            `json:"id"`
		Method  string            `json:"method"`
		URL     string            `json:"url"`
		Headers map[string]string `json:"headers,omitempty"`
	}
	var in struct {
		Requests []asked `json:"requests"`
	}
	for i, p := range parts {
		one := asked{ID: strconv.Itoa(i + 1), Method: http.MethodGet, URL: p.path}
		if p.prefer != "" {
			one.Headers = map[string]string{"Prefer": p.prefer}
		}
		in.Requests = append(in.Requests, one)
	}
	body, err := json.Marshal(in)
	if err != nil {
		return nil, backup.AsProblem(fmt.Errorf("encode batch: %w", err))
	}
	return body, nil
}

// purposes asks what the mailboxes of accounts are for. Accounts without a mailbox
// get noMailbox; those that Microsoft refuses are left out, unless it refuses all:
// then the permission is missing, and statuses must not be taken from that.
func (a *App) purposes(ctx context.Context, people []account) (map[string]string, error) {
	parts := make([]*batchPart, len(people))
	for i, p := range people {
		parts[i] = &batchPart{path: "/users/" + url.PathEscape(p.ID) + "/mailboxSettings?$select=userPurpose"}
	}
	if err := a.batch(ctx, "", parts); err != nil {
		return nil, err
	}
	purposes := make(map[string]string, len(people))
	var refused *batchPart
	for i, p := range people {
		var settings struct {
			UserPurpose string `json:"userPurpose"`
		}
		switch part := parts[i]; {
		case part.status == http.StatusOK && json.Unmarshal(part.body, &settings) == nil:
			purposes[p.ID] = settings.UserPurpose
		case part.status == http.StatusNotFound:
			purposes[p.ID] = noMailbox
		case part.status == http.StatusUnauthorized || part.status == http.StatusForbidden:
			refused = part
		default:
			return nil, mailboxProblem(parseGraph(&part.answer), fmt.Errorf("%s: status %d", part.path, part.status))
		}
	}
	if len(purposes) == 0 && refused != nil {
		return nil, mailboxProblem(parseGraph(&refused.answer), fmt.Errorf("%s: status %d", refused.path, refused.status))
	}
	return purposes, nil
}
