package backup_test

import (
	"testing"

	"holdfast/backup"
)

func TestParseIMAPAccounts(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		by    backup.IMAPSignIn
		want  []backup.IMAPAccount
		wrong []int
	}{
		"passwords":   {"ada@x.org,secret\nbob@x.org,bob,\"with,comma\"\n", backup.IMAPPassword, []backup.IMAPAccount{{Address: "ada@x.org", User: "ada@x.org", Secret: backup.Secret("secret")}, {Address: "bob@x.org", User: "bob", Secret: backup.Secret("with,comma")}}, nil},
		"headings":    {"\uFEFFemail;password\r\nada@x.org;geheim\r\n", backup.IMAPPassword, []backup.IMAPAccount{{Address: "ada@x.org", User: "ada@x.org", Secret: backup.Secret("geheim")}}, nil},
		"master":      {"ada@x.org\nbob@x.org,bob\n", backup.IMAPMaster, []backup.IMAPAccount{{Address: "ada@x.org", User: "ada@x.org"}, {Address: "bob@x.org", User: "bob"}}, nil},
		"tokens":      {"ada@x.org\nbob@x.org,bob,refresh\n", backup.IMAPOAuth, []backup.IMAPAccount{{Address: "ada@x.org", User: "ada@x.org"}, {Address: "bob@x.org", User: "bob", Secret: backup.Secret("refresh")}}, nil},
		"wrong lines": {"ada@x.org\n\n,secret\nADA@x.org,1\nada@x.org,2\na,b,c,d\nx\"y,1\nlast@x.org,3\n", backup.IMAPPassword, []backup.IMAPAccount{{Address: "ADA@x.org", User: "ADA@x.org", Secret: backup.Secret("1")}, {Address: "last@x.org", User: "last@x.org", Secret: backup.Secret("3")}}, []int{1, 3, 5, 6, 7}},
	} {
		got, wrong := backup.ParseIMAPAccounts(c.text, c.by)
		if len(got) != len(c.want) || len(wrong) != len(c.wrong) {
			t.Errorf("%s: %+v, wrong %+v; want %+v, wrong %v", name, got, wrong, c.want, c.wrong)
			continue
		}
		for i, a := range got {
			if a.Address != c.want[i].Address || a.User != c.want[i].User || a.Secret.Reveal() != c.want[i].Secret.Reveal() {
				t.Errorf("%s: account %d = %+v, want %+v", name, i, a, c.want[i])
			}
		}
		for i, w := range wrong {
			if w.Line != c.wrong[i] || w.Text == "" {
				t.Errorf("%s: wrong line %+v, want %d", name, w, c.wrong[i])
			}
		}
	}
}
