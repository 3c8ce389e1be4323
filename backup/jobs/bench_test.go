package jobs_test

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/m365"
	"holdfast/backup/m365/simulator"
	"holdfast/backup/repo"
	"holdfast/store/storetest"
)

const (
	benchTenant   = "contosodental.onmicrosoft.com"
	benchApp      = "99999999-2222-3333-4444-555555555555"
	benchSecret   = "bench-secret"
	connections   = 4 // what Microsoft allows per application and mailbox
	benchMessages = 1500
	starter       = "new.starter@" + benchTenant
)

// letters fills a mailbox as offices have them: 22 KB of text on average, 15 of
// 100 messages with an attachment of 120 KB on average.
func letters(b *testing.B, sim *simulator.Simulator) {
	b.Helper()
	if err := sim.Generate(benchTenant, starter, simulator.Generated{Count: benchMessages, Letters: true, Text: 16 << 10, Attachment: 72 << 10}); err != nil {
		b.Fatal(err)
	}
}

// testMail fills a mailbox with the messages of the test mail, which are real
// but small, several times, each with a header line of its own.
func testMail(b *testing.B, sim *simulator.Simulator) {
	b.Helper()
	files, err := filepath.Glob("../m365/simulator/testdata/mail/*/*.eml")
	if err != nil || len(files) == 0 {
		b.Fatal("no test mail", err)
	}
	for i := range benchMessages {
		raw, err := os.ReadFile(files[i%len(files)])
		if err != nil {
			b.Fatal(err)
		}
		if _, err := sim.Deliver(benchTenant, starter, "inbox", append(fmt.Appendf(nil, "X-Number: %d\r\n", i), raw...)); err != nil {
			b.Fatal(err)
		}
	}
}

