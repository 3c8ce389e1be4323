package store_test

import (
	"bytes"
	"database/sql"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/repo"
	"holdfast/store"
	"holdfast/store/storetest"
)

// TestSecretsAreNotInTheFile writes every kind of secret and looks for it in
// the bytes of the database and its log.
func TestSecretsAreNotInTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "holdfast.db")
	st := storetest.At(t, path)
	ctx, w := t.Context(), storetest.Fill(t, st)
	secret := func(name string) backup.Secret { return backup.Secret("very-secret-" + name) }
	conn, _ := storetest.Connect(t, st, w.Ada, "tenant-1", storetest.Account("a"))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(st.SaveSubApplication(ctx, backup.SubApplication{ID: "APP", OrgID: w.Contoso.ID, ConnectionID: conn.ID, Workload: backup.WorkloadMail, PrivateKey: secret("private-key")}))
	role := backup.CustomRole{OrgID: w.Contoso.ID, ConnectionID: conn.ID, Token: secret("token"), RefreshToken: secret("refresh")}
	must(st.SaveCustomRole(ctx, &role))
	auth, err := st.StartAuthorization(ctx, backup.Authorization{OrgID: w.Contoso.ID, Provider: backup.ProviderMicrosoft365, Step: backup.StepConsent,
		SignIn:     backup.SignInAttempt{Nonce: secret("nonce"), Verifier: secret("verifier")},
		Device:     backup.DeviceAttempt{UserCode: secret("user-code").Reveal(), DeviceCode: secret("device-code")},
		SetupToken: secret("setup"), RoleToken: secret("role"), RoleRefreshToken: secret("role-refresh")}, w.Ada)
	must(err)
	id, session := signIn(t, st, &w.Ada)
	must(st.SaveSessionValues(ctx, id, map[string]string{"k": secret("session-value").Reveal()}))
	link, err := st.NewSetUpLink(ctx, store.SetUpLink{Purpose: store.SetUpPassword, PersonID: w.Ada.Person.ID, ExpiresAt: time.Now().Add(time.Hour)})
	must(err)
	key, err := st.TenantKey(ctx, string(w.Contoso.ID), 0)
	must(err)

	for _, file := range []string{path, path + "-wal"} {
		data, err := os.ReadFile(file)
		must(err)
		if len(data) == 0 {
			t.Fatalf("%s is empty", file)
		}
		for name, bad := range map[string][]byte{"a secret": []byte("very-secret"), "a secret in base64": []byte(base64.StdEncoding.EncodeToString([]byte("very-secret"))[:12]),
			"a session": []byte(session), "a set-up link": link, "a repository key": key, "the root key": storetest.RootKey} {
			if bytes.Contains(data, bad) {
				t.Errorf("%s holds %s", filepath.Base(file), name)
			}
		}
	}
	got, err := st.Authorization(ctx, w.Contoso.ID, auth.ID)
	must(err)
	if got.SignIn.Nonce.Reveal() != "very-secret-nonce" || got.SignIn.Verifier.Reveal() != "very-secret-verifier" || got.Device.UserCode != "very-secret-user-code" ||
		got.Device.DeviceCode.Reveal() != "very-secret-device-code" || got.SetupToken.Reveal() != "very-secret-setup" || got.RoleToken.Reveal() != "very-secret-role" || got.RoleRefreshToken.Reveal() != "very-secret-role-refresh" {
		t.Error("an authorization does not come back with its secrets")
	}
	if r, err := st.CustomRole(ctx, w.Contoso.ID, conn.ID); err != nil || r.Token.Reveal() != "very-secret-token" || r.RefreshToken.Reveal() != "very-secret-refresh" {
		t.Errorf("custom role = %+v, %v", r, err)
	}
}

// TestASealedValueOpensOnlyInItsPlace copies ciphertext to another row.
func TestASealedValueOpensOnlyInItsPlace(t *testing.T) {
	storetest.EachRaw(t, func(t *testing.T, st *store.Store, raw *sql.DB) {
		ctx, w := t.Context(), storetest.Fill(t, st)
		for tenant, by := range map[string]backup.Actor{"tenant-1": w.Ada, "tenant-2": w.Otto} {
			conn, _ := storetest.Connect(t, st, by, tenant, storetest.Account(tenant))
			if err := st.SaveSubApplication(ctx, backup.SubApplication{ID: backup.SubApplicationID(tenant), OrgID: by.Org.ID, ConnectionID: conn.ID, Workload: backup.WorkloadMail, PrivateKey: backup.Secret("key of " + tenant)}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := raw.ExecContext(ctx, `UPDATE sub_applications SET private_key_sealed =
			(SELECT s.private_key_sealed FROM sub_applications s WHERE s.id = 'tenant-1') WHERE id = 'tenant-2'`); err != nil {
			t.Fatal(err)
		}
		conns, err := st.Connections(ctx, w.Fabrikam.ID)
		if err != nil {
			t.Fatal(err)
		}
		if apps, err := st.SubApplications(ctx, w.Fabrikam.ID, conns[0].ID); err == nil {
			t.Errorf("Fabrikam reads %q with Contoso's ciphertext", apps[0].PrivateKey.Reveal())
		}
	})
}

func TestRepositoryKeysAreMadeOnceAndDiffer(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx := t.Context()
		keys := make(chan []byte, 8)
		for range cap(keys) {
			go func() {
				key, err := st.TenantKey(ctx, "ORG", 0)
				if err != nil {
					t.Errorf("TenantKey = %v", err)
				}
				keys <- key
			}()
		}
		first := <-keys
		for range cap(keys) - 1 {
			if key := <-keys; !bytes.Equal(key, first) {
				t.Error("two keys were made for one organization")
			}
		}
		if len(first) != 32 {
			t.Errorf("a key of %d bytes, want 32", len(first))
		}
		seen := map[string]string{string(first): "the organization"}
		for name, get := range map[string]func() ([]byte, error){
			"another organization": func() ([]byte, error) { return st.TenantKey(ctx, "ORG2", 0) },
			"a mailbox":            func() ([]byte, error) { return st.SourceKey(ctx, "ORG", "BOX", 0) },
			"another mailbox":      func() ([]byte, error) { return st.SourceKey(ctx, "ORG", "BOX2", 0) },
			"a mailbox there":      func() ([]byte, error) { return st.SourceKey(ctx, "ORG2", "BOX", 0) },
		} {
			key, err := get()
			if err != nil {
				t.Fatal(err)
			}
			if other, ok := seen[string(key)]; ok {
				t.Errorf("%s has the key of %s", name, other)
			}
			seen[string(key)] = name
		}
		if _, err := st.TenantKey(ctx, "ORG", 1); !errors.Is(err, repo.ErrNoKey) {
			t.Errorf("key of an epoch that nobody began = %v, want ErrNoKey", err)
		}
		if epoch, err := st.Epoch(ctx, "ORG"); err != nil || epoch != 0 {
			t.Errorf("Epoch = %d, %v, want 0", epoch, err)
		}
		if _, err := st.SourceKey(ctx, "ORG", "", 0); err == nil {
			t.Error("a source key without a source")
		}
	})
}
