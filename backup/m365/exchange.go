package m365

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"holdfast/backup"
)

// moduleVersion is the version of Exchange's PowerShell module whose list of
// cmdlets EXOModuleFile is asked for.
const moduleVersion = "3.9.2"

// Cmdlet is one call of Exchange's administration, by the admin REST interface
// or in a script.
type Cmdlet struct {
	Name       string
	Parameters []Parameter
}

// Parameter is one of a cmdlet's; Value is a string, a []string or a bool.
type Parameter struct {
	Name  string
	Value any
}

// exchangeSession runs cmdlets in one tenant as one person or application.
type exchangeSession struct {
	client *Client
	tenant string // id or initial domain
	anchor string // X-AnchorMailbox, which routes the request to the tenant's servers
	token  func(context.Context) (backup.Secret, error)
}

// asPerson runs cmdlets with an administrator's token.
func (c *Client) asPerson(tenant, upn string, token backup.Secret) *exchangeSession {
	return &exchangeSession{client: c, tenant: tenant, anchor: "UPN:" + upn,
		token: func(context.Context) (backup.Secret, error) { return token, nil }}
}

// systemMailbox routes requests of an application; every tenant has it.
const systemMailbox = "SystemMailbox{bb558c35-97f1-4cb9-8ff7-d53741dc928c}"

// run runs a cmdlet and returns its objects from all pages. A refusal of the
// cmdlet is an *exchangeError; other errors are Problems.
func (s *exchangeSession) run(ctx context.Context, cmd Cmdlet) ([]map[string]any, error) {
	parameters := make(map[string]any, len(cmd.Parameters))
	for _, p := range cmd.Parameters {
		parameters[p.Name] = p.Value
	}
	body, err := json.Marshal(map[string]any{"CmdletInput": map[string]any{"CmdletName": cmd.Name, "Parameters": parameters}})
	if err != nil {
		return nil, backup.AsProblem(fmt.Errorf("encode %s: %w", cmd.Name, err))
	}
	repeatable := strings.HasPrefix(cmd.Name, "Get-")
	address := s.client.exchange + "/adminapi/beta/" + url.PathEscape(s.tenant) + "/InvokeCommand"
	var objects []map[string]any
	var pages pager
	for address != "" {
		// The next page is a POST of the same body; a page that fails is a failure, not the end.
		page, err := s.send(ctx, http.MethodPost, address, cmd.Name, body, repeatable)
		if err != nil {
			return nil, err
		}
		objects = append(objects, page.Value...)
		address = page.Next
		if err := pages.next(address); err != nil {
			return nil, err
		}
	}
	return objects, nil
}

// cmdlets lists what the session may run.
func (s *exchangeSession) cmdlets(ctx context.Context) ([]string, error) {
	address := s.client.exchange + "/adminapi/v1.0/" + url.PathEscape(s.tenant) + "/EXOModuleFile?Version=" + moduleVersion
	page, err := s.send(ctx, http.MethodGet, address, "*", nil, true)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, object := range page.Value {
		for _, list := range values(object["exportedCmdlets"]) {
			for name := range strings.SplitSeq(list, ",") {
				if name = strings.TrimSpace(name); name != "" {
					names = append(names, name)
				}
			}
		}
	}
	return names, nil
}

// exchangePage is an answer of the admin interface.
type exchangePage struct {
	Value    []map[string]any `json:"value"`
	Next     string           `json:"@odata.nextLink"`
	Warnings []string         `json:"@adminapi.warnings"`
}

