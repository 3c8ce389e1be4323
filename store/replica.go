package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/backup"
)

func scanReplica(row scanner) (backup.Replica, error) {
	var r backup.Replica
	var started, beat, ended, ok int64
	var problem string
	err := row.Scan(&r.Place, &r.Running, &started, &beat, &ended, &ok, &r.Objects, &r.There, &r.Copied, &r.Bytes, &r.Damaged, &problem)
	r.StartedAt, r.BeatAt, r.EndedAt, r.OKAt, r.Problem = moment(started), moment(beat), moment(ended), moment(ok), problemOf(problem)
	return r, err
}

// Replica returns the copy of the repository in a place, or backup.ErrNotFound
// if none was begun.
func (s *Store) Replica(ctx context.Context, place string) (backup.Replica, error) {
	return one(ctx, s.read, scanReplica, `
		SELECT place, running, started_at, beat_at, ended_at, ok_at, objects, there, copied, copied_bytes, damaged, problem
		FROM replicas WHERE place = $1`, place)
}

// ReplicaPlaces returns every place that a copy of the repository was kept in.
func (s *Store) ReplicaPlaces(ctx context.Context) ([]string, error) {
	list, err := collect(ctx, s.read, scanValue[string], `SELECT place FROM replicas ORDER BY place`)
	if err != nil {
		return nil, fmt.Errorf("list copies of the repository: %w", err)
	}
	return list, nil
}

// StartReplica notes that copying to a place begins. It returns
// backup.ErrConflict if another process copies there and gave a sign of life
// within life.
func (s *Store) StartReplica(ctx context.Context, place string, life time.Duration) error {
	now := time.Now()
	err := execOne(ctx, s.db, `
		INSERT INTO replicas (place, running, started_at, beat_at) VALUES ($1, TRUE, $2, $2)
		ON CONFLICT (place) DO UPDATE SET running = TRUE, started_at = excluded.started_at, beat_at = excluded.beat_at,
			objects = 0, there = 0, copied = 0, copied_bytes = 0, damaged = 0
		WHERE replicas.running = FALSE OR replicas.beat_at < $3`, place, millis(now), millis(now.Add(-life)))
	if errors.Is(err, backup.ErrNotFound) {
		return fmt.Errorf("%s is copied to: %w", place, backup.ErrConflict)
	}
	return err
}

// BeatReplica writes the progress of copying and that it lives.
func (s *Store) BeatReplica(ctx context.Context, r backup.Replica) error {
	return execOne(ctx, s.db, `
		UPDATE replicas SET beat_at = $1, objects = $2, there = $3, copied = $4, copied_bytes = $5, damaged = $6 WHERE place = $7 AND running = TRUE`,
		millis(time.Now()), r.Objects, r.There, r.Copied, r.Bytes, r.Damaged, r.Place)
}

// FinishReplica writes how copying ended. Without a problem, the copy has what
// was there when it began.
func (s *Store) FinishReplica(ctx context.Context, r backup.Replica) error {
	return execOne(ctx, s.db, `
		UPDATE replicas SET running = FALSE, ended_at = $1, ok_at = CASE WHEN $2 = '' THEN started_at ELSE ok_at END,
			objects = $3, there = $4, copied = $5, copied_bytes = $6, damaged = $7, problem = $2
		WHERE place = $8`, millis(time.Now()), problemText(r.Problem), r.Objects, r.There, r.Copied, r.Bytes, r.Damaged, r.Place)
}
