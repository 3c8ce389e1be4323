package handlers

import (
	"crypto/rand"
	"net/http"
	"slices"
	"time"

	"github.com/gorilla/securecookie"

	"holdfast/backup"
)

// browsers knows the browsers in which people have signed in before, by a
// signed cookie that outlives the sessions. It opens nothing: its tries to sign
// in are only counted apart, so that nobody else can use them up.
type browsers struct {
	codec  securecookie.Codec
	name   string
	secure bool
}

const (
	// browserLife is how long a browser is known after the last sign-in.
	browserLife = 180 * 24 * time.Hour
	// browserPeople is how many people a browser is known for.
	browserPeople = 4
)

// browserCookie is what the cookie says: for each person a name of the browser.
type browserCookie struct {
	People []backup.PersonID
	Names  []string
}

func newBrowsers(key []byte, secure bool) browsers {
	codec := securecookie.New(key, nil)
	codec.MaxAge(int(browserLife.Seconds()))
	b := browsers{codec: codec, name: "holdfast-browser", secure: secure}
	if secure {
		b.name = "__Host-holdfast-browser"
	}
	return b
}

func (b browsers) read(r *http.Request) browserCookie {
	var v browserCookie
	cookie, err := r.Cookie(b.name)
	if err != nil || b.codec.Decode(b.name, cookie.Value, &v) != nil || len(v.People) != len(v.Names) {
		return browserCookie{} // none, or not ours
	}
	return v
}

// of returns the name of a browser in which a person has signed in before, or "".
func (b browsers) of(r *http.Request, person backup.PersonID) string {
	v := b.read(r)
	if i := slices.Index(v.People, person); i >= 0 && person != "" {
		return v.Names[i]
	}
	return ""
}

// remember notes that a person has signed in with a browser.
func (b browsers) remember(w http.ResponseWriter, r *http.Request, person backup.PersonID) error {
	v := b.read(r)
	if i := slices.Index(v.People, person); i >= 0 {
		v.People, v.Names = slices.Delete(v.People, i, i+1), slices.Delete(v.Names, i, i+1)
	}
	v.People, v.Names = slices.Insert(v.People, 0, person), slices.Insert(v.Names, 0, rand.Text())
	n := min(len(v.People), browserPeople)
	v.People, v.Names = v.People[:n], v.Names[:n]
	value, err := b.codec.Encode(b.name, v)
	if err != nil {
		return err
	}
	http.SetCookie(w, &http.Cookie{Name: b.name, Value: value, Path: "/", MaxAge: int(browserLife.Seconds()), HttpOnly: true, Secure: b.secure, SameSite: http.SameSiteLaxMode}) //nolint:gosec // Secure unless the portal has no TLS
	return nil
}
