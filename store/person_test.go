package store_test

import (
	"database/sql"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/backup"
	"holdfast/store"
	"holdfast/store/storetest"
)

func TestPeopleAreFoundInAnyCaseAndOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, w := t.Context(), storetest.Fill(t, st)
		p, err := st.PersonByEmail(ctx, " ADA@Contoso.example ")
		if err != nil || p.Name != "Ada Lovelace" {
			t.Errorf("PersonByEmail = %+v, %v", p, err)
		}
		again := backup.Person{ID: "NEW", Name: "Ada Two", Email: "Ada@CONTOSO.example"}
		err = st.CreatePerson(ctx, again, backup.Membership{OrgID: w.Fabrikam.ID, Role: backup.RoleViewer}, w.Owner)
		if fields, ok := errors.AsType[backup.FieldErrors](err); !ok || fields["email"] == "" {
			t.Errorf("CreatePerson with a taken address = %v, want FieldErrors", err)
		}
		for name, m := range map[string]backup.Membership{
			"an owner of an organization": {OrgID: w.Contoso.ID, Role: backup.RoleOwner},
			"an admin of the partner":     {PartnerID: w.Owner.Partner.ID, Role: backup.RoleAdmin},
			"no role":                     {OrgID: w.Contoso.ID},
			"both":                        {OrgID: w.Contoso.ID, PartnerID: w.Owner.Partner.ID, Role: backup.RoleAdmin},
		} {
			if err := st.CreatePerson(ctx, backup.Person{ID: "X", Name: "X", Email: "x@example.org"}, m, w.Owner); err == nil {
				t.Errorf("%s was accepted", name)
			}
		}
		if n, err := st.CountPeople(ctx); err != nil || n != 3 {
			t.Errorf("CountPeople = %d, %v, want 3", n, err)
		}
	})
}

func TestASecondPartnerCannotBeSetUp(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		_, err := st.SetUpPartner(t.Context(), " ", backup.Person{Email: "nobody"})
		if fields, ok := errors.AsType[backup.FieldErrors](err); !ok || fields["partner"] == "" || fields["name"] == "" || fields["email"] == "" {
			t.Errorf("SetUpPartner = %v, want three fields", err)
		}
		storetest.Fill(t, st)
		if _, err := st.SetUpPartner(t.Context(), "Other", backup.Person{Name: "Eve", Email: "eve@example.org"}); !errors.Is(err, backup.ErrConflict) {
			t.Errorf("SetUpPartner = %v, want ErrConflict", err)
		}
	})
}

func TestOrganizationNamesAreUniqueAtThePartner(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w := storetest.Fill(t, st)
		_, err := st.CreateOrganization(t.Context(), backup.Organization{PartnerID: w.Owner.Partner.ID, Name: " CONTOSO "}, w.Owner)
		if fields, ok := errors.AsType[backup.FieldErrors](err); !ok || fields["name"] == "" {
			t.Errorf("CreateOrganization = %v, want FieldErrors", err)
		}
		err = st.RenameOrganization(t.Context(), w.Fabrikam.ID, "contoso", w.Owner)
		if fields, ok := errors.AsType[backup.FieldErrors](err); !ok || fields["name"] == "" {
			t.Errorf("RenameOrganization = %v, want FieldErrors", err)
		}
		_, err = st.CreateOrganization(t.Context(), backup.Organization{PartnerID: "no such partner", Name: "Lost"}, w.Owner)
		if !isNotFound(err) {
			t.Errorf("CreateOrganization of nobody = %v, want ErrNotFound", err)
		}
	})
}

