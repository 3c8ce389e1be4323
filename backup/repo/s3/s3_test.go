package s3_test

import (
	"testing"

	"holdfast/backup/repo"
	"holdfast/backup/repo/s3"
	"holdfast/backup/repo/s3/s3test"
	"holdfast/backup/repo/storagetest"
)

func open(t testing.TB, c s3.Config) *s3.Storage {
	t.Helper()
	s, err := s3.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFakeServer(t *testing.T) {
	server := s3test.Fake(t)
	storagetest.Run(t, func(t *testing.T) repo.Storage { return open(t, server.Bucket(t)) })
}

func TestRealServer(t *testing.T) {
	server := s3test.Real(t)
	storagetest.Run(t, func(t *testing.T) repo.Storage { return open(t, server.Bucket(t)) })
}

func TestRealServerWithVersions(t *testing.T) {
	server := s3test.Real(t)
	storagetest.Run(t, func(t *testing.T) repo.Storage { return open(t, server.LockedBucket(t)) })
}

func TestPrefixesAreApart(t *testing.T) {
	c := s3test.Fake(t).Bucket(t)
	other := c
	c.Prefix, other.Prefix = "one/", "two/"
	storagetest.MustCreate(t, open(t, c), "t/a", "mine")
	if list := storagetest.Keys(t, open(t, other), ""); len(list) != 0 {
		t.Errorf("the other prefix has %q, want nothing", list)
	}
	storagetest.Run(t, func(t *testing.T) repo.Storage {
		fresh := s3test.Fake(t).Bucket(t)
		fresh.Prefix = "some/where/"
		return open(t, fresh)
	})
}
