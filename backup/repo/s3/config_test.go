package s3_test

import (
	"strings"
	"testing"
	"time"

	"holdfast/backup/repo/s3"
)

func TestParse(t *testing.T) {
	for address, want := range map[string]s3.Config{
		"s3://backup":  {Bucket: "backup"},
		"s3://backup/": {Bucket: "backup"},
		"s3://backup/some/where?region=eu-central-1":               {Bucket: "backup", Prefix: "some/where/", Region: "eu-central-1"},
		"s3://b-1/?endpoint=https://s3.example.org/&path-style=1":  {Bucket: "b-1", Endpoint: "https://s3.example.org", PathStyle: true},
		"s3://b-1?endpoint=http://127.0.0.1:9000&path-style=false": {Bucket: "b-1", Endpoint: "http://127.0.0.1:9000"},
	} {
		if got, err := s3.Parse(address); err != nil || got != want {
			t.Errorf("Parse(%s) = %+v, %v; want %+v", address, got, err, want)
		}
	}
	for address, want := range map[string]string{
		"s3:backup":                                       "not an address",
		"s3://":                                           "not an address",
		"s3://key:hidden@backup":                          "do not belong into the address",
		"s3://backup?secret-key=hidden":                   "do not belong into the address",
		"s3://backup?acces-key=x":                         `"acces-key" is not known`,
		"s3://backup?path-style=perhaps":                  "neither 1 nor 0",
		"s3://backup?endpoint=s3.example":                 "not like https://s3.example.org",
		"s3://backup?endpoint=ftp://example":              "not like https://s3.example.org",
		"s3://backup?endpoint=https://key:hidden@example": "not like https",
		"s3://backup/a%20b":                               "may have letters",
		"s3://backup/../x":                                "may have letters",
	} {
		_, err := s3.Parse(address)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%s) = %v, want %q in it", address, err, want)
		}
	}
}

func TestParseLock(t *testing.T) {
	if l, err := s3.ParseLock("", "nonsense"); err != nil || l != (s3.Lock{}) {
		t.Errorf("no lock = %+v, %v", l, err)
	}
	if l, err := s3.ParseLock("30d", "compliance"); err != nil || l != (s3.Lock{Mode: s3.Compliance, Period: 30 * 24 * time.Hour}) {
		t.Errorf("30d = %+v, %v", l, err)
	}
	for _, c := range [][2]string{{"30", "compliance"}, {"0d", "compliance"}, {"-3d", "compliance"}, {"3651d", "compliance"}, {"720h", "compliance"}, {"30d", ""}, {"30d", "legal"}} {
		if _, err := s3.ParseLock(c[0], c[1]); err == nil {
			t.Errorf("ParseLock(%q, %q) worked", c[0], c[1])
		}
	}
}

func TestKeysGoTogether(t *testing.T) {
	_, err := s3.Open(t.Context(), s3.Config{Bucket: "backup", Endpoint: "http://127.0.0.1:1", AccessKey: "only"})
	if err == nil || !strings.Contains(err.Error(), "go together") {
		t.Errorf("Open = %v, want it refused", err)
	}
}
