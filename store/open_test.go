package store_test

import (
	"bytes"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pressly/goose/v3"

	"holdfast/backup"
	"holdfast/store"
	"holdfast/store/storetest"
)

func TestOpenMakesADatabaseThatOnlyTheOwnerCanRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new folder", "what? #1%41;b.db")
	st := storetest.At(t, path)
	w := storetest.Fill(t, st)
	st.Close()

	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o600 {
		t.Errorf("mode = %o, want 600", got)
	}
	again := storetest.At(t, path)
	o, err := again.OrganizationByID(t.Context(), w.Contoso.ID)
	if err != nil || o.Name != "Contoso" {
		t.Errorf("after a restart the organization is %q, %v", o.Name, err)
	}
}

func TestOpenAgainChangesNothing(t *testing.T) {
	storetest.EachRaw(t, func(t *testing.T, st *store.Store, raw *sql.DB) {
		var before, after int
		const versions = `SELECT count(*) FROM goose_db_version`
		if err := raw.QueryRowContext(t.Context(), versions).Scan(&before); err != nil {
			t.Fatal(err)
		}
		storetest.Fill(t, st)
		if err := raw.QueryRowContext(t.Context(), versions).Scan(&after); err != nil || after != before || after < 2 {
			t.Errorf("migrations %d, then %d, %v", before, after, err)
		}
	})
}