// TestSetUpLinkWorksOnce lets many use one link at the same time.
func TestSetUpLinkWorksOnce(t *testing.T) {
	storetest.EachRaw(t, func(t *testing.T, st *store.Store, raw *sql.DB) {
		ctx := t.Context()
		token, err := st.NewSetUpLink(ctx, store.SetUpLink{Purpose: store.SetUpFirst, ExpiresAt: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		var found int
		if err := raw.QueryRowContext(ctx, `SELECT count(*) FROM set_up_links WHERE token_hash = $1`, token.Reveal()).Scan(&found); err != nil || found != 0 {
			t.Errorf("%d links are stored by their token, %v", found, err)
		}
		if l, err := st.SetUpLink(ctx, token.Reveal()); err != nil || l.Purpose != store.SetUpFirst {
			t.Errorf("SetUpLink = %+v, %v", l, err)
		}
		var wg sync.WaitGroup
		results := make(chan error, 8)
		for range cap(results) {
			wg.Go(func() {
				_, err := st.UseSetUpFirst(ctx, token.Reveal(), "Northwind", backup.Person{Name: "Dana", Email: "dana@example.org"})
				results <- err
			})
		}
		wg.Wait()
		close(results)
		worked := 0
		for err := range results {
			if err == nil {
				worked++
			} else if !isNotFound(err) {
				t.Errorf("UseSetUpFirst = %v, want ErrNotFound", err)
			}
		}
		if worked != 1 {
			t.Errorf("the link worked %d times, want once", worked)
		}
	})
}

// TestAnAddressIsClaimedOnce has one address invited to two places, and both
// invitations accepted at the same time.
func TestAnAddressIsClaimedOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, w := t.Context(), storetest.Fill(t, st)
		var tokens []string
		for _, org := range []backup.OrgID{w.Contoso.ID, w.Fabrikam.ID} {
			p := backup.Person{ID: backup.NewID[backup.PersonID](), Name: "Quinn", Email: "Quinn@litware.example"}
			if err := st.InvitePerson(ctx, p, backup.Membership{OrgID: org, Role: backup.RoleViewer}, w.Owner); err != nil {
				t.Fatal(err)
			}
			token, err := st.NewSetUpLink(ctx, store.SetUpLink{Purpose: store.SetUpPassword, PersonID: p.ID, ExpiresAt: time.Now().Add(time.Hour)})
			if err != nil {
				t.Fatal(err)
			}
			tokens = append(tokens, token.Reveal())
		}
		if place, err := st.PlaceOfAddress(ctx, w.Owner.Partner.ID, "quinn@litware.example"); !isNotFound(err) {
			t.Errorf("the address of an invitation belongs to %q, %v", place, err)
		}
		var wg sync.WaitGroup
		errs := make([]error, len(tokens))
		for i, token := range tokens {
			wg.Go(func() { _, errs[i] = st.UseSetUpPassword(ctx, token, "hash", "192.0.2.7") })
		}
		wg.Wait()
		won, lost := 0, 1
		if errs[0] != nil {
			won, lost = 1, 0
		}
		if errs[won] != nil || !isNotFound(errs[lost]) {
			t.Errorf("accepting both = %v and %v, want one and ErrNotFound", errs[won], errs[lost])
		}
		if l, err := st.SetUpLink(ctx, tokens[lost]); !isNotFound(err) {
			t.Errorf("the link of the other = %+v, %v, want ErrNotFound", l, err)
		}
		want := []string{w.Contoso.Name, w.Fabrikam.Name}[won]
		if place, err := st.PlaceOfAddress(ctx, w.Owner.Partner.ID, " QUINN@litware.example"); err != nil || place != want {
			t.Errorf("the address belongs to %q, %v, want %q", place, err, want)
		}
		if place, err := st.PlaceOfAddress(ctx, w.Owner.Partner.ID, w.Owner.Person.Email); err != nil || place != w.Owner.Partner.Name {
			t.Errorf("the owner's address belongs to %q, %v, want the partner", place, err)
		}
		if place, err := st.PlaceOfAddress(ctx, "another partner", w.Ada.Person.Email); !isNotFound(err) {
			t.Errorf("another partner reads %q, %v", place, err)
		}
	})
}

func TestASetUpLinkStaysWhenWhatWasTypedIsWrong(t *testing.T) {
	st := storetest.Open(t)
	token, err := st.NewSetUpLink(t.Context(), store.SetUpLink{Purpose: store.SetUpFirst, ExpiresAt: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.UseSetUpFirst(t.Context(), token.Reveal(), "", backup.Person{}); isNotFound(err) || err == nil {
		t.Errorf("UseSetUpFirst = %v, want FieldErrors", err)
	}
	if _, err := st.SetUpLink(t.Context(), token.Reveal()); err != nil {
		t.Errorf("the link is gone: %v", err)
	}
}

func TestPasswordLinkEndsSessionsAndExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		ctx, w := t.Context(), storetest.Fill(t, st)
		link := func() string {
			token, err := st.NewSetUpLink(ctx, store.SetUpLink{Purpose: store.SetUpPassword, PersonID: w.Ada.Person.ID, ExpiresAt: time.Now().Add(time.Hour)})
			if err != nil {
				t.Fatal(err)
			}
			return token.Reveal()
		}
		first, second := link(), link()
		if _, err := st.SetUpLink(ctx, first); !isNotFound(err) {
			t.Errorf("an earlier link = %v, want ErrNotFound", err)
		}
		if _, err := st.UseSetUpFirst(ctx, second, "Evil", backup.Person{Name: "Eve", Email: "eve@example.org"}); !isNotFound(err) {
			t.Errorf("a password link set up the partner: %v", err)
		}
		_, secret, err := st.CreateSession(ctx, backup.Session{PersonID: w.Ada.Person.ID, CreatedAt: time.Now(), ExpiresAt: time.Now().Add(24 * time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		if p, err := st.UseSetUpPassword(ctx, second, "hash", "192.0.2.7"); err != nil || p.ID != w.Ada.Person.ID || p.PasswordHash != "hash" {
			t.Errorf("UseSetUpPassword = %+v, %v", p, err)
		}
		if _, _, err := st.SessionBySecret(ctx, secret.Reveal()); !isNotFound(err) {
			t.Errorf("a session outlived the new password: %v", err)
		}
		third := link()
		time.Sleep(time.Hour)
		if _, err := st.SetUpLink(ctx, third); !isNotFound(err) {
			t.Errorf("an old link = %v, want ErrNotFound", err)
		}
		if _, err := st.UseSetUpPassword(ctx, third, "hash", ""); !isNotFound(err) {
			t.Errorf("an old link set a password: %v", err)
		}
	})
}