// benchWorld is a simulated Microsoft with a mailbox of benchMessages.
func benchWorld(b *testing.B, fill func(*testing.B, *simulator.Simulator)) (*simulator.Simulator, *httptest.Server) {
	b.Helper()
	engine.TuneMemory() // as the program does, for both peers
	w := simulator.DefaultWorld()
	for i := range w.Tenants {
		w.Tenants[i].ReplicationDelay = 0
		if w.Tenants[i].Domain == benchTenant {
			w.Tenants[i].Apps = append(w.Tenants[i].Apps, simulator.WorldApplication{ID: benchApp, Name: "Bench", Secret: benchSecret, Certificate: true,
				Application: []string{"Mail.Read", "User.Read.All", "MailboxSettings.Read"}, Granted: true})
		}
	}
	sim, err := simulator.New(simulator.Options{World: w, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	fill(b, sim)
	server := httptest.NewTLSServer(sim) // as Graph, which there is only with TLS
	b.Cleanup(server.Close)
	return sim, server
}

// transport is what both read through.
func transport(server *httptest.Server) *http.Transport {
	t := server.Client().Transport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = connections
	return t
}

// bareClient reads every $value with the given number of connections and
// nothing else: the floor that a backup is measured against.
func bareClient(b *testing.B, server *httptest.Server) (bytes int64) {
	b.Helper()
	base := server.URL
	client := &http.Client{Transport: transport(server)}
	res, err := client.PostForm(base+"/"+simulator.HostLogin+"/"+benchTenant+"/oauth2/v2.0/token", url.Values{
		"grant_type": {"client_credentials"}, "client_id": {benchApp}, "client_secret": {benchSecret}, "scope": {"https://graph.microsoft.com/.default"}})
	if err != nil {
		b.Fatal(err)
	}
	var token struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(res.Body).Decode(&token); err != nil {
		b.Fatal(err)
	}
	res.Body.Close()
	get := func(address string) io.ReadCloser {
		req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, address, nil)
		if err != nil {
			b.Error(err)
			return nil
		}
		req.Header.Set("Authorization", "Bearer "+token.AccessToken)
		req.Header.Set("Prefer", `odata.maxpagesize=500, IdType="ImmutableId"`)
		res, err := client.Do(req)
		if err != nil || res.StatusCode != http.StatusOK {
			b.Errorf("%s: %v %v", address, res, err)
			return nil
		}
		return res.Body
	}
	box := base + "/" + simulator.HostGraph + "/v1.0/users/" + starter
	// The list comes first: Microsoft counts it among the four connections.
	ids := make(chan string, benchMessages)
	for next := box + "/mailFolders/inbox/messages/delta?$select=subject,isRead"; next != ""; {
		body := get(next)
		if body == nil {
			b.FailNow()
		}
		var page struct {
			Value []struct{ ID string }
			Next  string `json:"@odata.nextLink"`
		}
		err := json.NewDecoder(body).Decode(&page)
		body.Close()
		if err != nil {
			b.Fatal(err)
		}
		for _, m := range page.Value {
			ids <- m.ID
		}
		next = page.Next
	}
	close(ids)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			for id := range ids {
				body := get(box + "/messages/" + url.PathEscape(id) + "/$value")
				if body == nil {
					return
				}
				n, err := io.Copy(io.Discard, body)
				body.Close()
				if err != nil {
					b.Error(err)
				}
				mu.Lock()
				bytes += n
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return bytes
}

// newSource is the mailbox as the product reads it.
func newSource(b *testing.B, sim *simulator.Simulator, server *httptest.Server, upn string) engine.Source {
	b.Helper()
	base := server.URL
	secret, _, _ := sim.Client(simulator.MainClientID)
	client, err := m365.New(m365.Config{ClientID: simulator.MainClientID, Secret: backup.Secret(secret), RedirectURL: "http://127.0.0.1/setup/callback",
		LoginURL: base + "/" + simulator.HostLogin, GraphURL: base + "/" + simulator.HostGraph, ExchangeURL: base + "/" + simulator.HostExchange, Transport: transport(server), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	_, pem, _ := sim.Client(benchApp)
	certificate, err := m365.ParseCertificate(pem)
	if err != nil {
		b.Fatal(err)
	}
	app := backup.SubApplication{ID: "bench", AppID: benchApp, Certificate: certificate.DER, PrivateKey: pkcs8(b, certificate.Key), NotAfter: time.Now().Add(time.Hour)}
	return client.App(benchTenant, app).Mailbox(upn)
}

func pkcs8(b *testing.B, key *rsa.PrivateKey) backup.Secret {
	b.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		b.Fatal(err)
	}
	return der
}

func newEngine(b *testing.B) (*engine.Engine, storetest.World, *repo.Dir) {
	b.Helper()
	st := storetest.Open(b)
	w := storetest.Fill(b, st)
	dir, err := repo.OpenDir(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	r, err := repo.Open(b.Context(), dir, st, st, repo.Options{})
	if err != nil {
		b.Fatal(err)
	}
	return &engine.Engine{Repo: r, Catalog: st, Log: slog.New(slog.DiscardHandler)}, w, dir
}

// BenchmarkFirstBackupRatio compares a first backup with a bare client that
// reads the same bodies from the same simulator with as many connections,
// alternating. With real messages, of 3 KB on average, it must reach 0.6 of the
// client's rate. Letters of 50 KB have too much to compress for that as long as
// the simulator has its part of two processors: there the client takes about
// 0.48 ms of them for a message, 0.4 of it the simulator's, and the backup 1.05,
// of which zstd at its fastest has 0.22. Their bound only notices a loss.
func BenchmarkFirstBackupRatio(b *testing.B) {
	b.Run("test mail", func(b *testing.B) { firstBackupRatio(b, testMail, 0.6) })
	b.Run("letters", func(b *testing.B) { firstBackupRatio(b, letters, 0.37) })
}

func firstBackupRatio(b *testing.B, fill func(*testing.B, *simulator.Simulator), least float64) {
	b.Helper()
	sim, server := benchWorld(b, fill)
	const rounds = 21
	var ratios []float64
	var bare, full cost
	for b.Loop() {
		for round := range rounds {
			bareRound := spend(b, func() int64 { return bareClient(b, server) })
			eng, w, _ := newEngine(b)
			job := engine.Job{Org: w.Contoso.ID, Mailbox: backup.MailboxID(fmt.Sprint("box", round)), Source: newSource(b, sim, server, starter), Concurrency: connections}
			fullRound := spend(b, func() int64 {
				result, err := eng.Backup(b.Context(), job)
				if err != nil || result.Items != benchMessages {
					b.Fatalf("backup = %+v, %v", result, err)
				}
				return result.Run.ReadBytes
			})
			if bareRound.bytes != fullRound.bytes {
				b.Fatalf("the backup read %d bytes, the bare client %d", fullRound.bytes, bareRound.bytes)
			}
			ratios = append(ratios, bareRound.wall.Seconds()/fullRound.wall.Seconds())
			bare.add(bareRound)
			full.add(fullRound)
		}
	}
	slices.Sort(ratios)
	median := ratios[len(ratios)/2]
	b.ReportMetric(median, "of-bare-client")
	b.ReportMetric(bare.cpu.Seconds()/full.cpu.Seconds(), "of-bare-client-by-cpu")
	bare.report(b, "bare", len(ratios)*benchMessages)
	full.report(b, "backup", len(ratios)*benchMessages)
	if median < least {
		b.Errorf("a first backup runs at %.2f of a bare client's rate (%.2f), want %.2f; client: %s; backup: %s", median, ratios, least, bare, full)
	}
}

// cost is what reading a mailbox takes. The time of the processors includes the
// simulator's, which is the same for both; other work on the machine changes it
// less than the wall time.
type cost struct {
	bytes     int64
	wall, cpu time.Duration
}

func (c *cost) add(o cost) { c.bytes, c.wall, c.cpu = c.bytes+o.bytes, c.wall+o.wall, c.cpu+o.cpu }

func (c *cost) report(b *testing.B, name string, messages int) {
	b.ReportMetric(float64(c.bytes)/1e6/c.wall.Seconds(), name+"-MB/s")
	b.ReportMetric(c.cpu.Seconds()*1000/float64(messages), name+"-cpu-ms/message")
	b.ReportMetric(c.cpu.Seconds()/c.wall.Seconds(), name+"-cores")
}

// String is for a failure, which leaves no metrics.
func (c cost) String() string {
	return fmt.Sprintf("%.1f MB/s, %.1f ms of the processors for a MB, %.2f cores", float64(c.bytes)/1e6/c.wall.Seconds(), c.cpu.Seconds()*1e9/float64(c.bytes), c.cpu.Seconds()/c.wall.Seconds())
}

// spend measures f, which returns how many bytes it read.
func spend(b *testing.B, f func() int64) cost {
	b.Helper()
	runtime.GC() // what came before is not f's
	cpu, start := cpuTime(b), time.Now()
	n := f()
	return cost{n, time.Since(start), cpuTime(b) - cpu}
}

// cpuTime is the processor time that the process used.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkUnchangedRun counts what a run without changes costs: one request
// per folder and one for the list of folders, and nothing in the repository.
func BenchmarkUnchangedRun(b *testing.B) {
	sim, server := benchWorld(b, letters)
	eng, w, dir := newEngine(b)
	job := engine.Job{Org: w.Contoso.ID, Mailbox: "box", Source: newSource(b, sim, server, starter), Concurrency: connections}
	if _, err := eng.Backup(b.Context(), job); err != nil {
		b.Fatal(err)
	}
	size := stored(b, dir)
	asked := map[string]int{}
	requests := 0
	for b.Loop() {
		sim.ClearRequests()
		if _, err := eng.Backup(b.Context(), job); err != nil {
			b.Fatal(err)
		}
		clear(asked)
		requests = 0
		for _, r := range sim.Requests() {
			if r.Host == simulator.HostGraph {
				requests++
				asked[r.Path]++
			}
		}
	}
	b.ReportMetric(float64(requests), "requests")
	b.ReportMetric(float64(len(asked)-1), "folders")
	for path, n := range asked {
		if n > 1 || !strings.HasSuffix(path, "/delta") {
			b.Errorf("%s was asked for %d times, want one question for each folder and one for their list", path, n)
		}
	}
	if grown := stored(b, dir) - size; grown != 0 {
		b.Errorf("the repository grew by %d bytes, want none", grown)
	}
}

func stored(b *testing.B, dir *repo.Dir) (n int64) {
	b.Helper()
	for e, err := range dir.List(context.WithoutCancel(b.Context()), "") {
		if err != nil {
			b.Fatal(err)
		}
		n += e.Size
	}
	return n
}

// BenchmarkMemory backs up messages of 150 MiB, the largest that Graph takes, with
// four connections and reports the peak of the process, the simulator's part
// included. It must stay under 256 MiB.
func BenchmarkMemory(b *testing.B) {
	const most = 256
	sim, server := benchWorld(b, letters)
	upn := "dora@" + benchTenant
	if err := sim.Generate(benchTenant, upn, simulator.Generated{Count: 4, Text: 10 << 20, Attachment: 102 << 20}); err != nil {
		b.Fatal(err)
	}
	forgetPeak(b)
	for b.Loop() {
		eng, w, _ := newEngine(b)
		source := newSource(b, sim, server, upn)
		if _, err := eng.Backup(b.Context(), engine.Job{Org: w.Contoso.ID, Mailbox: "big", Source: source, Concurrency: connections}); err != nil {
			b.Fatal(err)
		}
	}
	peak := peakMiB(b)
	b.ReportMetric(peak, "peak-MiB")
	if peak > most {
		b.Errorf("peak memory is %.0f MiB, want at most %d", peak, most)
	}
}

// forgetPeak lets peakMiB begin with what the process needs now: other benchmarks
// may have run before (clear_refs of proc(5)).
func forgetPeak(b *testing.B) {
	b.Helper()
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		b.Skipf("the most memory of a process can't be measured here: %v", err)
	}
}

// peakMiB is the most memory that the process had since forgetPeak (VmHWM of
// proc(5)).
func peakMiB(b *testing.B) float64 {
	b.Helper()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip("no /proc on this system")
	}
	for line := range strings.SplitSeq(string(data), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err != nil {
				b.Fatal(err)
			}
			return kb / 1024
		}
	}
	b.Skip("no VmHWM")
	return 0
}
