package backup_test

import (
	"strings"
	"testing"

	"holdfast/backup"
)

// FuzzIMAPAccounts reads any text as a list of accounts: each is one that can be
// used and comes once, and everything else has its line.
func FuzzIMAPAccounts(f *testing.F) {
	f.Add("address,password\nada@example.org,secret\n\"ben@example.org\",\"a,b\"\"c\"\n")
	f.Add("\uFEFFada@example.org\tada\tsecret\r\nben@example.org;x")
	f.Fuzz(func(t *testing.T, text string) {
		for _, by := range []backup.IMAPSignIn{backup.IMAPPassword, backup.IMAPMaster, backup.IMAPOAuth} {
			list, wrong := backup.ParseIMAPAccounts(text, by)
			seen := map[string]bool{}
			for _, a := range list {
				address := strings.ToLower(a.Address)
				if seen[address] || a.Address == "" || a.Validate() != nil {
					t.Errorf("%s: account %q for %q can't be used", by, a.Address, a.User)
				}
				seen[address] = true
			}
			for _, w := range wrong {
				if w.Line < 1 || w.Line > strings.Count(text, "\n")+strings.Count(text, "\r")+1 || w.Text == "" {
					t.Errorf("%s: line %d is wrong because %q", by, w.Line, w.Text)
				}
			}
		}
	})
}
