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

// problem gives errors of the repository and of its disk the sentence that
// whoever runs Holdfast can act on. Others stay as they are: those of the
// provider have their own.
func (e *Engine) problem(ctx context.Context, err error) error {
	var broken *repositoryError
	p := &backup.Problem{Temporary: true, At: time.Now(), Err: err}
	switch {
	case err == nil || ctx.Err() != nil:
		return err
	case errors.Is(err, ErrBusy):
		p.Kind, p.Text = backup.ProblemUnavailable, "Another process is backing up this mailbox right now. Holdfast goes on by itself."
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
		p.Kind, p.Text = backup.ProblemDiskFull, "The backup storage is full. What was backed up before is not touched. Free some space or add storage; Holdfast goes on by itself."
	case errors.As(err, &broken):
		p.Kind, p.Text = backup.ProblemRepository, "The backup storage could not be read or written. What was backed up before is not touched. Whoever runs this Holdfast finds the cause in the log and should run holdfast verify; Holdfast tries again by itself."
	default:
		return err
	}
	return p
}
