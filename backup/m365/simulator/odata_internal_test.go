package simulator

import "testing"

func TestFilters(t *testing.T) {
	o := object{"id": "1", "displayName": "Ada O'Neil", "accountEnabled": true, "userType": "Guest", "mail": nil, "tags": []string{"a", "holdfast:1"}, "createdDateTime": "2026-01-02T00:00:00Z"}
	for text, want := range map[string]bool{
		"displayName eq 'Ada O''Neil'":                           true,
		"displayName eq 'ada o''neil'":                           true,
		"startswith(displayName,'Ad')":                           true,
		"accountEnabled eq false":                                false,
		"mail eq null":                                           true,
		"tags/any(t:t eq 'holdfast:1')":                          true,
		"tags/any(t:t eq 'holdfast:2')":                          false,
		"(userType ne 'Guest' or id eq '1') and not (id eq '2')": true,
		"id in ('2','1')":                                        true,
		"createdDateTime ge 2026-01-01T00:00:00Z":                true,
		"createdDateTime lt 2026-01-01T00:00:00Z":                false,
		"accountEnabled eq false OR userType eq 'Guest'":         true,
	} {
		f, err := parseFilter(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := f.match(o); err != nil || got != want {
			t.Errorf("%s = %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "displayName", "displayName eq", "displayName like 'x'", "displayName eq 'x", "(id eq '1'", "id eq '1' id", "tags/all(t:t eq 'x')", "startswith(id)"} {
		if _, err := parseFilter(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func FuzzFilter(f *testing.F) {
	f.Add("tags/any(t:t eq 'x') and not (id in ('1')) or startswith(a,'b')")
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := parseFilter(text); err == nil {
			p.match(object{"id": "1", "tags": []string{"x"}}) //nolint:errcheck // it must only not panic
		}
	})
}

func TestPathsHaveOneSpelling(t *testing.T) {
	for path, want := range map[string]string{
		"/users('a%40b')/mailboxSettings":              "users|a@b|mailboxSettings",
		"/users/delta()":                               "users|delta",
		"/users/microsoft.graph.delta":                 "users|delta",
		"/applications(appId='1-2')":                   "applications(appId)|1-2",
		"/directory/deletedItems/microsoft.graph.user": "directory|deletedItems|microsoft.graph.user",
		"/users/a%2Fb/mailFolders/AAMk=":               "users|a/b|mailFolders|AAMk=",
		"/reports/getMailboxUsageDetail(period='D7')":  "reports|getMailboxUsageDetail(period)|D7",
		"/users('o''neil@x')":                          "users|o'neil@x",
	} {
		got := ""
		for i, s := range splitPath(path) {
			if i > 0 {
				got += "|"
			}
			got += s
		}
		if got != want {
			t.Errorf("%s = %s, want %s", path, got, want)
		}
	}
}
