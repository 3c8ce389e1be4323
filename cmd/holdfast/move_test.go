package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/backup/repo"
	"holdfast/backup/repo/s3/s3test"
	"holdfast/backup/repo/storagetest"
)

// fillRepository makes a database and a repository with some snapshots in a
// data folder, as a server that ran does, and returns how to open it.
func fillRepository(t *testing.T) config {
	t.Helper()
	c := config{Data: t.TempDir()}
	st, eng := openConfig(t, c)
	if err := seedPerson(t, st); err != nil {
		t.Fatal(err)
	}
	orgs, err := st.AllOrganizations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	random := rand.NewChaCha8([32]byte{1})
	for box := range 4 {
		for seq := int64(1); seq <= 3; seq++ {
			w, err := eng.Repo.NewWriter(t.Context(), string(orgs[0].ID), fmt.Sprint("box-", box))
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				data := make([]byte, 2<<20)
				_, _ = random.Read(data) // never fails
				if _, err := w.PutContent(t.Context(), bytes.NewReader(data)); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := w.Commit(t.Context(), repo.Commit{Seq: seq, At: time.Now()}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	return c
}

// moveKilled moves a repository by a command that is killed at random moments
// until it once comes to its end, and returns how often it was killed.
func moveKilled(t *testing.T, env []string, args ...string) int {
	t.Helper()
	for n := 0; ; n++ {
		p := start(t, env, nil, args...)
		select {
		case <-p.done:
			if !p.cmd.ProcessState.Success() {
				t.Fatalf("%s: %v: %s", strings.Join(args, " "), p.cmd.ProcessState, p.logged())
			}
			return n
		case <-time.After(100*time.Millisecond + rand.N(time.Duration(100*(n+1))*time.Millisecond)): // the moments are random on purpose
			p.kill()
		}
	}
}

// movedTo checks that the new place has everything that the old one has, that
// it can be read, and that the old one is refused.
func movedTo(t *testing.T, old, now config) {
	t.Helper()
	_, eng := openConfig(t, now)
	from, err := repo.OpenDir(filepath.Join(old.Data, "repository"))
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	if err := now.complete(); err != nil {
		t.Fatal(err)
	}
	to, err := now.place.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(strings.Join(storagetest.Keys(t, from, ""), "\n"), "moved.json\n", "", 1)
	if got := strings.Join(storagetest.Keys(t, to, ""), "\n"); got != want {
		t.Errorf("the new place has\n%s\nwant\n%s", got, want)
	}
	tenants, err := eng.Repo.Tenants(t.Context())
	if err != nil || len(tenants) != 1 {
		t.Fatalf("tenants %q, %v; want one", tenants, err)
	}
	for box := range 4 {
		report, err := eng.Repo.Verify(t.Context(), tenants[0], fmt.Sprint("box-", box), repo.VerifyBlobs)
		if err != nil || report.Commits != 3 || len(report.Damaged) > 0 {
			t.Errorf("Verify = %+v, %v; want three whole commits", report, err)
		}
	}
	if err := old.complete(); err != nil {
		t.Fatal(err)
	}
	_, _, _, err = openData(t.Context(), old, slog.New(slog.DiscardHandler))
	if !errors.Is(err, repo.ErrMoved) || !strings.Contains(err.Error(), now.place.String()) {
		t.Errorf("the old place opens with %v, want ErrMoved and where to", err)
	}
}

func TestMoveToABucketKilledAtAnyMoment(t *testing.T) {
	old, bucket := fillRepository(t), s3test.Real(t).Bucket(t)
	now := old
	now.Repository, now.S3 = s3test.Address(bucket), s3Keys{s3test.AccessKey, s3test.SecretKey}
	n := moveKilled(t, s3test.Env(), "move", "-data", old.Data, "-to", now.Repository)
	t.Logf("killed %d times", n)
	movedTo(t, old, now)
}

func TestMoveToAFolderKilledAtAnyMoment(t *testing.T) {
	old := fillRepository(t)
	now := old
	now.Repository = filepath.Join(t.TempDir(), "elsewhere")
	n := moveKilled(t, nil, "move", "-data", old.Data, "-to", now.Repository)
	t.Logf("killed %d times", n)
	movedTo(t, old, now)
}

// TestReplicateSaysWhatIsWrong gives replicate what it can't do.
func TestReplicateSaysWhatIsWrong(t *testing.T) {
	c := fillRepository(t)
	folder := filepath.Join(c.Data, "repository")
	for want, args := range map[string][]string{
		"say where to copy":         {"-data", c.Data},
		"the same place":            {"-data", c.Data, "-to", folder},
		"there is no repository in": {"-data", c.Data, "-from", t.TempDir(), "-to", t.TempDir()},
		"there is no root key in":   {"-data", t.TempDir(), "-from", folder, "-to", t.TempDir()},
		"no snapshot can be read":   {"-data", otherData(t), "-from", folder, "-to", t.TempDir()},
		"neither a folder nor":      {"-data", c.Data, "-to", "https://example.org"},
	} {
		err := run(t.Context(), append([]string{"replicate"}, args...), func(string) string { return "" }, t.Output(), t.Output())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("replicate %q: %v, want %q in it", args, err, want)
		}
	}
	t.Chdir(c.Data)
	if err := run(t.Context(), []string{"replicate", "-data", c.Data, "-to", "repository"}, func(string) string { return "" }, t.Output(), t.Output()); err == nil || !strings.Contains(err.Error(), "the same place") {
		t.Errorf("replicate onto itself by another name: %v", err)
	}
	to := t.TempDir()
	if err := run(t.Context(), []string{"replicate", "-unchecked", "-data", t.TempDir(), "-from", folder, "-to", to}, func(string) string { return "" }, t.Output(), t.Output()); err != nil {
		t.Errorf("replicate without keys: %v", err)
	}
}

// otherData is the data folder of another Holdfast.
func otherData(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	st, _ := openConfig(t, config{Data: dir})
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}
