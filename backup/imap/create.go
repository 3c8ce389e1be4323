package imap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	goimap "github.com/emersion/go-imap/v2"

	"holdfast/backup"
	"holdfast/backup/engine"
)

// sendError is why the text of a message could not be read; the server has no
// part in it.
type sendError struct{ error }

// Unwrap implements errors.
func (e *sendError) Unwrap() error { return e.error }

// Create implements engine.Target. APPEND puts a message there whole or not at
// all; where its answer is lost, the folder tells.
func (t *Target) Create(ctx context.Context, folder string, m engine.Restored) ([]string, error) {
	o, err := prepare(ctx, m)
	if err != nil {
		return nil, err
	}
	p := t.place(folder)
	options, notes := p.options(m)
	for try := 1; ; try++ {
		err := t.append(ctx, p, folder, o, options)
		var unread *sendError
		refused, spoke := errors.AsType[*goimap.Error](err)
		switch {
		case err == nil:
			return notes, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.As(err, &unread):
			return nil, unread.error
		case spoke && refused.Type != goimap.StatusResponseTypeBye:
			return nil, t.refused(refused)
		case backup.KindOf(err) == backup.ProblemItems:
			return nil, err
		case backup.KindOf(err) != "" || try > 1:
			return nil, t.closed(err)
		}
		arrived, lookErr := t.arrived(ctx, p, folder, o.identity)
		if lookErr != nil {
			return nil, t.closed(errors.Join(err, lookErr))
		}
		if arrived {
			return notes, nil
		}
	}
}

func (t *Target) place(folder string) *place {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.places[folder]
	if p == nil {
		p = &place{next: 1, made: map[identity]int{}}
		t.places[folder] = p
	}
	return p
}

// append sends one message. A connection on which half of one was sent is ended
// before anything else can be taken for the rest.
func (t *Target) append(ctx context.Context, p *place, folder string, o outgoing, options *goimap.AppendOptions) error {
	p.appending.RLock()
	defer p.appending.RUnlock()
	s, err := t.pool.take(ctx, folder)
	if err != nil {
		return err
	}
	if limit := s.appendLimit(); limit > 0 && o.size > limit {
		t.pool.put(s)
		return tooLarge(t.pool.server, nil)
	}
	done := s.work(ctx)
	cmd := s.Append(folder, o.size, options)
	out := &serverWriter{w: cmd}
	sent := o.send(ctx, out)
	if sent != nil {
		if out.err == nil {
			sent = &sendError{sent}
		}
		_ = s.conn.Close()
	}
	_ = cmd.Close() // the answer tells
	_, err = cmd.Wait()
	done()
	switch {
	case sent != nil:
		t.pool.drop(s)
		if spoken(err) {
			return err // it refused before it had all
		}
		return sent
	case err == nil || spoken(err):
		t.pool.put(s)
	default:
		t.pool.drop(s)
	}
	if err == nil {
		p.mu.Lock()
		p.made[o.identity]++
		p.mu.Unlock()
	}
	return err
}

// serverWriter remembers whether it was the server's side that failed.
type serverWriter struct {
	w   io.Writer
	err error
}

// Write implements io.Writer.
func (w *serverWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	if err != nil {
		w.err = err
	}
	return n, err
}

// arrived says whether a message whose answer was lost is there: more of it came
// since the folder was read than were made.
func (t *Target) arrived(ctx context.Context, p *place, folder string, i identity) (bool, error) {
	p.appending.Lock()
	defer p.appending.Unlock()
	found := 0
	err := t.pool.do(ctx, folder, func(s *session) error {
		s.path, found = "", 0
		if err := s.opened(folder, s.Select(folder, nil)); err != nil {
			return err
		}
		return s.identities(p.next, func(have identity, _ goimap.UID, _ int64) {
			if have == i {
				found++
			}
		})
	})
	if err != nil || found <= p.made[i] {
		return false, err
	}
	p.made[i]++
	return true, nil
}

// appendLimit is how large a message the server takes (RFC 7889), 0 if it does
// not say.
func (s *session) appendLimit() int64 {
	for name := range s.caps {
		if text, ok := strings.CutPrefix(name, "APPENDLIMIT="); ok {
			limit, err := strconv.ParseInt(text, 10, 64)
			if err == nil {
				return limit
			}
		}
	}
	return 0
}

