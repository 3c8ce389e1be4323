package engine

import (
	"context"
	"errors"

	"holdfast/backup"
	"holdfast/backup/repo"
)

// ProblemNotACopy is what people read when the place that should have a copy of
// the repository has something else.
const ProblemNotACopy = "The place that damaged objects should be taken from has no copy of this backup storage. Nothing was changed. " +
	"Name the place that the storage is copied to with -replicate-to, or with -from of holdfast repair."

// PutBack replaces damaged objects of an organization, named by their keys, by
// those of a copy of the repository. See repo.Repository.PutBack.
func (e *Engine) PutBack(ctx context.Context, org backup.OrgID, from repo.Storage, keys []string, did func(key string, err error) error) error {
	return e.problem(ctx, notACopy(e.Repo.PutBack(ctx, from, string(org), keys, did)))
}

// notACopy tells a place that has no copy of the repository from one that fails.
func notACopy(err error) error {
	if errors.Is(err, repo.ErrOther) || errors.Is(err, repo.ErrNotExist) {
		return &backup.Problem{Kind: backup.ProblemRepository, Text: ProblemNotACopy, Err: err}
	}
	return fromRepository(err)
}
