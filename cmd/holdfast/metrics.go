package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"holdfast/backup"
	"holdfast/store"
)

// metrics are the figures of this process for Prometheus, and, read from the
// database at each question, those of the work that all processes share.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	items    prometheus.Counter
	read     prometheus.Counter
	stored   prometheus.Counter
	runs     *prometheus.HistogramVec
}

func newMetrics(st *store.Store, log *slog.Logger) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "holdfast_http_requests_total", Help: "Requests answered, by route and status."}, []string{"route", "status"}),
		seconds:  prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "holdfast_http_request_seconds", Help: "Time to answer a request, by route.", Buckets: []float64{.002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60}}, []string{"route"}),
		items:    prometheus.NewCounter(prometheus.CounterOpts{Name: "holdfast_items_total", Help: "Items that runs of this process have worked on."}),
		read:     prometheus.NewCounter(prometheus.CounterOpts{Name: "holdfast_read_bytes_total", Help: "Content that runs of this process have read from providers."}),
		stored:   prometheus.NewCounter(prometheus.CounterOpts{Name: "holdfast_stored_bytes_total", Help: "What runs of this process that ended have written to the repository."}),
		runs:     prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "holdfast_run_seconds", Help: "How long runs of this process took, by how they ended.", Buckets: []float64{1, 5, 15, 60, 300, 1800, 7200, 43200, 259200}}, []string{"state"}),
	}
	m.registry.MustRegister(m.requests, m.seconds, m.items, m.read, m.stored, m.runs, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&loadCollector{store: st, log: log})
	return m
}

// answered counts a request; handlers.Server.Answered.
func (m *metrics) answered(route string, status int, took time.Duration) {
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(route).Observe(took.Seconds())
}

// worked counts what a run has read; jobs.Runner.Worked.
func (m *metrics) worked(items, bytes int64) {
	m.items.Add(float64(max(items, 0)))
	m.read.Add(float64(max(bytes, 0)))
}

// ended counts a run that ended; jobs.Runner.Ended.
func (m *metrics) ended(run backup.Run) {
	m.stored.Add(float64(run.StoredBytes))
	m.runs.WithLabelValues(string(run.State)).Observe(run.EndedAt.Sub(run.StartedAt).Seconds())
}

// loadCollector reads the work that there is from the database.
type loadCollector struct {
	store *store.Store
	log   *slog.Logger
}

var (
	jobsDesc      = prometheus.NewDesc("holdfast_jobs", "Jobs that are not finished, by queue, kind and state.", []string{"queue", "kind", "state"}, nil)
	mailboxesDesc = prometheus.NewDesc("holdfast_mailboxes", "Mailboxes that are backed up, by status.", []string{"status"}, nil)
	dueDesc       = prometheus.NewDesc("holdfast_mailboxes_due", "Mailboxes whose run is due.", nil, nil)
	oldestDesc    = prometheus.NewDesc("holdfast_oldest_due_seconds", "How long the first due mailbox waits; 0 if none does.", nil, nil)
	runningDesc   = prometheus.NewDesc("holdfast_runs_running", "Runs under way.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c *loadCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{jobsDesc, mailboxesDesc, dueDesc, oldestDesc, runningDesc} {
		ch <- d
	}
}

// loadTimeout bounds the reading of the load.
const loadTimeout = 5 * time.Second

// Collect implements prometheus.Collector.
func (c *loadCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), loadTimeout)
	defer cancel()
	now := time.Now()
	l, err := c.store.Load(ctx, now)
	if err != nil {
		c.log.Error("metrics of the load not read", "error", err)
		ch <- prometheus.NewInvalidMetric(jobsDesc, err)
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, j := range l.Jobs {
		gauge(jobsDesc, float64(j.N), j.Queue, j.Kind, j.State)
	}
	for _, s := range backup.Statuses {
		gauge(mailboxesDesc, float64(l.Mailboxes[s]), string(s))
	}
	waits := 0.0
	if !l.OldestDue.IsZero() {
		waits = now.Sub(l.OldestDue).Seconds()
	}
	gauge(dueDesc, float64(l.Due))
	gauge(oldestDesc, waits)
	gauge(runningDesc, float64(l.Running))
}

// serve answers GET /metrics on its own address until ctx ends.
func (m *metrics) serve(ctx context.Context, addr string, log *slog.Logger) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("listen for metrics on %s: %w", addr, err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	log.Info("metrics", "url", "http://"+listener.Addr().String()+"/metrics")
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}
