package backup

import (
	_ "embed"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// Password rules: length over composition, and none of those that are tried
// first (NIST SP 800-63B, section 5.1.1.2).
const (
	PasswordMin = 12  // characters
	PasswordMax = 256 // bytes, so that hashing stays cheap
)

//go:embed passwords/common.txt
var commonPasswords string

// common are the passwords that are tried first, in lower case.
var common = sync.OnceValue(func() map[string]bool {
	list := strings.Fields(commonPasswords)
	known := make(map[string]bool, len(list))
	for _, p := range list {
		known[p] = true
	}
	return known
})

// ValidatePassword returns FieldErrors for field "password" if the password
// breaks a rule, or nil. The e-mail address must not be the password.
func ValidatePassword(password, email string) error {
	fields := FieldErrors{}
	switch {
	case utf8.RuneCountInString(password) < PasswordMin:
		fields["password"] = "Choose a password of at least 12 characters. A few unrelated words are easy to remember."
	case len(password) > PasswordMax:
		fields["password"] = "Choose a password of at most 256 characters."
	case FoldEmail(password) == FoldEmail(email):
		fields["password"] = "Choose a password that is not your e-mail address."
	case commonPassword(password):
		fields["password"] = "This password is among the first that anybody tries. Choose another one: a few unrelated words are easy to remember."
	}
	return fields.OrNil()
}

// commonPassword says whether a password is one of the common ones, alone, over
// and over, or with figures and signs around it; or nothing but one character or
// a run of the keyboard's figures.
func commonPassword(password string) bool {
	folded := strings.ToLower(password)
	core := strings.TrimFunc(folded, func(r rune) bool { return !unicode.IsLetter(r) })
	for _, p := range []string{folded, core, unit(folded), unit(core)} {
		if common()[p] || p != "" && utf8.RuneCountInString(p) == 1 {
			return true
		}
	}
	return core == "" && (strings.Contains("01234567890123456789012345678901234567890", folded) || strings.Contains("98765432109876543210987654321098765432109", folded))
}

// unit is what a text repeats, or the text.
func unit(s string) string {
	for n := 1; n <= len(s)/2; n++ {
		if len(s)%n == 0 && strings.Repeat(s[:n], len(s)/n) == s {
			return s[:n]
		}
	}
	return s
}
