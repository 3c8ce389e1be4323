package repo_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"holdfast/backup/repo"
)

// deadly is a Storage that kills its process at an operation: before it, with
// half of a write done, or after it.
type deadly struct {
	repo.Storage
	count atomic.Int64
	at    int64
	when  string // before, half or after
}

func (d *deadly) op(half, do func() error) error {
	n := d.count.Add(1)
	if n == d.at && d.when != "after" {
		if d.when == "half" && half != nil {
			_ = half()
		}
		die()
	}
	err := do()
	if n == d.at {
		die()
	}
	return err
}

// die is what the power button does to a process: nothing runs any more.
func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

func (d *deadly) Create(ctx context.Context, key string) (repo.Upload, error) {
	var u repo.Upload
	err := d.op(nil, func() (err error) { u, err = d.Storage.Create(ctx, key); return err })
	return &deadlyUpload{u, d}, err
}

type deadlyUpload struct {
	repo.Upload
	d *deadly
}

func (u *deadlyUpload) Write(p []byte) (n int, err error) {
	half := func() error { _, err := u.Upload.Write(p[:len(p)/2]); return err }
	err = u.d.op(half, func() (err error) { n, err = u.Upload.Write(p); return err })
	return n, err
}

func (u *deadlyUpload) Commit(ctx context.Context) error {
	return u.d.op(nil, func() error { return u.Upload.Commit(ctx) })
}

const killVariable = "HOLDFAST_TEST_KILL" // folder:operation:when

// TestKilledRun is the process that TestKilledAtEveryPoint kills.
func TestKilledRun(t *testing.T) {
	folder, rest, ok := strings.Cut(os.Getenv(killVariable), ":")
	if !ok {
		return // not a process of TestKilledAtEveryPoint
	}
	at, when, _ := strings.Cut(rest, ":")
	n, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	b := open(t, &deadly{Storage: openDir(t, folder), at: n, when: when}, keyStore{"k"})
	b.load(t)
	for seq := range int64(2) {
		done, _, err := b.run(t.Context(), seq+1)
		if err != nil {
			t.Fatal(err)
		}
		b.index.Add("org", done.Objects)
	}
}

// TestKilledAtEveryPoint kills a process with two runs at each operation on the
// storage. What its commits refer to has to be whole, and the next run works.
func TestKilledAtEveryPoint(t *testing.T) {
	step := int64(1)
	if testing.Short() {
		step = 7
	}
	for _, when := range []string{"before", "half", "after"} {
		for n := int64(1); ; n += step {
			path := filepath.Join(t.TempDir(), "repository")
			child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledRun$")
			child.Env = append(os.Environ(), fmt.Sprintf("%s=%s:%d:%s", killVariable, path, n, when))
			out, err := child.CombinedOutput()
			killed := false
			if exit, ok := errors.AsType[*exec.ExitError](err); ok {
				status, _ := exit.Sys().(syscall.WaitStatus)
				killed = status.Signal() == syscall.SIGKILL
			}
			if err != nil && !killed {
				t.Fatalf("%s operation %d: %v\n%s", when, n, err, out)
			}
			commits := checkKilled(t, path, fmt.Sprintf("%s operation %d", when, n))
			if killed {
				continue
			}
			if commits != 2 {
				t.Errorf("the process that was not killed left %d commits, want 2", commits)
			}
			break
		}
	}
}

// checkKilled checks what is left, adds a commit, and returns how many there were.
func checkKilled(t *testing.T, path, when string) int {
	t.Helper()
	b := open(t, openDir(t, path), keyStore{"k"})
	b.load(t)
	report, err := b.Verify(t.Context(), "org", "box", repo.VerifyBlobs)
	if err != nil || len(report.Damaged) > 0 {
		t.Errorf("%s: Verify = %+v, %v", when, report, err)
	}
	done, contents, err := b.run(t.Context(), int64(report.Commits)+1)
	if err != nil {
		t.Fatalf("%s: the next run: %v", when, err)
	}
	b.index.Add("org", done.Objects)
	for _, c := range contents {
		if err := b.ReadContent(t.Context(), "org", "box", c, io.Discard); err != nil {
			t.Errorf("%s: content of the next run: %v", when, err)
		}
	}
	return report.Commits
}
