package ahead_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"holdfast/backup/ahead"
)

// provider answers each question with the ids as texts, or with err; it notes them.
type provider struct {
	mu    sync.Mutex
	asked []string // the ids of each question
	err   error
	lacks string // id that no answer has
}

func (p *provider) ask(_ context.Context, ids []string) (map[string][]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, strings.Join(ids, ""))
	texts := map[string][]byte{}
	for _, id := range ids {
		if id != p.lacks {
			texts[id] = []byte(id)
		}
	}
	return texts, p.err
}

// questions are those so far, when nothing is under way any more.
func (p *provider) questions() []string {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(slices.Values(p.asked))
}

// content is the text of an id, or "" if it can't be had with others.
func content(t *testing.T, r *ahead.Reader, id string) string {
	t.Helper()
	text, _ := r.Content(t.Context(), id)
	return string(text)
}

// expect expects the letters of each word.
func expect(t *testing.T, r *ahead.Reader, words ...string) (list []*ahead.Batch) {
	t.Helper()
	for _, w := range words {
		list = append(list, r.Expect(t.Context(), strings.Split(w, "")))
	}
	return list
}

func TestBatchesAreReadWhenTheirTurnComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{lacks: "b"}
		r := ahead.New(1, p.ask)
		defer r.Close()
		expect(t, r, "abc", "de", "fg", "hi")
		if got := p.questions(); len(got) > 0 {
			t.Errorf("%v were asked for before anything was wanted", got)
		}
		for id, want := range map[string]string{"a": "a", "c": "c"} {
			if got := content(t, r, id); got != want {
				t.Errorf("%s is %q", id, got)
			}
		}
		if got, want := p.questions(), []string{"abc", "de"}; !slices.Equal(got, want) {
			t.Errorf("asked for %v, want %v: the batch and one ahead", got, want)
		}
		for _, id := range []string{"a", "b", "z"} {
			if got := content(t, r, id); got != "" {
				t.Errorf("%s is %q; it was given before, did not come, or is not expected", id, got)
			}
		}
		if got := content(t, r, "e"); got != "e" || !slices.Equal(p.questions(), []string{"abc", "de", "fg"}) {
			t.Errorf("e is %q, asked for %v", got, p.questions())
		}
		if !r.Expects("d") || r.Expects("e") || !r.Expects("h") {
			t.Error("d and h are expected, and not e any more")
		}
	})
}

func TestTextsComeBeforeTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{}
		r := ahead.New(1, p.ask)
		defer r.Close()
		list := expect(t, r, "ab", "cd", "ef")
		texts, err := r.Texts(t.Context(), list[1])
		if err != nil || len(texts) != 2 || string(texts["d"]) != "d" || !slices.Equal(p.questions(), []string{"cd", "ef"}) {
			t.Errorf("texts = %q, %v; asked for %v", texts, err, p.questions())
		}
		if got := content(t, r, "d"); got != "d" {
			t.Errorf("d is %q afterwards", got)
		}
		if texts, err := r.Texts(t.Context(), nil); err != nil || len(texts) > 0 {
			t.Errorf("texts of nothing = %q, %v", texts, err)
		}
	})
}

func TestWhatBreaksIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{err: errors.New("too large")}
		r := ahead.New(0, p.ask)
		expect(t, r, "ab", "cd", "ef", "gh")
		for _, id := range strings.Split("abcdefgh", "") {
			if got := content(t, r, id); got != "" {
				t.Errorf("%s is %q", id, got)
			}
		}
		if got := p.questions(); len(got) != 3 {
			t.Errorf("asked for %v, want three questions", got)
		}
		if r.Expect(t.Context(), []string{"y", "z"}) != nil || r.Expects("y") {
			t.Error("something is expected all the same")
		}
		r.Close()
		fine := ahead.New(0, (&provider{}).ask)
		expect(t, fine, "ab")
		fine.Close()
		if got := content(t, fine, "a"); got != "" {
			t.Errorf("a is %q after the end", got)
		}
	})
}

// TestTheEndOfARunEndsTheWait has a provider that does not answer.
func TestTheEndOfARunEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := ahead.New(0, func(ctx context.Context, _ []string) (map[string][]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		ctx, cancel := context.WithCancel(t.Context())
		b := r.Expect(ctx, []string{"a", "b"})
		go func() {
			synctest.Wait()
			cancel()
		}()
		if _, ok := r.Content(ctx, "a"); ok {
			t.Error("there is a content")
		}
		if texts, err := r.Texts(ctx, b); len(texts) > 0 {
			t.Errorf("texts = %q, %v", texts, err)
		}
		r.Close()
	})
}
