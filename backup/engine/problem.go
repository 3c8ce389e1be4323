package engine

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"holdfast/backup"
)

// repositoryError marks errors of the repository, whose reader has to act on
// something else than for errors of the provider.
type repositoryError struct{ err error }

// Error implements error.
func (e *repositoryError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *repositoryError) Unwrap() error { return e.err }

func fromRepository(err error) error {
	if err == nil {
		return nil
	}
	return &repositoryError{fmt.Errorf("repository: %w", err)}
}

// problem gives errors of the repository the sentence that whoever runs
// Holdfast can act on. Others stay as they are: those of the provider have
// their own.
func (e *Engine) problem(ctx context.Context, err error) error {
	var broken *repositoryError
	if err == nil || ctx.Err() != nil || !errors.As(err, &broken) {
		return err
	}
	p := &backup.Problem{Kind: backup.ProblemRepository, Temporary: true, At: time.Now(), Err: err,
		Text: "The backup storage could not be read or written. What was backed up before is not touched. Whoever runs this Holdfast finds the cause in the log and should run holdfast verify; Holdfast tries again by itself."}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		p.Kind = backup.ProblemDiskFull
		p.Text = "The backup storage is full. What was backed up before is not touched. Free some space or add storage; Holdfast goes on by itself."
	}
	return p
}
