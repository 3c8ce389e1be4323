package m365

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	abs "github.com/microsoft/kiota-abstractions-go"

	"holdfast/backup"
)

// Resources for which a sub-application asks a token.
const (
	graphResource    = "https://graph.microsoft.com"
	exchangeResource = "https://outlook.office365.com"
)

// Limits of a young application: Entra's servers tell each other of it within
// minutes, and until then deny that it exists.
const (
	freshFor  = 15 * time.Minute
	freshWait = 5 * time.Minute
)

// tokenSource holds the tokens of one sub-application in one tenant.
type tokenSource struct {
	client      *Client
	tenant      string
	appID       string
	certificate *Certificate
	made        time.Time // last change of the row; says whether the application is young
	// sign adds the application's credential to a form for an endpoint.
	sign     func(form url.Values, endpoint string) error
	meanings []map[string]meaning // of Entra's refusals, the more special ones first

	busy chan struct{} // a mutex that gives up with the context
	held map[string]heldToken
}

type heldToken struct {
	value   backup.Secret
	renewAt time.Time
}

// tokens returns the one token source of an application in a tenant.
func (c *Client) tokens(tenant string, app backup.SubApplication) (*tokenSource, error) {
	hash := sha256.Sum256(app.Certificate)
	key := tenant + "/" + app.AppID + "/" + hex.EncodeToString(hash[:8])
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.apps[key]; s != nil {
		return s, nil
	}
	certificate, err := appCertificate(app)
	if err != nil {
		return nil, &backup.Problem{Kind: backup.ProblemCredential, At: time.Now(), Err: err,
			Text: "The key of Holdfast's application could not be read. Select Repair under Account Settings, Credentials."}
	}
	s := &tokenSource{client: c, tenant: tenant, appID: app.AppID, certificate: certificate, made: app.UpdatedAt,
		meanings: []map[string]meaning{applicationMeanings}, busy: make(chan struct{}, 1), held: map[string]heldToken{}}
	s.sign = s.assert
	c.apps[key] = s
	return s, nil
}

// assert signs in with the sub-application's certificate.
func (s *tokenSource) assert(form url.Values, endpoint string) error {
	assertion, err := s.certificate.assertion(s.appID, endpoint, time.Now())
	if err != nil {
		return err
	}
	form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
	form.Set("client_assertion", assertion)
	return nil
}

// mainTokens returns the one token source of the main application in a tenant
// that was authorized by a backup administrator. Its permissions may be a
// moment old at any time, as after a re-authorization.
func (c *Client) mainTokens(tenant string) *tokenSource {
	key := tenant + "/" + c.id
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.apps[key]; s != nil {
		return s
	}
	s := &tokenSource{client: c, tenant: tenant, appID: c.id, meanings: []map[string]meaning{mainMeanings, applicationMeanings},
		busy: make(chan struct{}, 1), held: map[string]heldToken{}}
	s.sign = func(form url.Values, endpoint string) error {
		form.Set("client_id", c.id)
		return c.authenticate(form, endpoint)
	}
	c.apps[key] = s
	return s
}

// token returns a token for a resource, from memory while it is good.
func (s *tokenSource) token(ctx context.Context, resource string) (backup.Secret, error) {
	select {
	case s.busy <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-s.busy }()
	if t, ok := s.held[resource]; ok && time.Now().Before(t.renewAt) {
		return t.value, nil
	}
	wait := time.Duration(0)
	if time.Since(s.made) < freshFor {
		wait = freshWait
	}
	t, err := s.fetch(ctx, resource, wait)
	if err != nil {
		return nil, err
	}
	life := time.Duration(t.ExpiresIn) * time.Second
	s.held[resource] = heldToken{backup.Secret(t.AccessToken), time.Now().Add(life - min(5*time.Minute, life/4))}
	return backup.Secret(t.AccessToken), nil
}

