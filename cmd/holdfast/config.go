package main

import (
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"holdfast/backup"
	"holdfast/backup/m365"
)

// config is what flags and environment say. The table in README.md lists it.
type config struct {
	Addr         string // listen address of the portal
	PublicURL    string // how browsers reach it, without a path
	Data         string // folder for database, repository and keys
	Database     string // SQLite path or postgres:// URL
	Repository   string // folder of the repository, or address of its bucket
	S3           s3Keys
	Lock         lockConfig
	Replica      replicaConfig
	KeyFile      string // root key
	Role         string // web, worker or "" for both
	TLSCert      string
	TLSKey       string
	Proxies      []netip.Prefix
	MetricsAddr  string        // listen address of the metrics, "" for none
	SecondFactor string        // required or optional, for the partner's people
	Every        time.Duration // pause between two runs of a mailbox
	Workers      int           // mailboxes backed up at the same time
	CheckRate    int           // MiB a second that checks read from the repository at most, 0 for no limit
	LogLevel     slog.Level
	Microsoft    microsoftConfig

	place   place // what Repository says
	replica place // what Replica.To says, if it is set
}

// microsoftConfig is the registration of Holdfast at Microsoft.
type microsoftConfig struct {
	ClientID    string
	Secret      backup.Secret
	Certificate string // PEM file with key and certificate
	LoginURL    string
	GraphURL    string
	ExchangeURL string
}

// Roles of a process.
const (
	roleWeb    = "web"
	roleWorker = "worker"
)

// Whether the partner's people need a second factor.
const (
	factorRequired = "required"
	factorOptional = "optional"
)

func (c config) web() bool    { return c.Role != roleWorker }
func (c config) worker() bool { return c.Role != roleWeb }

// flags declares the flags that all commands which open the store share.
func (c *config) flags(fs *flag.FlagSet) {
	c.dataFlags(fs)
	c.repositoryFlags(fs)
}

// dataFlags declares the flags of database and keys.
func (c *config) dataFlags(fs *flag.FlagSet) {
	fs.StringVar(&c.Data, "data", "holdfast-data", "folder for database, repository and keys")
	fs.StringVar(&c.Database, "database", "", "SQLite file or postgres:// URL (default DATA/holdfast.db)")
	fs.StringVar(&c.KeyFile, "key-file", "", "root key, made on first start (default DATA/root.key)")
	fs.TextVar(&c.LogLevel, "log-level", slog.LevelInfo, "debug, info, warn or error")
}

// serveFlags declares the flags of serve and demo.
func (c *config) serveFlags(fs *flag.FlagSet, proxies *string) {
	fs.StringVar(&c.Addr, "addr", "127.0.0.1:8080", "address to listen on")
	fs.StringVar(&c.PublicURL, "public-url", "", "how browsers reach the portal (default http://ADDR)")
	fs.StringVar(&c.Role, "role", "", "web or worker, to split them over processes (default both)")
	fs.StringVar(&c.TLSCert, "tls-cert", "", "PEM file with the certificate, to serve HTTPS")
	fs.StringVar(&c.TLSKey, "tls-key", "", "PEM file with its key")
	fs.StringVar(proxies, "trusted-proxies", "", "networks whose X-Forwarded-For is believed, comma separated")
	fs.StringVar(&c.SecondFactor, "second-factor", "required", "required or optional, for the partner's people; organizations choose for their own")
	fs.StringVar(&c.MetricsAddr, "metrics-addr", "", "address to serve Prometheus metrics on, like 127.0.0.1:9090 (default none)")
	replicaFlags(fs, &c.Replica)
	fs.DurationVar(&c.Every, "every", time.Hour, "pause between two runs of a mailbox")
	fs.IntVar(&c.Workers, "workers", 4, "mailboxes backed up at the same time by this process")
	fs.IntVar(&c.CheckRate, "check-rate", 16, "MiB a second that checks and restore tests read from the repository at most, 0 for no limit")
}

