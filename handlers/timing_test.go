package handlers_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"holdfast/handlers"
	"holdfast/store/storetest"
)

// BenchmarkSignInRatio says how much longer a wrong password takes for an address
// that somebody has than for one that nobody has: near to 1, or the time would
// tell who has an account.
func BenchmarkSignInRatio(b *testing.B) {
	st := storetest.Open(b)
	w := storetest.Fill(b, st)
	hash, err := handlers.HashPassword(b.Context(), portalPassword)
	if err != nil {
		b.Fatal(err)
	}
	if err := st.SetPassword(b.Context(), w.Ada.Person.ID, hash, ""); err != nil {
		b.Fatal(err)
	}
	h := (&handlers.Server{Store: st, SessionKey: []byte(strings.Repeat("s", 32)), PublicURL: "http://127.0.0.1", Log: slog.New(slog.DiscardHandler)}).Handler()
	try := func(mail string) time.Duration {
		form := url.Values{"email": {mail}, "password": {"not the password"}}
		r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/sign-in", strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		rec, start := httptest.NewRecorder(), time.Now()
		h.ServeHTTP(rec, r)
		took := time.Since(start)
		if rec.Code != http.StatusUnprocessableEntity {
			b.Fatalf("sign-in = %d", rec.Code)
		}
		// What is counted would hold the next tries back.
		if err := st.DeleteExpiredSessions(b.Context(), time.Now().Add(25*time.Hour)); err != nil {
			b.Fatal(err)
		}
		return took
	}
	var known, unknown time.Duration
	for i := 0; b.Loop(); i++ { // in turns, so that neither has the garbage of the other
		if i%2 == 0 {
			known += try(w.Ada.Person.Email)
		}
		unknown += try("nobody@contoso.example")
		if i%2 == 1 {
			known += try(w.Ada.Person.Email)
		}
	}
	b.ReportMetric(float64(known)/float64(unknown), "known/unknown")
}