// fetch asks Entra; what it says of a young application is asked again for at
// most wait.
func (s *tokenSource) fetch(ctx context.Context, resource string, wait time.Duration) (tokens, error) {
	endpoint := s.client.endpoint(s.tenant, "token")
	for start, try := time.Now(), 0; ; try++ {
		form := url.Values{"grant_type": {"client_credentials"}, "client_id": {s.appID}, "scope": {resource + "/.default"}}
		if err := s.sign(form, endpoint); err != nil {
			return tokens{}, backup.AsProblem(err)
		}
		t, refused, err := s.client.token(ctx, s.tenant, form)
		if refused == nil {
			return t, err
		}
		pause := min(2*time.Second<<min(try, 4), 20*time.Second)
		if !freshApplication(*refused) || time.Since(start)+pause > wait {
			return tokens{}, entraProblem(*refused, err, s.meanings...)
		}
		if err := sleep(ctx, pause); err != nil {
			return tokens{}, err
		}
	}
}

// forget drops all tokens; the next ones have the permissions of then.
func (s *tokenSource) forget() {
	s.busy <- struct{}{}
	clear(s.held)
	<-s.busy
}

// drop forgets one token, unless it was renewed meanwhile.
func (s *tokenSource) drop(resource string, value backup.Secret) {
	s.busy <- struct{}{}
	if bytes.Equal(s.held[resource].value, value) {
		delete(s.held, resource)
	}
	<-s.busy
}

// App is a sub-application at work in its tenant. It is safe for concurrent use.
type App struct {
	client *Client
	id     string // application and tenant, for throttling
	source *tokenSource
	err    error // why there is no source
}

// App returns the sub-application app of the tenant tenantID. It does not
// connect; an unreadable key shows at the first call.
func (c *Client) App(tenantID string, app backup.SubApplication) *App {
	a := &App{client: c, id: tenantID + "/" + app.AppID}
	a.source, a.err = c.tokens(tenantID, app)
	return a
}

// MainApp returns the main application at work in the tenant tenantID, which a
// backup administrator authorized. It does not connect.
func (c *Client) MainApp(tenantID string) *App {
	return &App{client: c, id: tenantID + "/" + c.id, source: c.mainTokens(tenantID)}
}

// request is one call to Graph on the data plane.
type request struct {
	method  abs.HttpMethod
	path    string // below /v1.0, or an address that Graph gave
	mailbox string // user id whose mailbox is read, "" for the directory
	body    []byte // JSON
	prefer  string
	accept  string // "" means JSON
	once    bool   // it must not be repeated unless Graph says that it did nothing
	weight  int    // how many calls on the mailbox it is, for a batch; 0 means 1
	limit   int64  // of JSON in the answer, in bytes; 0 means bodyLimit
}

// send sends a request through the SDK's pipeline, with a new token once if the
// one in use ended. The caller closes the body. A refusal is returned beside the
// plain error; without it the error is a Problem or the context's.
func (a *App) send(ctx context.Context, r request) (*http.Response, *refusal, error) {
	if a.err != nil {
		return nil, nil, a.err
	}
	address := r.path
	if !strings.HasPrefix(address, "http") {
		address = a.client.graph + "/v1.0" + r.path
	}
	for try := 0; ; try++ {
		var refused answer
		c := call{key: a.id, parallel: 8, repeatable: !r.once, answer: &refused}
		if r.mailbox != "" {
			c.key, c.parallel, c.weight = a.id+"/"+r.mailbox, MailboxCalls, r.weight
		}
		req, token, err := a.sign(withCall(ctx, c), address, r)
		if err != nil {
			return nil, nil, err
		}
		res, err := a.client.http.Do(req)
		if err != nil {
			return nil, nil, silenceProblem(err)
		}
		if refused.status == 0 && res.StatusCode < http.StatusMultipleChoices {
			return res, nil, nil
		}
		_ = res.Body.Close() // it is in memory
		if refused.status == 0 {
			return nil, nil, garbage("Graph", fmt.Errorf("%s: status %d", r.path, res.StatusCode))
		}
		if refused.status == http.StatusUnauthorized && try == 0 {
			a.source.drop(graphResource, token)
			continue
		}
		f := parseGraph(&refused)
		return nil, &f, fmt.Errorf("%s %s: status %d %s: %s", r.method, r.path, f.status, f.code, f.message)
	}
}