// microsoftFlags declares the flags that say which registration is ours.
func (c *config) microsoftFlags(fs *flag.FlagSet, secret *string) {
	fs.StringVar(&c.Microsoft.ClientID, "m365-client-id", "", "application (client) id of your registration in Microsoft Entra")
	fs.StringVar(secret, "m365-client-secret", "", "its client secret; better give -m365-certificate")
	fs.StringVar(&c.Microsoft.Certificate, "m365-certificate", "", "PEM file with the registration's private key and certificate")
	fs.StringVar(&c.Microsoft.LoginURL, "m365-login-url", "", "other cloud or simulator (default https://login.microsoftonline.com)")
	fs.StringVar(&c.Microsoft.GraphURL, "m365-graph-url", "", "other cloud or simulator (default https://graph.microsoft.com)")
	fs.StringVar(&c.Microsoft.ExchangeURL, "m365-exchange-url", "", "other cloud or simulator (default https://outlook.office365.com)")
}

// parse reads args and, for flags that were not given, the environment:
// -data-dir is HOLDFAST_DATA_DIR.
func parse(fs *flag.FlagSet, args []string, getenv func(string) string) error {
	out := fs.Output()
	fs.SetOutput(io.Discard) // a wrong flag is one sentence, not all flags
	err := fs.Parse(args)
	fs.SetOutput(out)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fs.Usage()
		return err
	case err != nil:
		return fmt.Errorf("%w; \"holdfast %s -h\" lists the flags", err, fs.Name())
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("%s takes no argument, but got %q", fs.Name(), fs.Arg(0))
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	var errs []error
	fs.VisitAll(func(f *flag.Flag) {
		name := "HOLDFAST_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value := getenv(name)
		if given[f.Name] || value == "" {
			return
		}
		if err := fs.Set(f.Name, value); err != nil {
			errs = append(errs, fmt.Errorf("%s=%q: %w", name, value, err))
		}
	})
	return errors.Join(errs...)
}

// newFlagSet begins the flags of a command, whose help says what it does.
func newFlagSet(name string, stderr io.Writer) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() {
		fmt.Fprintf(fs.Output(), "Usage: holdfast %s [flags]\n\n%s\n\n", name, purpose(name))
		fs.PrintDefaults()
	}
	return fs
}

