package s3

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"holdfast/backup/repo"
)

// Config says where the bucket is and who asks.
type Config struct {
	Bucket    string
	Prefix    string // "" or like "holdfast/": before every key
	Endpoint  string // like https://s3.eu-central-1.amazonaws.com; "" for Amazon
	Region    string // "" for us-east-1, or what the server says
	PathStyle bool   // the bucket stands in the path, not in the host name

	// AccessKey and SecretKey are those of the account. If both are empty, the
	// usual places are asked: AWS_ACCESS_KEY_ID and its kin, the shared
	// credentials file, and the role of the machine or container.
	AccessKey, SecretKey string

	Lock  Lock
	Spool string // folder of uploads under way, "" for the system's temporary folder
}

// Lock is how long objects are kept from being deleted. The zero value is not
// at all.
type Lock struct {
	Mode   LockMode
	Period time.Duration // from an upload or extension on; 1 to 3650 days
}

// LockMode says who may shorten a lock.
type LockMode string

// The modes.
const (
	Governance LockMode = "governance" // whoever has s3:BypassGovernanceRetention
	Compliance LockMode = "compliance" // nobody, not even the account's owner
)

const day = 24 * time.Hour

// ParseLock reads a period like "30d" and a mode. An empty period is no lock.
func ParseLock(period, mode string) (Lock, error) {
	if period == "" {
		return Lock{}, nil
	}
	days, err := strconv.Atoi(strings.TrimSuffix(period, "d"))
	if err != nil || !strings.HasSuffix(period, "d") || days < 1 || days > 3650 {
		return Lock{}, fmt.Errorf("%q is not a number of days between 1d and 3650d, like 30d", period)
	}
	m := LockMode(mode)
	if m != Governance && m != Compliance {
		return Lock{}, fmt.Errorf("the mode %q is neither governance nor compliance", mode)
	}
	return Lock{Mode: m, Period: time.Duration(days) * day}, nil
}

func (l Lock) on() bool { return l.Period > 0 }

// mode is what the server calls it.
func (l Lock) mode() minio.RetentionMode { return minio.RetentionMode(strings.ToUpper(string(l.Mode))) }

// Is says whether an address is one for Parse.
func Is(address string) bool { return strings.HasPrefix(strings.ToLower(address), "s3:") }

// Parse reads an address like
//
//	s3://bucket/prefix?region=eu-central-1&endpoint=https://s3.example.org&path-style=1
//
// It refuses one with credentials, since addresses end up in logs and lists of
// processes.
func Parse(address string) (Config, error) {
	u, err := url.Parse(address)
	if err != nil {
		return Config{}, fmt.Errorf("it is not an address like s3://bucket/prefix?region=eu-central-1") //nolint:err113 // the cause would repeat what may be a secret
	}
	q := u.Query()
	for _, name := range []string{"access-key", "secret-key", "access_key", "secret_key", "AWSAccessKeyId"} {
		if q.Has(name) {
			return Config{}, errCredentials
		}
	}
	if u.User != nil {
		return Config{}, errCredentials
	}
	c := Config{Bucket: u.Host, Prefix: strings.Trim(u.Path, "/"), Endpoint: strings.TrimSuffix(q.Get("endpoint"), "/"), Region: q.Get("region")}
	if u.Scheme != "s3" || c.Bucket == "" {
		return Config{}, errors.New("it is not an address like s3://bucket/prefix?region=eu-central-1")
	}
	if c.Prefix != "" {
		if !repo.ValidKey(c.Prefix) {
			return Config{}, fmt.Errorf("the prefix %q may have letters, digits and .-_ between its slashes", c.Prefix)
		}
		c.Prefix += "/"
	}
	if c.PathStyle, err = flagOf(q.Get("path-style")); err != nil {
		return Config{}, err
	}
	for name := range q {
		if name != "region" && name != "endpoint" && name != "path-style" {
			return Config{}, fmt.Errorf("%q is not known; there are region, endpoint and path-style", name)
		}
	}
	if c.Endpoint != "" {
		if _, err := c.server(); err != nil {
			return Config{}, err
		}
	}
	return c, nil
}

var errCredentials = errors.New("credentials do not belong into the address: give them as HOLDFAST_S3_ACCESS_KEY and HOLDFAST_S3_SECRET_KEY")

func flagOf(value string) (bool, error) {
	if value == "" {
		return false, nil
	}
	on, err := strconv.ParseBool(value)
	if err != nil {
		return false, fmt.Errorf("path-style=%q is neither 1 nor 0", value)
	}
	return on, nil
}

// server is the endpoint's address.
func (c Config) server() (*url.URL, error) {
	endpoint := c.Endpoint
	if endpoint == "" {
		endpoint = "https://s3.amazonaws.com"
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("the endpoint %q is not like https://s3.example.org", endpoint)
	}
	return u, nil
}

// Place says in a few words where the bucket is.
func (c Config) Place() string {
	place := "s3://" + c.Bucket + "/" + c.Prefix
	if c.Endpoint != "" {
		return place + " at " + c.Endpoint
	}
	return place
}