// sign makes the request of r with a token. There is one for every message, so
// it does without the SDK's RequestInformation, which would only be taken apart
// again; like bearer it gives no token to a foreign host.
func (a *App) sign(ctx context.Context, address string, r request) (*http.Request, backup.Secret, error) {
	req, err := http.NewRequestWithContext(ctx, r.method.String(), address, bytes.NewReader(r.body))
	if err != nil {
		return nil, nil, silenceProblem(err)
	}
	if !under(address, a.client.graph) {
		return nil, nil, silenceProblem(fmt.Errorf("%s: %w", req.URL.Redacted(), errForeignHost))
	}
	token, err := a.source.token(ctx, graphResource)
	if err != nil {
		return nil, nil, silenceProblem(err)
	}
	req.Header.Set("Authorization", "Bearer "+token.Reveal())
	req.Header.Set("Accept", cmp.Or(r.accept, "application/json"))
	if r.prefer != "" {
		req.Header.Set("Prefer", r.prefer)
	}
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, token, nil
}

// json sends r and decodes the answer. An answer that ends in the middle is asked
// for again.
func (a *App) json(ctx context.Context, r request, into any) (*refusal, error) {
	for try := 0; ; try++ {
		res, refused, err := a.send(ctx, r)
		if err != nil {
			return refused, err
		}
		broken, err := readJSON(res, r, into)
		if err != nil || broken == nil {
			return nil, err
		}
		if try == 2 || ctx.Err() != nil {
			return nil, silenceProblem(broken)
		}
		if err := sleep(ctx, backoff(try)); err != nil {
			return nil, err
		}
	}
}

// bodies are buffers for answers, which are read as a whole before they are decoded.
var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// mostPooled is how large a buffer may be that is kept for the next answer.
const mostPooled = 2 << 20

// readJSON decodes the body of an answer to r and closes it. broken is worth
// another try.
func readJSON(res *http.Response, r request, into any) (broken, err error) {
	defer res.Body.Close() // what was read of it counts
	body := bodies.Get().(*bytes.Buffer)
	defer func() {
		if body.Cap() <= mostPooled {
			bodies.Put(body)
		}
	}()
	body.Reset()
	limit := cmp.Or(r.limit, bodyLimit)
	if _, err := body.ReadFrom(io.LimitReader(res.Body, limit+1)); err != nil {
		return err, nil
	}
	if int64(body.Len()) > limit {
		return nil, garbage("Graph", fmt.Errorf("%s: answer of more than %d bytes", r.path, limit))
	}
	if err := decode(body.Bytes(), into); err != nil { // copies what it keeps
		return garbage("Graph", fmt.Errorf("%s: %w", r.path, err)), nil
	}
	return nil, nil
}

// decode reads JSON as Graph sends it: there may be a mark before it, and control
// characters in texts that were put into a mailbox long ago.
func decode(body []byte, into any) error {
	body = trimBOM(body)
	err := json.Unmarshal(body, into, asGraph)
	if err == nil {
		return nil
	}
	for i, c := range body {
		if c < ' ' {
			body[i] = ' '
		}
	}
	if json.Unmarshal(body, into, asGraph) == nil {
		return nil
	}
	return err
}

// asGraph takes what old texts in mailboxes and forgetful gateways make of JSON.
var asGraph = json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

// pager notices a service that gives the same next page for ever. Microsoft
// repeats pages at times, so some repetition is allowed.
type pager struct {
	last   string
	repeat int
}

func (p *pager) next(link string) error {
	if link != p.last || link == "" {
		p.last, p.repeat = link, 0
		return nil
	}
	if p.repeat++; p.repeat >= 10 {
		return garbage("paging", fmt.Errorf("the same page %d times: %s", p.repeat, link))
	}
	return nil
}
