package store_test

import (
	"database/sql"
	"errors"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/backup"
	"holdfast/store"
	"holdfast/store/storetest"
)

// signIn makes a session of a person that lasts a day.
func signIn(t *testing.T, st *store.Store, by *backup.Actor) (backup.SessionID, string) {
	t.Helper()
	now := time.Now()
	id, secret, err := st.CreateSession(t.Context(), backup.Session{PersonID: by.Person.ID, CreatedAt: now, ExpiresAt: now.Add(24 * time.Hour), Address: "192.0.2.1", Agent: "Firefox"})
	if err != nil {
		t.Fatal(err)
	}
	by.Session = id
	return id, secret.Reveal()
}

func TestSessionsEndWhenTheirOwnerSaysSo(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, w := t.Context(), storetest.Fill(t, st)
		laptop, laptopSecret := signIn(t, st, &w.Ada)
		phone, phoneSecret := signIn(t, st, &w.Ada)
		_, ottoSecret := signIn(t, st, &w.Otto)

		values := map[string]string{"flash": "Saved.", "empty": ""}
		if err := st.SaveSessionValues(ctx, laptop, values); err != nil {
			t.Fatal(err)
		}
		v, got, err := st.SessionBySecret(ctx, laptopSecret)
		if err != nil || v.ID != laptop || v.PersonID != w.Ada.Person.ID || !maps.Equal(got, values) {
			t.Errorf("SessionBySecret = %+v, %v, %v", v, got, err)
		}
		if _, _, err := st.SessionBySecret(ctx, string(laptop)); !isNotFound(err) {
			t.Errorf("a session opens by its id: %v", err)
		}
		if list, err := st.Sessions(ctx, w.Ada.Person.ID); err != nil || len(list) != 2 {
			t.Errorf("Sessions = %v, %v, want 2", list, err)
		}
		if err := st.EndSession(ctx, w.Otto.Person.ID, laptop); !isNotFound(err) {
			t.Errorf("somebody else ended a session: %v", err)
		}
		by := w.Ada
		by.Session = phone
		if err := st.EndOwnSession(ctx, w.Otto, laptop); !isNotFound(err) {
			t.Errorf("somebody else ended a session and said so: %v", err)
		}
		if err := st.EndOtherSessions(ctx, by); err != nil {
			t.Fatal(err)
		}
		if _, _, err := st.SessionBySecret(ctx, laptopSecret); !isNotFound(err) {
			t.Errorf("an ended session opens: %v", err)
		}
		for name, secret := range map[string]string{"the own session": phoneSecret, "another person's": ottoSecret} {
			if _, _, err := st.SessionBySecret(ctx, secret); err != nil {
				t.Errorf("%s ended: %v", name, err)
			}
		}
		if err := st.EndSession(ctx, w.Ada.Person.ID, phone); err != nil {
			t.Errorf("EndSession = %v", err)
		}
		if err := st.TouchSession(ctx, phone, time.Now().Add(time.Hour), "", ""); !isNotFound(err) {
			t.Errorf("an ended session was renewed: %v", err)
		}
	})
}

func TestSessionsAndFailuresExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		ctx, w := t.Context(), storetest.Fill(t, st)
		id, secret := signIn(t, st, &w.Ada)
		start := time.Now()
		for range 3 {
			if err := st.CountSignIn(ctx, "ada", time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(23 * time.Hour)
		if err := st.TouchSession(ctx, id, time.Now().Add(2*time.Hour), "192.0.2.2", strings.Repeat("é", 400)); err != nil {
			t.Fatal(err)
		}
		if err := st.CountSignIn(ctx, "ada", time.Now()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour + time.Minute)
		v, _, err := st.SessionBySecret(ctx, secret)
		if err != nil || v.Address != "192.0.2.2" || len(v.Agent) > 305 {
			t.Errorf("a renewed session = %+v, %v", v, err)
		}
		if err := st.DeleteExpiredSessions(ctx, time.Now()); err != nil {
			t.Fatal(err)
		}
		if n, err := st.FailedSignIns(ctx, "ada", start.Add(-time.Minute)); err != nil || n != 1 {
			t.Errorf("failures after a day = %d, %v, want 1", n, err)
		}
		time.Sleep(time.Hour)
		if _, _, err := st.SessionBySecret(ctx, secret); !isNotFound(err) {
			t.Errorf("an expired session opens: %v", err)
		}
		if err := st.ForgetSignIns(ctx, "ada"); err != nil {
			t.Fatal(err)
		}
		if n, err := st.FailedSignIns(ctx, "ada", start.Add(-time.Minute)); err != nil || n != 0 {
			t.Errorf("failures after a success = %d, %v, want none", n, err)
		}
		for range 2 {
			if err := st.CountSignIn(ctx, "ada", time.Now()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if err := st.ForgetSignIn(ctx, "ada", time.Now().Add(-time.Second)); err != nil {
			t.Fatal(err)
		}
		if n, err := st.FailedSignIns(ctx, "ada", start); err != nil || n != 1 {
			t.Errorf("failures after one of two tries succeeded = %d, %v, want 1", n, err)
		}
	})
}

// read returns who the session of a secret is now.
func read(t *testing.T, st *store.Store, secret string) backup.Actor {
	t.Helper()
	v, _, err := st.SessionBySecret(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	a, err := st.Actor(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestActingEndsByItselfAfterAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		ctx, w := t.Context(), storetest.Fill(t, st)
		_, secret := signIn(t, st, &w.Owner)
		if a := read(t, st, secret); a.Org.ID != "" || a.Role != backup.RoleOwner || a.Partner.Name != "Northwind" {
			t.Errorf("actor = %+v, want the partner's owner", a)
		}
		if _, err := st.StartActing(ctx, read(t, st, secret), w.Contoso.ID, "ticket 4711"); err != nil {
			t.Fatal(err)
		}
		a := read(t, st, secret)
		if a.Org.ID != w.Contoso.ID || a.OrgRole() != backup.RoleAdmin || a.Acting.Reason != "ticket 4711" {
			t.Errorf("actor = %+v, want admin of Contoso", a)
		}
		time.Sleep(backup.ActingMax - time.Second)
		if a := read(t, st, secret); a.Org.ID != w.Contoso.ID {
			t.Errorf("acting ended a second early: %+v", a)
		}
		time.Sleep(time.Second)
		if a := read(t, st, secret); a.Org.ID != "" || a.Acting.ID != "" {
			t.Errorf("acting lasts longer than an hour: %+v", a)
		}
	})
}

func TestActingIsForTheOwnOrganizationsWithAReason(t *testing.T) {
	storetest.EachRaw(t, func(t *testing.T, st *store.Store, raw *sql.DB) {
		ctx, w := t.Context(), storetest.Fill(t, st)
		_, secret := signIn(t, st, &w.Owner)
		_, adaSecret := signIn(t, st, &w.Ada)
		owner := read(t, st, secret)

		if _, err := st.StartActing(ctx, read(t, st, adaSecret), w.Fabrikam.ID, "curious"); !errors.Is(err, backup.ErrForbidden) {
			t.Errorf("an organization's admin acts: %v", err)
		}
		if _, err := st.StartActing(ctx, owner, w.Contoso.ID, " x "); err == nil {
			t.Error("acting without a reason")
		}
		stranger := owner
		stranger.Partner.ID = "another"
		if _, err := st.StartActing(ctx, stranger, w.Contoso.ID, "not mine"); !isNotFound(err) {
			t.Errorf("acting for another partner's organization = %v", err)
		}
		foreign := owner
		foreign.Session = read(t, st, adaSecret).Session
		if _, err := st.StartActing(ctx, foreign, w.Contoso.ID, "not my session"); !isNotFound(err) {
			t.Errorf("acting in another person's session = %v", err)
		}
		for _, org := range []backup.Organization{w.Contoso, w.Fabrikam} {
			if _, err := st.StartActing(ctx, owner, org.ID, "ticket"); err != nil {
				t.Fatal(err)
			}
		}
		var open int
		if err := raw.QueryRowContext(ctx, `SELECT count(*) FROM actings WHERE ended_at = 0`).Scan(&open); err != nil || open != 1 {
			t.Errorf("%d actings are open, %v, want the last one", open, err)
		}
		if err := st.StopActing(ctx, read(t, st, secret)); err != nil {
			t.Fatal(err)
		}
		if a := read(t, st, secret); a.Org.ID != "" {
			t.Errorf("after Stop acting the actor is %+v", a)
		}
		entries, _, err := st.Activity(ctx, "", w.Fabrikam.ID, store.ActivityQuery{Page: 1, Size: 2})
		if err != nil || len(entries) != 2 || entries[0].Kind != "acting.stop" || entries[1].Kind != "acting.start" {
			t.Fatalf("activity = %+v, %v", entries, err)
		}
		if e := entries[1]; e.Person != "Dana Ruiz (Northwind) <dana@northwind.example>" || e.ForPerson != "for Fabrikam" || e.Detail != "reason: ticket" {
			t.Errorf("entry = %+v", e)
		}
	})
}
