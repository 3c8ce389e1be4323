package main

import (
	"strings"
	"testing"

	"holdfast/backup/repo/s3/s3test"
)

// TestWrongRepositoriesStopTheStart starts with values that are wrong.
func TestWrongRepositoriesStopTheStart(t *testing.T) {
	none := "s3://backup?endpoint=http://127.0.0.1:1" // nobody listens there
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"other scheme":      {[]string{"-repository", "ftp://example.org/x"}, "neither a folder nor an address"},
		"key in address":    {[]string{"-repository", "s3://key:hidden@backup"}, "do not belong into the address"},
		"unknown parameter": {[]string{"-repository", "s3://backup?zone=1"}, `"zone" is not known`},
		"lock of a folder":  {[]string{"-object-lock", "30d"}, "-object-lock needs a bucket"},
		"bad period":        {[]string{"-repository", none, "-object-lock", "30"}, "not a number of days"},
		"bad mode":          {[]string{"-repository", none, "-object-lock", "30d", "-object-lock-mode", "soft"}, "neither governance nor compliance"},
		"copy onto itself":  {[]string{"-data", t.TempDir(), "-repository", "/tmp/x", "-replicate-to", "/tmp/x"}, "is the repository itself"},
		"copy elsewhere":    {[]string{"-replicate-to", "http://example.org"}, "-replicate-to"},
		"copy too often":    {[]string{"-replicate-to", "/tmp/y", "-replicate-every", "1m"}, "the least is 1h"},
		"half of the keys":  {[]string{"-repository", none, "-s3-access-key", "a"}, "go together"},
	} {
		command := "verify"
		if strings.HasPrefix(name, "copy") || name == "half of the keys" {
			command = "serve"
		}
		args := append([]string{command, "-data", t.TempDir()}, c.args...)
		err := run(t.Context(), args, func(string) string { return "" }, t.Output(), t.Output())
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
}

// TestBucketAsRepository opens a bucket by flag and variables.
func TestBucketAsRepository(t *testing.T) {
	bucket := s3test.Fake(t).Bucket(t)
	env := map[string]string{"HOLDFAST_REPOSITORY": s3test.Address(bucket), "HOLDFAST_S3_ACCESS_KEY": s3test.AccessKey, "HOLDFAST_S3_SECRET_KEY": s3test.SecretKey}
	var c config
	fs := newFlagSet("verify", t.Output())
	c.flags(fs)
	if err := parse(fs, []string{"-data", t.TempDir()}, func(name string) string { return env[name] }); err != nil {
		t.Fatal(err)
	}
	if err := c.complete(); err != nil {
		t.Fatal(err)
	}
	storage, err := c.place.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := storage.Stat(t.Context(), "format.json"); err == nil {
		t.Error("an empty bucket has a format.json")
	}
	if got := c.place.String(); got != "s3://"+bucket.Bucket+"/ at "+bucket.Endpoint {
		t.Errorf("the place is %q", got)
	}
}
