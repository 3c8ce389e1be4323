package backup

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxIMAPAccounts bounds a list of accounts.
const maxIMAPAccounts = 10_000

// LineError is a line of a list that can't be used.
type LineError struct {
	Line int
	Text string // a sentence that says why
}

// ParseIMAPAccounts reads a list of accounts, one a line, its columns separated by
// commas, semicolons or tabs:
//
//	address, password            with IMAPPassword; or address, user name, password
//	address                      with IMAPMaster; or address, user name
//	address                      with IMAPOAuth; or address, user name, refresh token
//
// A first line of headings is left out. It returns what can be used, and every
// line that can't, with its number.
func ParseIMAPAccounts(text string, by IMAPSignIn) ([]IMAPAccount, []LineError) {
	text = strings.TrimPrefix(text, "\uFEFF")
	r := csv.NewReader(strings.NewReader(text))
	r.FieldsPerRecord, r.TrimLeadingSpace, r.Comma = -1, true, separator(text)
	var list []IMAPAccount
	var wrong []LineError
	first := map[string]int{}
	for n := 0; ; n++ {
		fields, err := r.Read()
		if err == io.EOF {
			return list, wrong
		}
		line := 0
		if parse, ok := errors.AsType[*csv.ParseError](err); ok {
			wrong = append(wrong, LineError{parse.StartLine, "A quotation mark is not closed, or stands inside a value. Double it there and put the value into quotation marks."})
			continue
		}
		line, _ = r.FieldPos(0)
		if n == 0 && isHeading(fields) {
			continue
		}
		a, why := imapAccount(fields, by)
		switch at, twice := first[strings.ToLower(a.Address)]; {
		case why != "":
		case twice:
			why = fmt.Sprintf("%s is in line %d already.", a.Address, at)
		case len(list) >= maxIMAPAccounts:
			why = fmt.Sprintf("This is more than %d accounts. Add the rest afterwards.", maxIMAPAccounts)
		}
		if why != "" {
			wrong = append(wrong, LineError{line, why})
			continue
		}
		first[strings.ToLower(a.Address)] = line
		list = append(list, a)
	}
}

// separator is what the first line separates its columns with.
func separator(text string) rune {
	line, _, _ := strings.Cut(text, "\n")
	for _, c := range []rune{'\t', ';'} {
		if strings.ContainsRune(line, c) && !strings.ContainsRune(line, ',') {
			return c
		}
	}
	return ','
}

func isHeading(fields []string) bool {
	switch strings.ToLower(strings.TrimSpace(fields[0])) {
	case "address", "email", "e-mail", "mail", "mailbox", "user", "account":
		return true
	}
	return false
}

// imapAccount reads the columns of a line.
func imapAccount(fields []string, by IMAPSignIn) (a IMAPAccount, why string) {
	for len(fields) > 1 && fields[len(fields)-1] == "" {
		fields = fields[:len(fields)-1]
	}
	a.Address = strings.TrimSpace(fields[0])
	a.User = a.Address
	switch {
	case badLogin(a.Address):
		return a, "There is no address in the first column."
	case len(fields) > 3, by == IMAPMaster && len(fields) > 2:
		return a, "There are too many columns. A value with the separator in it has to be in quotation marks."
	case by == IMAPPassword && len(fields) == 1:
		return a, "There is no password in the last column."
	}
	if len(fields) == 3 || len(fields) == 2 && by != IMAPPassword {
		a.User = strings.TrimSpace(fields[1])
	}
	if len(fields) == 3 || len(fields) == 2 && by == IMAPPassword {
		a.Secret = Secret(fields[len(fields)-1])
	}
	if badLogin(a.User) {
		return a, "There is no user name in the second column."
	}
	if strings.ContainsAny(string(a.Secret), "\r\n\x00") {
		return a, "The password has a line break in it."
	}
	return a, ""
}

// Validate returns FieldErrors naming user or password if they break a rule, or
// nil. An empty password is the one that is kept.
func (a IMAPAccount) Validate() error {
	fields := FieldErrors{}
	if badLogin(a.User) {
		fields["user"] = "Enter the name that the account signs in with."
	}
	if strings.ContainsAny(string(a.Secret), "\r\n\x00") {
		fields["password"] = "The password has a line break in it."
	}
	return fields.OrNil()
}
