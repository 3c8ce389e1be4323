package main

import (
	"strings"
	"testing"
)

// TestBrowserEveryPageIsAccessible looks at the pages that no walk passes, as the
// partner's owner and as an admin, in both schemes and on a narrow screen.
func TestBrowserEveryPageIsAccessible(t *testing.T) {
	p := newPage(t, "")
	addr, sim := freeAddr(t), freeAddr(t)
	p.base = "http://" + addr
	startDemoAt(t, addr, sim, "-second-factor", "optional")
	defer p.quiet()
	for _, who := range []struct {
		mail  string
		paths []string
	}{
		{"dana@northwind.example", []string{"/partner/organizations/new", "/partner/support", "/partner/activity", "/partner/sign-in", "/partner/tokens",
			"/partner/settings", "/partner/settings/branding", "/partner/settings/storage", "/account", "/account/app"}},
		{"adele@contoso.example", []string{"/dashboard", "/browse", "/status", "/activity", "/settings", "/settings/credentials", "/settings/permissions",
			"/settings/notifications", "/settings/users", "/settings/sign-in", "/accounts", "/add-backup", "/add-backup/microsoft365"}},
	} {
		p.open("/sign-in").fill("input[name=email]", who.mail).fill("input[name=password]", demoPassword).press("Sign in").says("Sign out")
		for _, path := range who.paths {
			p.open(path).see("page-" + strings.ReplaceAll(path[1:], "/", "-"))
		}
		p.open("/account").press("Sign out").says("Sign in")
	}
}