// options are the flags and the date of a message; what the folder does not keep
// of them is in notes.
func (p *place) options(m engine.Restored) (*goimap.AppendOptions, []string) {
	o, notes := &goimap.AppendOptions{}, []string(nil)
	for flag, set := range map[goimap.Flag]bool{goimap.FlagSeen: m.Read, goimap.FlagFlagged: m.Flagged, goimap.FlagDraft: m.Draft} {
		if set {
			o.Flags = append(o.Flags, flag)
		}
	}
	var left []string
	for _, name := range m.Categories {
		switch {
		case strings.EqualFold(name, string(goimap.FlagAnswered)):
			o.Flags = append(o.Flags, goimap.FlagAnswered)
		case strings.EqualFold(name, string(goimap.FlagDeleted)):
			notes = append(notes, "It was marked for deletion; it came back without that mark, or the next program that tidies up would delete it.")
		case isKeyword(name) && p.keeps(name):
			o.Flags = append(o.Flags, goimap.Flag(name))
		default:
			left = append(left, name)
		}
	}
	slices.Sort(o.Flags)
	if len(left) > 0 {
		notes = append(notes, "The server keeps no such keywords, so these were left out: "+strings.Join(left, ", ")+".")
	}
	if year := m.Received.UTC().Year(); year >= 1970 && year < 10_000 {
		o.Time = m.Received
	} else if !m.Received.IsZero() {
		notes = append(notes, "IMAP servers keep no date before 1970, so the message has that of its restore.")
	}
	return o, notes
}

// keeps says whether the folder keeps a keyword.
func (p *place) keeps(name string) bool {
	return p.flags == nil || slices.ContainsFunc(p.flags, func(f goimap.Flag) bool {
		return f == goimap.FlagWildcard || strings.EqualFold(string(f), name)
	})
}

// isKeyword says whether a name can be a keyword of IMAP: an atom.
func isKeyword(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`(){%*"\]`, r) })
}

// refused reads the server's answer to APPEND: whether it concerns the message or
// all of them.
func (t *Target) refused(err *goimap.Error) error {
	p := refusedWriting(t.pool.server, err)
	if p.Temporary || p.Kind == backup.ProblemMailboxFull {
		return fmt.Errorf("%w: %w", engine.ErrTargetClosed, p)
	}
	return p
}

// refusedWriting is what a person can do about a server that refuses to take
// something.
func refusedWriting(server backup.IMAPServer, err *goimap.Error) *backup.Problem {
	p := &backup.Problem{Kind: backup.ProblemItems, Code: string(err.Code), At: time.Now(), Err: err}
	text := strings.ToLower(err.Text)
	switch {
	case err.Code == goimap.ResponseCodeOverQuota || strings.Contains(text, "quota"):
		p.Kind, p.Text = backup.ProblemMailboxFull, fmt.Sprintf("The mailbox is full, so %s takes no more messages. Delete some there, or have its quota raised, and select Try again; what was restored already is not restored twice.", server.Host)
	case err.Code == goimap.ResponseCodeTooBig || strings.Contains(text, "too large") || strings.Contains(text, "too big"):
		return tooLarge(server, err)
	case err.Code == goimap.ResponseCodeNoPerm || strings.Contains(text, "read-only") || strings.Contains(text, "permission denied"):
		p.Kind, p.Text = backup.ProblemPermission, fmt.Sprintf("%s does not let this account write into the folder (it says: %s). Ask who runs the server for the right to it, or restore into a folder of its own.", server.Host, quote(err.Text))
	case err.Code == goimap.ResponseCodeTryCreate || missing(err):
		p.Kind, p.Temporary, p.Text = backup.ProblemUnavailable, true, "A folder was deleted while messages were restored into it. Holdfast makes it again and goes on by itself."
	case err.Code == goimap.ResponseCodeUnavailable || err.Code == goimap.ResponseCodeInUse || err.Code == goimap.ResponseCodeServerBug || strings.Contains(text, "throttled"):
		return backup.AsProblem(problem(server, err))
	default:
		p.Text = fmt.Sprintf("%s does not take this message (it says: %s). Download it as .eml to have it nevertheless.", server.Host, quote(err.Text))
	}
	return p
}

func tooLarge(server backup.IMAPServer, err error) *backup.Problem {
	return backup.AsProblem(permanent(backup.ProblemItems, err, "The message is larger than %s takes. Download it as .eml, or have the limit raised and select Try again.", server.Host))
}
