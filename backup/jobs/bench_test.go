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
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
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

// benchWorld is a simulated Microsoft with a mailbox of realistic sizes: 22 KB
// of text on average, every seventh message with an attachment of 120 KB.
func benchWorld(b *testing.B) (*simulator.Simulator, string) {
	b.Helper()
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
	if err := sim.Generate(benchTenant, starter, simulator.Generated{Count: benchMessages, Text: 22 << 10, Attachment: 120 << 10, AttachEvery: 7}); err != nil {
		b.Fatal(err)
	}
	server := httptest.NewServer(sim)
	b.Cleanup(server.Close)
	return sim, server.URL
}

// bareClient reads every $value with the given number of connections and
// nothing else: the floor that a backup is measured against.
func bareClient(b *testing.B, base string) (bytes int64, took time.Duration) {
	b.Helper()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections}}
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
	start := time.Now()
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
	return bytes, time.Since(start)
}

// newSource is the mailbox as the product reads it.
func newSource(b *testing.B, sim *simulator.Simulator, base, upn string) engine.Source {
	b.Helper()
	secret, _, _ := sim.Client(simulator.MainClientID)
	client, err := m365.New(m365.Config{ClientID: simulator.MainClientID, Secret: backup.Secret(secret), RedirectURL: "http://127.0.0.1/setup/callback",
		LoginURL: base + "/" + simulator.HostLogin, GraphURL: base + "/" + simulator.HostGraph, ExchangeURL: base + "/" + simulator.HostExchange, Log: slog.New(slog.DiscardHandler)})
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
// alternating. It must reach 0.6 of its rate.
func BenchmarkFirstBackupRatio(b *testing.B) {
	const least = 0.6
	sim, base := benchWorld(b)
	rounds, ratios := 3, []float64{}
	var rates [2]float64
	for b.Loop() {
		for round := range rounds {
			bytes, bare := bareClient(b, base)
			eng, w, _ := newEngine(b)
			start := time.Now()
			result, err := eng.Backup(b.Context(), engine.Job{Org: w.Contoso.ID, Mailbox: backup.MailboxID(fmt.Sprint("box", round)), Source: newSource(b, sim, base, starter), Concurrency: connections})
			if err != nil || result.Items != benchMessages {
				b.Fatalf("backup = %+v, %v", result, err)
			}
			took := time.Since(start)
			ratios = append(ratios, bare.Seconds()/took.Seconds())
			rates = [2]float64{float64(bytes) / 1e6 / bare.Seconds(), float64(bytes) / 1e6 / took.Seconds()}
		}
	}
	slices.Sort(ratios)
	median := ratios[len(ratios)/2]
	b.ReportMetric(median, "of-bare-client")
	b.ReportMetric(rates[0], "bare-MB/s")
	b.ReportMetric(rates[1], "backup-MB/s")
	if median < least {
		b.Errorf("a first backup runs at %.2f of a bare client's rate (%.1f of %.1f MB/s), want %.2f", median, rates[1], rates[0], least)
	}
}

// BenchmarkUnchangedRun counts what a run without changes costs: one request
// per folder and one for the list of folders, and nothing in the repository.
func BenchmarkUnchangedRun(b *testing.B) {
	sim, base := benchWorld(b)
	eng, w, dir := newEngine(b)
	job := engine.Job{Org: w.Contoso.ID, Mailbox: "box", Source: newSource(b, sim, base, starter), Concurrency: connections}
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

// BenchmarkMemory backs up messages of 100 MiB with four connections and
// reports the peak of the process, the simulator's part included. It must stay
// under 256 MiB.
func BenchmarkMemory(b *testing.B) {
	const most = 256
	sim, base := benchWorld(b)
	upn := "dora@" + benchTenant
	if err := sim.Generate(benchTenant, upn, simulator.Generated{Count: 4, Text: 10 << 20, Attachment: 68 << 20}); err != nil {
		b.Fatal(err)
	}
	runtime.GC()
	for b.Loop() {
		eng, w, _ := newEngine(b)
		source := newSource(b, sim, base, upn)
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

// peakMiB is the most memory that the process had (VmHWM of proc(5)).
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
