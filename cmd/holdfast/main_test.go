package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/PuerkitoBio/goquery"

	"holdfast/backup/m365/simulator"
)

// TestMain lets the test binary be the program itself, so that tests can start
// it as processes and kill them.
func TestMain(m *testing.M) {
	if os.Getenv("HOLDFAST_TEST_PROGRAM") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// process is a running program.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	done chan struct{}

	mu  sync.Mutex
	log bytes.Buffer
}

// start runs the program with arguments and environment until the test ends
// or somebody kills it. first, if not nil, gets its first line of output.
func start(t *testing.T, env []string, first func(line string), args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: exec.CommandContext(context.WithoutCancel(t.Context()), self, args...), done: make(chan struct{})}
	p.cmd.Env = append(append(os.Environ(), "HOLDFAST_TEST_PROGRAM=1"), env...)
	p.cmd.Stderr = p
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if first != nil {
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatalf("%s printed nothing: %v\n%s", args[0], err, p.logged())
		}
		first(line)
	}
	go func() {
		_, _ = io.Copy(io.Discard, out) // until it ends
		_ = p.cmd.Wait()                // killed on purpose
		close(p.done)
	}()
	t.Cleanup(p.kill)
	return p
}

// Write keeps what the program logs.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *process) logged() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// kill ends the process with SIGKILL and waits until it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended already
	<-p.done
}

// startSimulator runs the simulated Microsoft as a process of its own.
func startSimulator(t *testing.T, portal string) simulator.Description {
	t.Helper()
	var there simulator.Description
	start(t, nil, func(line string) {
		if err := json.Unmarshal([]byte(line), &there); err != nil {
			t.Fatalf("the simulator printed %q: %v", line, err)
		}
	}, "simulator", "-addr", freeAddr(t), "-redirect", "http://"+portal+"/setup/callback")
	return there
}

// microsoftEnv is the registration at the simulated Microsoft as environment.
func microsoftEnv(there simulator.Description) []string {
	secret := ""
	for _, t := range there.Tenants {
		for _, c := range t.Clients {
			if c.ID == simulator.MainClientID {
				secret = c.Secret
			}
		}
	}
	return []string{
		"HOLDFAST_M365_CLIENT_ID=" + simulator.MainClientID, "HOLDFAST_M365_CLIENT_SECRET=" + secret,
		"HOLDFAST_M365_LOGIN_URL=" + there.Login, "HOLDFAST_M365_GRAPH_URL=" + there.Graph, "HOLDFAST_M365_EXCHANGE_URL=" + there.Exchange,
	}
}

// robot is a person who carries on whatever happens to the server: it asks
// again until the server answers, and does next what the page asks for.
type robot struct {
	t      *testing.T
	client *http.Client
	base   string
	at     *url.URL
	doc    *goquery.Document
}

func newRobot(t *testing.T, base string) *robot {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &robot{t: t, base: base, client: &http.Client{Jar: jar, Timeout: time.Minute}}
}

// patience is how long a robot waits for a server that does not answer.
const patience = 5 * time.Minute

// errAway says that a server did not answer a form. Whether it took it is seen
// on the page.
var errAway = errors.New("no answer")

func (r *robot) get(address string) {
	r.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		if err := r.do(http.MethodGet, address, nil); err == nil {
			return
		} else if time.Now().After(deadline) {
			r.t.Fatalf("%s: %v", address, err)
		}
		time.Sleep(30 * time.Millisecond) // the server starts
	}
}

func (r *robot) do(method, address string, form url.Values) error {
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	if r.at != nil {
		u = r.at.ResolveReference(u)
	}
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(r.t.Context(), method, u.String(), body)
	if err != nil {
		return err
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	res, err := r.client.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", errAway, err)
	}
	defer res.Body.Close()
	doc, err := goquery.NewDocumentFromReader(res.Body)
	if err != nil {
		return fmt.Errorf("%w: %w", errAway, err)
	}
	r.at, r.doc = res.Request.URL, doc
	return nil
}

// has says whether the page has a button with the words.
func (r *robot) button(text string) *goquery.Selection {
	return r.doc.Find("button").FilterFunction(func(_ int, s *goquery.Selection) bool {
		return strings.HasPrefix(strings.Join(strings.Fields(s.Text()), " "), text)
	}).First()
}

func (r *robot) has(text string) bool { return r.button(text).Length() > 0 }

func (r *robot) text() string { return strings.Join(strings.Fields(r.doc.Text()), " ") }

// press submits the form of a button, with fields filled in. If there is no
// answer, the page stays as it was.
func (r *robot) press(text string, fill url.Values) {
	r.t.Helper()
	b := r.button(text)
	if b.Length() == 0 {
		r.t.Fatalf("%s has no button %q: %s", r.at, text, r.text())
	}
	form, f := url.Values{}, b.Closest("form")
	f.Find("input").Each(func(_ int, s *goquery.Selection) {
		kind := s.AttrOr("type", "text")
		_, checked := s.Attr("checked")
		if _, off := s.Attr("disabled"); off || (kind == "checkbox" || kind == "radio") && !checked || s.AttrOr("name", "") == "" {
			return
		}
		form.Add(s.AttrOr("name", ""), s.AttrOr("value", ""))
	})
	if name := b.AttrOr("name", ""); name != "" {
		form.Set(name, b.AttrOr("value", ""))
	}
	for name, values := range fill {
		form[name] = values
	}
	if err := r.do(http.MethodPost, f.AttrOr("action", ""), form); err != nil && !errors.Is(err, errAway) {
		r.t.Fatal(err)
	}
}
