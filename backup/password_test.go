package backup_test

import (
	"testing"

	"holdfast/backup"
)

func TestCommonPasswordsAreRefused(t *testing.T) {
	for password, valid := range map[string]bool{
		"password1234": false, "Password!!!1234": false, "123456789012": false, "qwertyuiop123": false, "passwordpassword": false, "aaaaaaaaaaaa": false,
		"987654321098": false, "!!sunshine!!2026": false, "a few unrelated words": true, "correct horse battery": true, "Tr0ub4dor&3-elephants": true,
	} {
		if err := backup.ValidatePassword(password, "ada@example.org"); (err == nil) != valid {
			t.Errorf("%q: %v, want valid %t", password, err, valid)
		}
	}
}
