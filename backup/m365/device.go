package m365

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"time"

	"holdfast/backup"
)

// StartDevice asks for a device code for the custom role. The code is good only
// in tenant, an id.
func (c *Client) StartDevice(ctx context.Context, tenant string) (DeviceCode, error) {
	var a answer
	var code struct {
		UserCode        string `json:"user_code"`
		DeviceCode      string `json:"device_code"`
		VerificationURI string `json:"verification_uri"`
		ExpiresIn       int64  `json:"expires_in"`
		Interval        int64  `json:"interval"`
	}
	form := url.Values{"client_id": {c.id}, "scope": {strings.Join(scopes(backup.SignInRole), " ")}}
	asked := time.Now()
	if err := c.postForm(ctx, c.endpoint(tenant, "devicecode"), form, &a, &code); err != nil {
		if a.status != 0 {
			return DeviceCode{}, entraProblem(parseEntra(&a), err, deviceMeanings, personMeanings)
		}
		return DeviceCode{}, err
	}
	page, err := url.Parse(code.VerificationURI)
	if err != nil || code.UserCode == "" || code.DeviceCode == "" || page.Scheme != "https" && (page.Scheme != "http" || !loopback(page.Hostname())) {
		return DeviceCode{}, garbage("device code", errors.New("incomplete, or the page is not https"))
	}
	return DeviceCode{
		UserCode: code.UserCode, DeviceCode: backup.Secret(code.DeviceCode), VerificationURI: code.VerificationURI,
		Interval: max(time.Duration(code.Interval)*time.Second, time.Second), ExpiresAt: asked.Add(time.Duration(code.ExpiresIn) * time.Second),
	}, nil
}

// slowDown is added to the interval when Microsoft finds the questions too frequent.
const slowDown = 5 * time.Second

// PollDevice asks once whether the code was entered. Until then the error is a
// Problem of kind device_pending; its RetryAfter, if any, is the least pause to
// add. The other device_* kinds end the code.
func (c *Client) PollDevice(ctx context.Context, tenant string, code backup.Secret) (Grant, error) {
	form := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {code.Reveal()}}
	t, err := c.personToken(ctx, tenant, form, deviceMeanings, personMeanings)
	if err != nil {
		return Grant{}, err
	}
	return c.grant(ctx, t, SignIn{Tenant: tenant, Purpose: backup.SignInRole})
}
