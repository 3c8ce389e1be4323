package store_test

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"testing"

	"filippo.io/age"
	"github.com/fxamacker/cbor/v2"

	"holdfast/backup"
	"holdfast/store"
	"holdfast/store/storetest"
)

// TestKitRoundTrip carries everything through a recovery kit into an empty
// store with another root key.
func TestKitRoundTrip(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, w := t.Context(), storetest.Fill(t, st)
		conn, accounts := storetest.Connect(t, st, w.Ada, "tenant-1", storetest.Account("a"), storetest.Account("b"))
		app := backup.SubApplication{ID: "APP", OrgID: w.Contoso.ID, ConnectionID: conn.ID, Workload: backup.WorkloadMail, PrivateKey: backup.Secret("private")}
		if err := st.SaveSubApplication(ctx, app); err != nil {
			t.Fatal(err)
		}
		key, err := st.SourceKey(ctx, string(w.Contoso.ID), string(accounts["a"].ID), 0)
		if err != nil {
			t.Fatal(err)
		}
		var kit bytes.Buffer
		made, err := st.WriteKit(ctx, &kit)
		if err != nil {
			t.Fatal(err)
		}
		if made.Organizations != 2 || made.Mailboxes != 2 || made.Keys != 1 {
			t.Errorf("the kit says %+v", made)
		}
		if checked, err := store.CheckKit(bytes.NewReader(kit.Bytes())); err != nil || checked != made {
			t.Errorf("CheckKit says %+v, %v; WriteKit said %+v", checked, err, made)
		}
		if _, err := st.ReadKit(ctx, storetest.RootKey, bytes.NewReader(kit.Bytes())); !errors.Is(err, backup.ErrConflict) {
			t.Errorf("a kit was imported into a store in use: %v", err)
		}

		path, root := filepath.Join(t.TempDir(), "new.db"), bytes.Repeat([]byte("n"), 32)
		fresh, err := store.Open(ctx, store.Config{URL: path, RootKey: root})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fresh.ReadKit(ctx, root, bytes.NewReader(kit.Bytes())); err != nil {
			t.Fatal(err)
		}
		if err := fresh.Close(); err != nil {
			t.Fatal(err)
		}
		if fresh, err = store.Open(ctx, store.Config{URL: path, RootKey: root}); err != nil {
			t.Fatalf("the new root key does not open the imported database: %v", err)
		}
		defer fresh.Close()
		if got, err := fresh.SourceKey(ctx, string(w.Contoso.ID), string(accounts["a"].ID), 0); err != nil || !bytes.Equal(got, key) {
			t.Errorf("the key of the mailbox is another one (%v)", err)
		}
		if m, err := fresh.Mailbox(ctx, w.Contoso.ID, accounts["b"].ID); err != nil || m.Address != accounts["b"].Address || !m.Selected {
			t.Errorf("the mailbox came back as %+v, %v", m, err)
		}
		apps, err := fresh.SubApplications(ctx, w.Contoso.ID, conn.ID)
		if err != nil || len(apps) != 1 || apps[0].PrivateKey.Reveal() != "private" {
			t.Errorf("the application came back as %+v, %v", apps, err)
		}
		if _, err := fresh.VerifyActivity(ctx, w.Owner.Partner.ID, w.Contoso.ID); err != nil {
			t.Errorf("the activity log is broken: %v", err)
		}
	})
}

// TestKitDamaged cuts and changes a kit: what is left is never imported.
func TestKitDamaged(t *testing.T) {
	st := storetest.Open(t)
	storetest.Fill(t, st)
	var buf bytes.Buffer
	if _, err := st.WriteKit(t.Context(), &buf); err != nil {
		t.Fatal(err)
	}
	kit := buf.Bytes()
	fresh := storetest.Open(t)
	for cut := 0; cut < len(kit); cut += 1 + len(kit)/200 {
		if _, err := fresh.ReadKit(t.Context(), storetest.RootKey, bytes.NewReader(kit[:cut])); err == nil {
			t.Fatalf("the first %d of %d bytes were imported", cut, len(kit))
		}
	}
	// The end has a sum of all before it, and by itself counts the rows.
	end := kitEnd(t, kit)
	for at := 0; at < end; at += 1 + end/500 {
		harmed := bytes.Clone(kit)
		harmed[at] ^= 1
		if _, err := fresh.ReadKit(t.Context(), storetest.RootKey, bytes.NewReader(harmed)); err == nil {
			t.Fatalf("a kit with another byte %d of %d was imported", at, len(kit))
		}
	}
	// As people hold it, in a file of age, no byte can be another one.
	identity, file := aged(t, kit)
	for at := 0; at < len(file); at += 1 + len(file)/100 {
		for name, harm := range map[string]func([]byte) []byte{
			"flipped": func(d []byte) []byte { d[at] ^= 1; return d },
			"zeroed":  func(d []byte) []byte { clear(d[at:min(at+10, len(d))]); return d },
			"without": func(d []byte) []byte { return append(d[:at], d[at+1:]...) },
		} {
			opened, err := age.Decrypt(bytes.NewReader(harm(bytes.Clone(file))), identity)
			if err == nil {
				_, err = fresh.ReadKit(t.Context(), storetest.RootKey, opened)
			}
			if err == nil {
				t.Fatalf("a kit %s at byte %d of %d was imported", name, at, len(file))
			}
		}
	}
	if n, err := fresh.CountPeople(t.Context()); err != nil || n != 0 {
		t.Errorf("a refused kit left %d people (%v)", n, err)
	}
	if _, err := fresh.ReadKit(t.Context(), storetest.RootKey, bytes.NewReader(kit)); err != nil {
		t.Errorf("the whole kit is refused after the damaged ones: %v", err)
	}
}

// kitEnd is where the last record of a kit begins.
func kitEnd(t *testing.T, kit []byte) (at int) {
	t.Helper()
	in := cbor.NewDecoder(bytes.NewReader(kit))
	for {
		var raw cbor.RawMessage
		if err := in.Decode(&raw); errors.Is(err, io.EOF) {
			return at
		} else if err != nil {
			t.Fatal(err)
		}
		at = len(kit) - len(raw)
	}
}

// TestAKitWithoutASumIsRead imports a kit as older versions wrote it.
func TestAKitWithoutASumIsRead(t *testing.T) {
	st := storetest.Open(t)
	storetest.Fill(t, st)
	var buf bytes.Buffer
	want, err := st.WriteKit(t.Context(), &buf)
	if err != nil {
		t.Fatal(err)
	}
	kit := buf.Bytes()[:kitEnd(t, buf.Bytes())]
	end, err := cbor.Marshal(map[int]any{4: true, 5: want.Rows})
	if err != nil {
		t.Fatal(err)
	}
	got, err := storetest.Open(t).ReadKit(t.Context(), storetest.RootKey, bytes.NewReader(append(kit, end...)))
	if err != nil || got.Rows != want.Rows {
		t.Errorf("ReadKit = %+v, %v; want %d rows", got, err, want.Rows)
	}
}

// aged is a kit in a file of age, and who opens it.
func aged(t *testing.T, kit []byte) (age.Identity, []byte) {
	t.Helper()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	w, err := age.Encrypt(&file, identity.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(kit); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return identity, file.Bytes()
}

func FuzzKit(f *testing.F) {
	f.Add([]byte("holdfast recovery kit"))
	f.Add([]byte{0xa6, 0x01, 0x75})
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := store.CheckKit(bytes.NewReader(data)); err == nil {
			t.Error("bytes without a keyset are a kit")
		}
	})
}