// purpose is what the list of commands says of one.
func purpose(name string) string {
	for line := range strings.Lines(usage + keyUsage) {
		if rest, ok := strings.CutPrefix(line, "  "+name+"  "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// complete fills defaults that depend on other values, and says what is wrong
// in one sentence.
func (c *config) complete() error {
	if c.Database == "" {
		c.Database = filepath.Join(c.Data, "holdfast.db")
	}
	if c.KeyFile == "" {
		c.KeyFile = filepath.Join(c.Data, "root.key")
	}
	if err := c.completeRepository(); err != nil {
		return err
	}
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	return nil
}

// sqlite says whether the database is a file.
func (c *config) sqlite() bool {
	return !strings.HasPrefix(c.Database, "postgres://") && !strings.HasPrefix(c.Database, "postgresql://")
}

// existing says what is not there of what a first start makes. A command in the
// wrong folder would make it, and find that everything is well.
func (c *config) existing() error {
	if _, err := os.Stat(c.KeyFile); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no root key in %s: say with -data, or -key-file, where that of this installation is; if it is lost, import a recovery kit (holdfast key import, docs/recovery.md)", c.KeyFile)
	}
	if _, err := os.Stat(c.Database); c.sqlite() && errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no database in %s: say with -data, or -database, where that of this installation is; if it is lost, import a recovery kit (holdfast key import, docs/recovery.md)", c.Database)
	}
	return nil
}

// completeServe checks what only serve and demo have.
func (c *config) completeServe(proxies, secret string) error {
	switch c.Role {
	case "", roleWeb, roleWorker:
	default:
		return fmt.Errorf("-role is %q; it can be web or worker, or left out for both", c.Role)
	}
	if c.SecondFactor != factorRequired && c.SecondFactor != factorOptional {
		return fmt.Errorf("-second-factor is %q; it can be required or optional", c.SecondFactor)
	}
	if c.Role != "" && c.sqlite() {
		return errors.New("-role splits Holdfast over processes, which needs -database postgres://…; SQLite serves one process")
	}
	host, _, err := net.SplitHostPort(c.Addr)
	if err != nil {
		return fmt.Errorf("-addr %q is not HOST:PORT: %w", c.Addr, err)
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return errors.New("-tls-cert and -tls-key go together")
	}
	if c.PublicURL == "" {
		scheme := "http"
		if c.TLSCert != "" {
			scheme = "https"
		}
		c.PublicURL = scheme + "://" + c.Addr
	}
	u, err := url.Parse(c.PublicURL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || strings.Trim(u.Path, "/") != "" {
		return fmt.Errorf("-public-url %q is not like https://backup.example.org", c.PublicURL)
	}
	c.PublicURL = strings.TrimSuffix(c.PublicURL, "/")
	if u.Scheme == "http" && !loopback(u.Hostname()) {
		return fmt.Errorf("-public-url %s would send passwords in the clear: use https (a proxy with TLS, or -tls-cert and -tls-key)", c.PublicURL)
	}
	if c.TLSCert == "" && !loopback(host) && u.Scheme != "https" {
		return fmt.Errorf("-addr %s is reachable from elsewhere: set -public-url to the https address of your proxy, or give -tls-cert and -tls-key", c.Addr)
	}
	for _, s := range strings.Split(proxies, ",") {
		if s = strings.TrimSpace(s); s == "" {
			continue
		}
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return fmt.Errorf("-trusted-proxies: %q is not a network like 10.0.0.0/8", s)
		}
		c.Proxies = append(c.Proxies, p)
	}
	if c.Every < time.Minute {
		return fmt.Errorf("-every %s is too often; the least is 1m", c.Every)
	}
	if c.Workers < 1 || c.Workers > 64 {
		return fmt.Errorf("-workers %d is not between 1 and 64", c.Workers)
	}
	c.Microsoft.Secret = backup.Secret(secret)
	return nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// certificate reads the registration's key pair; nil if none is configured.
func (m microsoftConfig) certificate() (*m365.Certificate, error) {
	if m.Certificate == "" {
		return nil, nil //nolint:nilnil // no certificate is a valid configuration
	}
	data, err := os.ReadFile(m.Certificate)
	if err != nil {
		return nil, fmt.Errorf("-m365-certificate: %w", err)
	}
	c, err := m365.ParseCertificate(data)
	if err != nil {
		return nil, fmt.Errorf("-m365-certificate %s: %w", m.Certificate, err)
	}
	return c, nil
}

// rootKeySize is the length of the root key in bytes.
const rootKeySize = 32

// rootKey reads the root key, making it on the first start with mode 0600. It
// refuses a file that others can read.
func rootKey(path string) ([]byte, error) {
	key, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if errors.Is(err, fs.ErrNotExist) {
		key = make([]byte, rootKeySize)
		_, _ = rand.Read(key) // never fails: crypto/rand documents that it crashes instead
		if err := writeKey(path, key); err != nil {
			return nil, fmt.Errorf("make the root key: %w", err)
		}
		return key, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the root key: %w", err)
	}
	if len(key) != rootKeySize {
		return nil, fmt.Errorf("%s is not a root key of Holdfast: it has %d bytes instead of %d; put the right file back", path, len(key), rootKeySize)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read the root key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others: run chmod 600 %s", path, path)
	}
	return key, nil
}

// writeKey creates the file exclusively and syncs it, so that a crash can't
// leave data encrypted under a key that was never stored.
func writeKey(path string, key []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the operator names the file
	if err != nil {
		return err
	}
	if _, err := f.Write(key); err != nil {
		f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "holdfast (development)"
	}
	return "holdfast " + info.Main.Version
}
