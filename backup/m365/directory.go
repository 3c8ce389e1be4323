package m365

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	abs "github.com/microsoft/kiota-abstractions-go"
	khttp "github.com/microsoft/kiota-http-go"
	kjson "github.com/microsoft/kiota-serialization-json-go"
	"github.com/microsoftgraph/msgraph-sdk-go/organization"

	"holdfast/backup"
)

// bearer adds a token to requests of the SDK. The SDK's own provider gives a
// foreign host no token and no error; this one fails.
type bearer struct {
	graph string
	token func(context.Context) (backup.Secret, error)
}

// AuthenticateRequest implements kiota's AuthenticationProvider.
func (b bearer) AuthenticateRequest(ctx context.Context, info *abs.RequestInformation, _ map[string]any) error {
	u, err := info.GetUri()
	if err != nil {
		return fmt.Errorf("make address: %w", err)
	}
	if !under(u.String(), b.graph) {
		return fmt.Errorf("%s: %w", u.Redacted(), errForeignHost)
	}
	token, err := b.token(ctx)
	if err != nil {
		return err
	}
	info.Headers.TryAdd("Authorization", "Bearer "+token.Reveal())
	return nil
}

// newAdapter makes the SDK's adapter on this client's transport. It has no
// handlers of kiota's but the one that decodes $ in parameter names; kiota's own
// list comes in random order and its retry leaks connections.
func (c *Client) newAdapter(token func(context.Context) (backup.Secret, error)) (*khttp.NetHttpRequestAdapter, error) {
	pipeline := &http.Client{
		Transport:     khttp.NewCustomTransportWithParentTransport(c.http.Transport, khttp.NewParametersNameDecodingHandler()),
		CheckRedirect: c.http.CheckRedirect,
	}
	adapter, err := khttp.NewNetHttpRequestAdapterWithParseNodeFactoryAndSerializationWriterFactoryAndHttpClient(
		bearer{graph: c.graph, token: token}, kjson.NewJsonParseNodeFactory(), kjson.NewJsonSerializationWriterFactory(), pipeline)
	if err != nil {
		return nil, backup.AsProblem(fmt.Errorf("make Graph client: %w", err))
	}
	adapter.SetBaseUrl(c.graph + "/v1.0")
	return adapter, nil
}

// directory is the control plane of a tenant in an administrator's name: the
// typed SDK.
type directory struct {
	adapter *khttp.NetHttpRequestAdapter
	path    map[string]string // the SDK's path parameters
	key     string            // what is throttled together

	patience time.Duration // how long a call may wait for a busy service; 0 means usualPatience
}

func (c *Client) directory(token backup.Secret, key string) (*directory, error) {
	adapter, err := c.newAdapter(func(context.Context) (backup.Secret, error) { return token, nil })
	if err != nil {
		return nil, err
	}
	return &directory{adapter: adapter, path: map[string]string{"baseurl": c.graph + "/v1.0"}, key: "directory/" + key}, nil
}

// do makes one call of the SDK. A refusal is returned beside the error; without
// it the error is a Problem or the context's. again says that the call may be
// sent twice.
func (d *directory) do(ctx context.Context, again bool, fn func(context.Context) error) (*refusal, error) {
	var a answer
	err := fn(withCall(ctx, call{key: d.key, parallel: 4, repeatable: again, patience: d.patience, answer: &a}))
	switch {
	case err == nil:
		return nil, nil
	case a.status != 0:
		r := parseGraph(&a)
		return &r, fmt.Errorf("status %d %s: %s", r.status, r.code, r.message)
	case answered(err):
		return nil, garbage("directory", err)
	}
	return nil, silenceProblem(err)
}

// answered says whether the SDK failed over an answer that came whole. What
// the way to Microsoft does is wrapped by net/http, or ends the body early.
func answered(err error) bool {
	_, transport := errors.AsType[*url.Error](err)
	_, network := errors.AsType[net.Error](err)
	_, known := errors.AsType[*backup.Problem](err)
	return !transport && !network && !known && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, errForeignHost) &&
		!errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// replicationLimit is how long a call waits for the directory's servers to tell
// each other of an object.
const replicationLimit = 2 * time.Minute

// retry makes a call again while lag says that the refusal comes from a server
// that does not know a new object yet.
func (d *directory) retry(ctx context.Context, limit time.Duration, lag func(refusal) bool, fn func(context.Context) error) (*refusal, error) {
	for start, try := time.Now(), 0; ; try++ {
		r, err := d.do(ctx, true, fn)
		if r == nil || !lag(*r) {
			return r, err
		}
		pause := min(time.Second<<min(try, 4), 10*time.Second)
		if time.Since(start)+pause > limit {
			return r, err
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
	}
}

// notYet is the commonest lag.
func notYet(r refusal) bool { return r.status == http.StatusNotFound }

// Tenant reads the tenant of a Grant for SignInConsent.
func (c *Client) Tenant(ctx context.Context, token backup.Secret) (TenantInfo, error) {
	d, err := c.directory(token, "organization")
	if err != nil {
		return TenantInfo{}, err
	}
	d.patience = signInPatience // a page waits
	var info TenantInfo
	r, err := d.do(ctx, true, func(ctx context.Context) error {
		page, err := organization.NewOrganizationRequestBuilderInternal(d.path, d.adapter).Get(ctx, &organization.OrganizationRequestBuilderGetRequestConfiguration{
			QueryParameters: &organization.OrganizationRequestBuilderGetQueryParameters{
				Select: []string{"id", "displayName", "verifiedDomains", "assignedPlans"}},
		})
		if err != nil {
			return err
		}
		if page == nil || len(page.GetValue()) == 0 {
			return garbage("organization", fmt.Errorf("empty list"))
		}
		o := page.GetValue()[0]
		info = TenantInfo{ID: strings.ToLower(text(o.GetId())), Name: text(o.GetDisplayName())}
		for _, domain := range o.GetVerifiedDomains() {
			info.Domains = append(info.Domains, text(domain.GetName()))
			if initial := domain.GetIsInitial(); initial != nil && *initial {
				info.InitialDomain = text(domain.GetName())
			}
		}
		for _, plan := range o.GetAssignedPlans() {
			id := ""
			if plan.GetServicePlanId() != nil {
				id = plan.GetServicePlanId().String()
			}
			state := (assignedPlan{Service: text(plan.GetService()), Status: text(plan.GetCapabilityStatus()), ID: id}).mailbox()
			info.HasExchange = info.HasExchange || state == backup.LicenceValid || state == backup.LicenceGrace
		}
		return nil
	})
	if r != nil {
		return TenantInfo{}, directoryProblem(*r, err)
	}
	return info, err
}

// text is the value of one of the SDK's optional strings.
func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