func (s *exchangeSession) send(ctx context.Context, method, address, cmdlet string, body []byte, repeatable bool) (exchangePage, error) {
	var page exchangePage
	if !under(address, s.client.exchange) {
		return page, silenceProblem(fmt.Errorf("%s: %w", address, errForeignHost))
	}
	token, err := s.token(ctx)
	if err != nil {
		return page, err
	}
	var a answer
	ctx = withCall(ctx, call{key: "exchange/" + s.tenant, parallel: 2, repeatable: repeatable, silence: exchangeSilence, answer: &a})
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return page, silenceProblem(err)
	}
	req.Header.Set("Authorization", "Bearer "+token.Reveal())
	req.Header.Set("X-AnchorMailbox", s.anchor)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("X-ClientApplication", "Holdfast")
	req.Header.Set("client-request-id", uuid.NewString())
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json; charset=utf-8")
		req.Header.Set("X-CmdletName", cmdlet)
		req.Header.Set("X-ResponseFormat", "json")
		req.Header.Set("Prefer", "odata.maxpagesize=1000")
	} else {
		req.Header.Set("CommandName", cmdlet)
	}
	res, err := s.client.http.Do(req)
	if err != nil {
		return page, silenceProblem(err)
	}
	defer res.Body.Close()
	if a.status != 0 {
		return page, parseExchange(&a, cmdlet)
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, bodyLimit))
	if err != nil {
		return page, silenceProblem(err)
	}
	if len(bytes.TrimSpace(text)) == 0 { // 204, or a cmdlet without output
		return page, nil
	}
	if err := json.Unmarshal(trimBOM(text), &page); err != nil {
		return page, garbage(cmdlet, err)
	}
	return page, nil
}

// values gives the texts of a property: a string, or a list of strings.
func values(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var all []string
		for _, e := range v {
			all = append(all, values(e)...)
		}
		return all
	case map[string]any: // some serializations wrap lists
		return values(v["value"])
	}
	return nil
}

// exchangeError is a refusal of the admin interface or of the cmdlet itself.
type exchangeError struct {
	refusal
	cmdlet string
	kind   string // .NET type without its namespace, "" if not told
}

func (e *exchangeError) Error() string {
	return fmt.Sprintf("%s: status %d %s %s: %s", e.cmdlet, e.status, e.code, e.kind, e.message)
}

// parseExchange reads the shapes in which the admin interface refuses: details
// with code|type|text, details with an object in a string, internal exceptions,
// plain text, and nothing but NUL bytes and a header.
func parseExchange(a *answer, cmdlet string) *exchangeError {
	e := &exchangeError{cmdlet: cmdlet, refusal: refusal{status: a.status, after: retryAfter(a.header, time.Now())}}
	for _, name := range []string{"request-id", "client-request-id"} {
		if e.requestID == "" {
			e.requestID = a.header.Get(name)
		}
	}
	var body struct {
		Error struct {
			Code, Message string
			Details       []struct{ Code, Message string }
			InnerError    struct {
				Message           string
				InternalException struct{ Message, Type string }
			}
		}
	}
	text := strings.Trim(string(trimBOM(a.body)), "\x00 \r\n\t")
	if err := json.Unmarshal([]byte(text), &body); err != nil {
		e.message = text
		if text == "" {
			e.message = a.header.Get("x-ms-diagnostics")
		}
		return e
	}
	e.code, e.message = body.Error.Code, body.Error.Message
	if e.code != "" {
		e.codes = []string{e.code}
	}
	switch inner := body.Error.InnerError.InternalException; {
	case len(body.Error.Details) > 0 && body.Error.Details[0].Message != "":
		e.detail(body.Error.Details[0].Message)
	case inner.Message != "":
		e.message = inner.Message
	}
	return e
}

func (e *exchangeError) detail(message string) {
	var object struct{ Message, TypeName string }
	if json.Unmarshal([]byte(message), &object) == nil && object.Message != "" {
		e.message, e.kind = object.Message, shortType(object.TypeName)
		return
	}
	if parts := strings.SplitN(message, "|", 3); len(parts) == 3 {
		e.message, e.kind = parts[2], shortType(parts[1])
		if parts[0] != "" {
			e.code = parts[0]
		}
		return
	}
	e.message = message
}

func shortType(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }

// asExchangeError returns the refusal in err's chain, or nil.
func asExchangeError(err error) *exchangeError {
	e, _ := errors.AsType[*exchangeError](err)
	return e
}
