package m365_test

import (
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/m365"
	"holdfast/backup/m365/simulator"
)

// press is the person at Microsoft's device page: code, account and password,
// then the button.
func (w *world) press(code m365.DeviceCode, upn, password, button string) string {
	w.t.Helper()
	browser := &http.Client{Transport: w.sim.Transport()}
	form := url.Values{"otc": {code.UserCode}}
	var page string
	for range 6 {
		res, err := browser.PostForm(code.VerificationURI, form)
		if err != nil {
			w.t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			w.t.Fatal(err)
		}
		page = string(body)
		form = url.Values{}
		for _, m := range hiddenField.FindAllStringSubmatch(page, -1) {
			form.Add(m[1], strings.ReplaceAll(m[2], "&#39;", "'"))
		}
		for _, c := range res.Cookies() {
			browser.Jar = cookieJar{c}
		}
		switch {
		case strings.Contains(page, `type="password"`):
			form.Set("login", upn)
			form.Set("passwd", password)
		case strings.Contains(page, `<button class="main" name="confirm"`):
			form.Set("confirm", button)
		case strings.Contains(page, `<button class="main" name="consent"`):
			form.Set("consent", "accept")
			form.Set("organization", "true")
		default:
			return page
		}
	}
	w.t.Fatalf("the device page does not end: %s", page)
	return ""
}

var hiddenField = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)"`)

type cookieJar []*http.Cookie

func (j cookieJar) SetCookies(*url.URL, []*http.Cookie) {}
func (j cookieJar) Cookies(*url.URL) []*http.Cookie     { return j }

func TestDeviceCodeIsPendingUntilEntered(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		w := newWorld(t, nil)
		code, err := w.client.StartDevice(t.Context(), contoso)
		if err != nil {
			t.Fatal(err)
		}
		if code.UserCode == "" || code.Interval != 5*time.Second || time.Until(code.ExpiresAt) != 15*time.Minute || code.VerificationURI == "" {
			t.Errorf("device code %+v", code)
		}
		_, err = w.client.PollDevice(t.Context(), contoso, code.DeviceCode)
		if p := wantKind(t, "too early", err, backup.ProblemDevicePending); !p.Temporary {
			t.Errorf("pending is not temporary: %+v", p)
		}
		w.fault(simulator.Fault{Name: "slow_down", Times: 1})
		_, err = w.client.PollDevice(t.Context(), contoso, code.DeviceCode)
		if p := wantKind(t, "too often", err, backup.ProblemDevicePending); p.RetryAfter < 5*time.Second {
			t.Errorf("slow_down adds %s to the pause, want 5s", p.RetryAfter)
		}
		w.press(code, "admin@contosodental.onmicrosoft.com", "Contoso-2026", "continue")
		g, err := w.client.PollDevice(t.Context(), contoso, code.DeviceCode)
		if err != nil {
			t.Fatal(err)
		}
		if g.TenantID != contoso || g.UPN != "admin@contosodental.onmicrosoft.com" || len(g.RefreshToken) == 0 {
			t.Errorf("granted %+v", g)
		}
		_, err = w.client.PollDevice(t.Context(), contoso, code.DeviceCode)
		wantKind(t, "used code", err, backup.ProblemDeviceExpired)
	})
}

func TestDeviceCodeOutcomes(t *testing.T) {
	const upn, password = "admin@contosodental.onmicrosoft.com", "Contoso-2026"
	for _, test := range []struct {
		name string
		edit func(*simulator.TenantSettings)
		act  func(w *world, code m365.DeviceCode)
		kind backup.ProblemKind
	}{
		{"declined", nil, func(w *world, c m365.DeviceCode) { w.press(c, upn, password, "cancel") }, backup.ProblemDeviceDeclined},
		{"too late", nil, func(w *world, c m365.DeviceCode) { w.sim.Advance(16 * time.Minute) }, backup.ProblemDeviceExpired},
		{"too late, the other name", func(s *simulator.TenantSettings) { s.ExpiredName = "code_expired" },
			func(w *world, c m365.DeviceCode) { w.sim.Advance(16 * time.Minute) }, backup.ProblemDeviceExpired},
		{"blocked, and told", func(s *simulator.TenantSettings) { s.BlockDeviceCode = "poll" },
			func(w *world, c m365.DeviceCode) { w.press(c, upn, password, "continue") }, backup.ProblemDeviceBlocked},
		{"blocked in silence", func(s *simulator.TenantSettings) { s.BlockDeviceCode = "silent" },
			func(w *world, c m365.DeviceCode) { w.press(c, upn, password, "continue") }, backup.ProblemDevicePending},
		{"person of another tenant", nil, func(w *world, c m365.DeviceCode) {
			w.press(c, "admin@fabrikamlegal.onmicrosoft.com", "Fabrikam-2026", "continue")
		}, backup.ProblemDevicePending},
		{"no public client", nil, func(w *world, c m365.DeviceCode) { w.fault(simulator.Fault{Name: "AADSTS7000218"}) }, backup.ProblemCredential},
	} {
		inBubble(t, test.name, func(t *testing.T) {
			w := newWorld(t, func(o *simulator.Options) {
				for i := range o.World.Tenants {
					if test.edit != nil && o.World.Tenants[i].ID == contoso {
						test.edit(&o.World.Tenants[i].TenantSettings)
					}
				}
			})
			code, err := w.client.StartDevice(t.Context(), contoso)
			if err != nil {
				t.Fatal(err)
			}
			test.act(w, code)
			_, err = w.client.PollDevice(t.Context(), contoso, code.DeviceCode)
			p := wantKind(t, "PollDevice", err, test.kind)
			if test.kind == backup.ProblemDeviceBlocked && !strings.Contains(p.Text, "Leave the policy as it is") {
				t.Errorf("text %q", p.Text)
			}
		})
	}
}