// TestOpenRefuses holds what an operator reads when a database can't be used.
func TestOpenRefuses(t *testing.T) {
	fill := func(t *testing.T, path string) {
		st := storetest.At(t, path)
		storetest.Fill(t, st)
		st.Close()
	}
	execute := func(t *testing.T, path, statement string) {
		db, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	overwrite := func(t *testing.T, path string, offset int64, data []byte) {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt(data, offset); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name   string
		spoil  func(t *testing.T, path string)
		key    string
		says   string
		advice string
	}{
		{"garbage", func(t *testing.T, path string) {
			overwrite(t, path, 0, bytes.Repeat([]byte("no database "), 1000))
		}, "k", "is damaged", "put a backup copy"},
		{"overwritten schema", func(t *testing.T, path string) {
			fill(t, path)
			overwrite(t, path, 100, bytes.Repeat([]byte{0xff}, 30000))
		}, "k", "is damaged", "put a backup copy"},
		{"cut off", func(t *testing.T, path string) {
			fill(t, path)
			if err := os.Truncate(path, 6000); err != nil {
				t.Fatal(err)
			}
		}, "k", "is damaged", "put a backup copy"},
		{"newer", func(t *testing.T, path string) {
			fill(t, path)
			execute(t, path, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9001, TRUE)`)
		}, "k", "newer version of Holdfast", "start that version"},
		{"another program's", func(t *testing.T, path string) {
			execute(t, path, `CREATE TABLE bookmarks (id INTEGER PRIMARY KEY)`)
		}, "k", "database of another program", "name another file"},
		{"another root key", fill, "x", "root key does not belong to this database", "put the key file back"},
		{"a folder", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "k", "open the database", path0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "holdfast.db")
			tt.spoil(t, path)
			st, err := store.Open(t.Context(), store.Config{URL: path, RootKey: []byte(strings.Repeat(tt.key, 32))})
			if err == nil {
				st.Close()
				t.Fatal("Open accepted it")
			}
			if !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), tt.advice) {
				t.Errorf("error = %q, want %q and %q", err, tt.says, tt.advice)
			}
			if tt.name != "another root key" && !strings.Contains(err.Error(), path) {
				t.Errorf("error = %q does not name the file", err)
			}
		})
	}
}

// TestAnUpgradeThatDiesBetweenLeavesNoBrokenLog takes a database back to before
// activity logs were sealed, has the update die while it seals them, and starts
// again.
func TestAnUpgradeThatDiesBetweenLeavesNoBrokenLog(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "holdfast.db")
	st := storetest.At(t, path)
	w := storetest.Fill(t, st)
	st.Close()
	raw, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	do := func(statements ...string) {
		t.Helper()
		for _, s := range statements {
			if _, err := raw.ExecContext(ctx, s); err != nil {
				t.Fatalf("%s: %v", s, err)
			}
		}
	}
	schema, err := goose.NewProvider(goose.DialectSQLite3, raw, os.DirFS("migrations"), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := schema.DownTo(ctx, 38); err != nil {
		t.Fatal(err)
	}
	// The second log that is sealed is the last that happens.
	do(`CREATE TABLE sealed_logs (n INTEGER)`, `CREATE TRIGGER crash BEFORE UPDATE ON activity_heads WHEN (SELECT count(*) FROM sealed_logs) = 1 BEGIN SELECT RAISE(ABORT, 'the power is gone'); END`,
		`CREATE TRIGGER tally AFTER UPDATE ON activity_heads BEGIN INSERT INTO sealed_logs VALUES (1); END`)
	_, err = store.Open(ctx, store.Config{URL: path, RootKey: storetest.RootKey})
	if err == nil || !strings.Contains(err.Error(), "the power is gone") {
		t.Fatalf("Open = %v, want it to die", err)
	}
	do(`DROP TRIGGER crash`, `DROP TRIGGER tally`, `DROP TABLE sealed_logs`)
	for range 2 { // the start after it, and one more
		st = storetest.At(t, path)
		for _, org := range []backup.OrgID{w.Contoso.ID, w.Fabrikam.ID, ""} {
			if n, err := st.VerifyActivity(ctx, w.Owner.Partner.ID, org); err != nil || n == 0 {
				t.Errorf("the log of %q = %d, %v", org, n, err)
			}
		}
		if err := st.RecordBy(ctx, w.Ada, w.Contoso.ID, "test", "after the update", ""); err != nil {
			t.Fatal(err)
		}
		st.Close()
	}
	// A seal that is taken away later is not made anew.
	do(`UPDATE activity_heads SET sealed = NULL WHERE chain = 'org/` + string(w.Contoso.ID) + `'`)
	st = storetest.At(t, path)
	if _, err := st.VerifyActivity(ctx, "", w.Contoso.ID); !errors.Is(err, store.ErrBroken) {
		t.Errorf("without its seal = %v, want ErrBroken", err)
	}
}

// path0 is part of every path of a database here.
const path0 = "holdfast.db"

func TestOpenRefusesANewerPostgres(t *testing.T) {
	address := storetest.Postgres(t)
	storetest.At(t, address).Close()
	db, err := sql.Open("pgx", address)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9001, TRUE)`); err != nil {
		t.Fatal(err)
	}
	_, err = store.Open(t.Context(), store.Config{URL: address, RootKey: storetest.RootKey})
	if err == nil || !strings.Contains(err.Error(), "newer version of Holdfast") {
		t.Errorf("Open = %v, want a refusal", err)
	}
	if err != nil && strings.Contains(err.Error(), "postgres://") {
		t.Errorf("error = %q shows the address, which may hold a password", err)
	}
}

func TestOpenSaysThatPostgresIsAway(t *testing.T) {
	_, err := store.Open(t.Context(), store.Config{URL: "postgres://holdfast:geheim@127.0.0.1:1/db?connect_timeout=2", RootKey: storetest.RootKey})
	if err == nil || !strings.Contains(err.Error(), "cannot be reached") || strings.Contains(err.Error(), "geheim") {
		t.Errorf("Open = %v", err)
	}
	_, err = store.Open(t.Context(), store.Config{URL: "postgres://%zz:geheim@x", RootKey: storetest.RootKey})
	if err == nil || !strings.Contains(err.Error(), "postgres://user:password@host/name") || strings.Contains(err.Error(), "geheim") {
		t.Errorf("Open = %v", err)
	}
}

// TestAnyTextIsKeptOrNotFound sends what PostgreSQL refuses in text.
func TestAnyTextIsKeptOrNotFound(t *testing.T) {
	const odd = "a\x00b\xffc"
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, w := t.Context(), storetest.Fill(t, st)
		if _, err := st.PersonByEmail(ctx, odd); !isNotFound(err) {
			t.Errorf("PersonByEmail = %v", err)
		}
		if _, err := st.Mailbox(ctx, w.Contoso.ID, odd); !isNotFound(err) {
			t.Errorf("Mailbox = %v", err)
		}
		if err := st.SetMailboxDeactivated(ctx, w.Contoso.ID, odd, true, w.Ada); !isNotFound(err) {
			t.Errorf("SetMailboxDeactivated = %v", err)
		}
		if err := st.EndSession(ctx, w.Ada.Person.ID, odd); !isNotFound(err) {
			t.Errorf("EndSession = %v", err)
		}
		if page, err := st.Mailboxes(ctx, w.Contoso.ID, store.MailboxQuery{Search: odd, Page: 1 << 62}); err != nil || page.Total != 0 {
			t.Errorf("Mailboxes = %v, %v", page, err)
		}
		if err := st.CountSignIn(ctx, odd, time.Now()); err != nil {
			t.Errorf("CountSignIn = %v", err)
		}
		if n, err := st.FailedSignIns(ctx, odd, w.Contoso.CreatedAt); err != nil || n != 1 {
			t.Errorf("FailedSignIns = %d, %v", n, err)
		}
		if _, _, err := st.CreateSession(ctx, backup.Session{Agent: odd, Address: odd}); err != nil {
			t.Errorf("CreateSession = %v", err)
		}
		if err := st.RecordBy(ctx, w.Ada, w.Contoso.ID, "test", odd, odd); err != nil {
			t.Errorf("RecordBy = %v", err)
		}
		if _, err := st.VerifyActivity(ctx, "", w.Contoso.ID); err != nil {
			t.Errorf("VerifyActivity = %v", err)
		}
		_, boxes := storetest.Connect(t, st, w.Ada, "tenant-1", backup.Mailbox{ProviderID: "p", Name: odd, Address: odd, Kind: backup.KindUser, Licence: backup.LicenceValid})
		if got := boxes["p"].Name; got != "a\uFFFDb\uFFFDc" {
			t.Errorf("name = %q", got)
		}
	})
}

func TestADatabaseOfAnUnknownKindIsNoFile(t *testing.T) {
	t.Chdir(t.TempDir())
	st, err := store.Open(t.Context(), store.Config{URL: "mysql://db.example.org/holdfast", RootKey: bytes.Repeat([]byte("k"), 32)})
	if err == nil {
		st.Close()
		t.Fatal("Open accepted it")
	}
	if !strings.Contains(err.Error(), "mysql://") || !strings.Contains(err.Error(), "name a SQLite file") {
		t.Errorf("error = %q", err)
	}
	if _, err := os.Stat("mysql:"); err == nil {
		t.Error("a folder was made of the address")
	}
}
