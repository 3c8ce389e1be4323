package repo_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

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

const workVariable = "HOLDFAST_TEST_WORK" // folder

// TestKilledWork is the process that TestKilledAtRandomMoments kills: it commits
// and lets commits expire until then, and says what is done.
func TestKilledWork(t *testing.T) {
	folder := os.Getenv(workVariable)
	if folder == "" {
		return // not a process of TestKilledAtRandomMoments
	}
	b := open(t, openDir(t, folder), keyStore{"k"})
	b.load(t)
	seq := int64(1)
	for c, err := range b.Commits(t.Context(), "org", "box", 0) {
		if err != nil {
			t.Fatal(err)
		}
		seq = c.Seq + 1
	}
	for ; ; seq++ {
		n := uint64(seq) //nolint:gosec // counted up from 1
		b.store(t, "org", "box", seq, noise(n, 60<<10), []byte(lines(noise(n+1000, 100<<10), 76, "\n")), noise(n/3, 5<<10))
		fmt.Println(seq)
		if seq%4 == 0 {
			if err := b.Expire(t.Context(), "org", "box", []repo.Span{{From: 1, To: seq - 2}}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestKilledAtRandomMoments kills a process at work on one repository again and
// again: what it said to be done is there, and all that is there is whole.
// HOLDFAST_TEST_KILLS says how often.
func TestKilledAtRandomMoments(t *testing.T) {
	kills := 8
	if n, err := strconv.Atoi(os.Getenv("HOLDFAST_TEST_KILLS")); err == nil {
		kills = n
	}
	path := filepath.Join(t.TempDir(), "repository")
	done := int64(0)
	for i := range kills {
		done = max(done, killAtWork(t, path))
		b := open(t, openDir(t, path), keyStore{"k"})
		report, err := b.Verify(t.Context(), "org", "box", repo.VerifyBlobs)
		if err != nil || len(report.Damaged) > 0 {
			t.Fatalf("kill %d: Verify = %+v, %v", i, report, err)
		}
		last := int64(0)
		for c, err := range b.Commits(t.Context(), "org", "box", 0) {
			if err != nil {
				t.Fatal(err)
			}
			last = c.Seq
		}
		if last < done {
			t.Fatalf("kill %d: the last commit is %d, and %d had been answered", i, last, done)
		}
	}
	if done == 0 {
		t.Error("nothing was done between the kills")
	}
}

// killAtWork lets a process work for a random time after its first commit, and
// returns the last commit that it said was done.
func killAtWork(t *testing.T, path string) (done int64) {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledWork$")
	child.Env = append(os.Environ(), workVariable+"="+path)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewScanner(out)
	for said.Scan() {
		n, err := strconv.ParseInt(said.Text(), 10, 64)
		if err != nil {
			t.Errorf("the process says %q", said.Text())
		}
		if done == 0 { // the moment is random on purpose
			time.AfterFunc(rand.N(200*time.Millisecond), func() { _ = child.Process.Kill() })
		}
		done = max(done, n)
	}
	if err := child.Wait(); err == nil {
		t.Error("the process ended by itself")
	}
	return done
}
