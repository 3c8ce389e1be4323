package views

import "holdfast/backup"

// Providers is the list of OpenID Connect issuers and the form of a new one.
type Providers struct {
	List      []backup.SignInProvider
	Path      string // of the page
	Callback  string // redirect address to register at the issuer
	PublicURL string
	New       backup.SignInProvider
	Fields    backup.FieldErrors
}
