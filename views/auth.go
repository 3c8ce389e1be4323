package views

import "holdfast/backup"

// SignIn is the sign-in form as it was filled in.
type SignIn struct {
	Email  string
	Next   string // where to go on afterwards
	Notice string // why the form is shown
	// Passkeys says that browsers can be asked for one at the portal's address.
	Passkeys  bool
	Providers []backup.SignInProvider // issuers to sign in with
	Fields    backup.FieldErrors
}

// SetUpLink is the form of a one-time link.
type SetUpLink struct {
	First   bool   // the first start: company and owner; else only a password
	Partner string // name of the company
	Name    string
	Email   string
	Fields  backup.FieldErrors
	// Token and Providers let the person use an issuer instead of a password.
	Token     string
	Providers []backup.SignInProvider
	Action    string // where the form goes, "" for the address of the page
}
