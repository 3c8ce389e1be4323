package imap

import (
	"context"

	"holdfast/backup"
)

// Report is what a test of a connection found.
type Report struct {
	Folders  int
	Messages int64
	Offers   []string // what the server offers that makes backups faster
}

// Test signs in and lists the folders, as a backup would begin. Its error carries
// a *backup.Problem.
func Test(ctx context.Context, server backup.IMAPServer, login Login, o Options) (Report, error) {
	m := Open(server, login, o)
	defer m.Close() //nolint:errcheck // it has none
	changes, err := m.Folders(ctx, "")
	if err != nil {
		return Report{}, err
	}
	r := Report{Folders: len(changes.Folders)}
	for _, f := range changes.Folders {
		r.Messages += f.Items
	}
	err = m.pool.do(ctx, "", func(s *session) error {
		for _, name := range []string{"CONDSTORE", "ESEARCH", "LIST-STATUS", "SPECIAL-USE"} {
			if s.has(name) {
				r.Offers = append(r.Offers, name)
			}
		}
		return nil
	})
	return r, err
}
