package repo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Replication is how far a replication is, and in the end what it did.
type Replication struct {
	Objects int   // of the source
	Bytes   int64 // of them
	There   int   // that are at the target, with those that were before
	Copied  int   // by this call
	Written int64 // bytes of the copied
	Damaged []string
}

// Sums are the SHA-256 that commits say packs have, by key. A pack that the
// deletion log released has none: it is not copied any more.
type Sums map[string][]byte

// released says that a pack is not copied.
func (s Sums) released(key string) bool {
	sum, ok := s[key]
	return ok && len(sum) == 0
}

const copiers = 8 // objects copied at the same time

// Replicate copies the objects that to lacks. Since objects never change it can
// be interrupted and repeated at any time, also while the source is written to:
// what it copies last, a commit, names only what it has copied before. A pack
// that is not what sums says is copied as it is, since the rest of it can be
// read, and named in Damaged. Progress may be nil; it is not called concurrently.
func Replicate(ctx context.Context, from, to Storage, sums Sums, progress func(Replication)) (Replication, error) {
	c := copier{from: from, to: to, sums: sums, progress: progress}
	if err := c.copyFormat(ctx); err != nil {
		return c.state, err
	}
	for range maxPlans {
		again, err := c.copyAll(ctx)
		if err != nil || !again {
			return c.state, err
		}
	}
	return c.state, errors.New("the source is collected faster than it can be copied")
}

// maxPlans is how often a replication looks anew what there is. Collections take
// two days to delete something, so twice is rare.
const maxPlans = 20

// copyAll copies what the source has. Commits are listed first and copied last:
// the packs that one names were there before it. If a collection deleted packs
// meanwhile, what is needed of them stands in others now: it copies no log and
// no commit, and says that it has to be called again.
func (c *copier) copyAll(ctx context.Context) (again bool, err error) {
	packs, logs, commits, err := c.plan(ctx)
	if err != nil {
		return false, err
	}
	if err := c.copyChains(ctx, packs); err != nil {
		return false, err
	}
	if c.gone > 0 {
		return true, nil
	}
	if err := c.copyChains(ctx, logs); err != nil {
		return false, err
	}
	return false, c.copyChains(ctx, commits)
}

// copyChains copies chains at the same time, and each in its order.
func (c *copier) copyChains(ctx context.Context, chains [][]Entry) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(copiers)
	for _, chain := range chains {
		g.Go(func() error { return c.copyChain(ctx, chain) })
	}
	return g.Wait()
}

type copier struct {
	from, to Storage
	sums     Sums
	progress func(Replication)
	there    map[string]int64 // bytes of the objects at the target

	mu    sync.Mutex
	state Replication
	gone  int // objects that were deleted at the source since they were listed
}

// copyFormat begins a target with the source's format.json, and refuses one
// that is another repository.
func (c *copier) copyFormat(ctx context.Context) error {
	data, err := get(ctx, c.from, formatKey, 0, -1, maxFormat)
	if errors.Is(err, ErrNotExist) {
		return errors.New("there is no repository to copy from")
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", formatKey, err)
	}
	if _, err := parseFormat(data); err != nil {
		return err
	}
	err = put(ctx, c.to, formatKey, data)
	if !errors.Is(err, ErrExist) {
		return err
	}
	there, err := get(ctx, c.to, formatKey, 0, -1, maxFormat)
	if err != nil {
		return fmt.Errorf("read %s of the target: %w", formatKey, err)
	}
	if !bytes.Equal(there, data) {
		return errors.New("the target has another repository already: give an empty place, or the one of an earlier replication")
	}
	return nil
}

// plan lists what has to be copied, the log of a tenant, the commits of a source
// and the parts of a file each as a chain. Files come with the commits.
func (c *copier) plan(ctx context.Context) (packs, logs, commits [][]Entry, err error) {
	var tenants []string
	chains := map[string]int{}
	for e, err := range c.from.List(ctx, "") {
		if err != nil {
			return nil, nil, nil, fmt.Errorf("list the source: %w", err)
		}
		if e.Key == formatKey || e.Key == movedKey {
			continue
		}
		part := strings.SplitN(e.Key, "/", 5)
		if part[0] != "t" { // a part of a file, whose end comes last
			folder := e.Key[:strings.LastIndexByte(e.Key, '/')+1]
			if _, ok := chains[folder]; !ok {
				chains[folder] = len(commits)
				commits = append(commits, nil)
			}
			commits[chains[folder]] = append(commits[chains[folder]], e)
			continue
		}
		if len(tenants) == 0 || tenants[len(tenants)-1] != part[1] {
			tenants = append(tenants, part[1])
		}
		if len(part) < 4 || part[2] != "c" {
			continue
		}
		chain := part[1] + "/" + part[3]
		if _, ok := chains[chain]; !ok {
			chains[chain] = len(commits)
			commits = append(commits, nil)
		}
		commits[chains[chain]] = append(commits[chains[chain]], e)
	}
	for _, tenant := range tenants {
		log, err := c.list(ctx, logPrefix(tenant))
		if err != nil {
			return nil, nil, nil, err
		}
		logs = append(logs, log)
		for _, kind := range []PackKind{PackData, PackMeta} {
			list, err := c.list(ctx, fmt.Sprintf("t/%s/%c/", tenant, kind))
			if err != nil {
				return nil, nil, nil, err
			}
			for _, e := range list {
				if !c.sums.released(e.Key) {
					packs = append(packs, []Entry{e})
				}
			}
		}
	}
	return packs, logs, commits, c.count(ctx, packs, logs, commits)
}

func (c *copier) list(ctx context.Context, prefix string) ([]Entry, error) {
	var list []Entry
	for e, err := range c.from.List(ctx, prefix) {
		if err != nil {
			return nil, fmt.Errorf("list the source: %w", err)
		}
		list = append(list, e)
	}
	return list, nil
}

// count finds what is at the target and how much there is.
func (c *copier) count(ctx context.Context, steps ...[][]Entry) error {
	c.there, c.gone = map[string]int64{}, 0
	c.state.Objects, c.state.Bytes, c.state.There = 0, 0, 0
	for e, err := range c.to.List(ctx, "") {
		if err != nil {
			return fmt.Errorf("list the target: %w", err)
		}
		c.there[e.Key] = e.Size
	}
	for _, step := range steps {
		for _, chain := range step {
			for _, e := range chain {
				c.state.Objects++
				c.state.Bytes += e.Size
			}
		}
	}
	return nil
}

func (c *copier) copyChain(ctx context.Context, chain []Entry) error {
	for _, e := range chain {
		if size, ok := c.there[e.Key]; ok {
			if size != e.Size {
				return damaged(e.Key, fmt.Sprintf("it has %d bytes at the source and %d at the target", e.Size, size))
			}
			c.done(e, false, "")
			continue
		}
		sum, err := c.copy(ctx, e.Key)
		if errors.Is(err, ErrNotExist) {
			c.mu.Lock()
			c.gone++
			c.mu.Unlock()
			continue
		}
		if err != nil {
			return fmt.Errorf("copy %s: %w", e.Key, err)
		}
		broken := ""
		if want, ok := c.sums[e.Key]; ok && !bytes.Equal(want, sum) {
			broken = e.Key
		}
		c.done(e, true, broken)
	}
	return nil
}

// copy copies an object and returns its SHA-256.
func (c *copier) copy(ctx context.Context, key string) ([]byte, error) {
	r, err := c.from.Open(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	u, err := c.to.Create(ctx, key)
	if err != nil {
		return nil, err
	}
	defer u.Abort()
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(sum, u), r); err != nil {
		return nil, err
	}
	// Somebody else who replicates may have been faster.
	if err := u.Commit(ctx); err != nil && !errors.Is(err, ErrExist) {
		return nil, err
	}
	return sum.Sum(nil), nil
}

func (c *copier) done(e Entry, copied bool, broken string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.There++
	if copied {
		c.state.Copied++
		c.state.Written += e.Size
	}
	if broken != "" {
		c.state.Damaged = append(c.state.Damaged, broken)
	}
	if c.progress != nil {
		c.progress(c.state)
	}
}

// ReadSums reads from the commits in a storage which SHA-256 packs have. Packs
// of commits that can't be read are left out; if that is all of them, the keys
// are wrong and it returns an error.
func ReadSums(ctx context.Context, storage Storage, keys KeyStore) (Sums, error) {
	r, err := newRepository(storage, keys, nil, Options{}, "")
	if err != nil {
		return nil, err
	}
	tenants, err := r.Tenants(ctx)
	if err != nil {
		return nil, err
	}
	sums, read := Sums{}, 0
	var unread error
	for _, tenant := range tenants {
		sources, err := r.Sources(ctx, tenant)
		if err != nil {
			return nil, err
		}
		for _, source := range sources {
			for c, err := range r.Commits(ctx, tenant, source, 0) {
				if err != nil {
					unread = err // Verify names it; its packs are copied unchecked
					continue
				}
				read++
				for _, p := range c.Packs {
					sums[packKey(tenant, p.Kind, p.ID)] = p.SHA256
				}
			}
			others, err := r.OtherPacks(ctx, tenant, source)
			if err != nil && !errors.Is(err, ErrDamaged) {
				return nil, err
			}
			for _, p := range others {
				sums[packKey(tenant, p.Kind, p.ID)] = p.SHA256
			}
		}
		log, err := r.currentLog(ctx, tenant)
		if err != nil && !errors.Is(err, ErrDamaged) {
			return nil, err
		}
		for p := range log.released {
			sums[p.key(tenant)] = nil
		}
	}
	if read == 0 && unread != nil {
		return nil, fmt.Errorf("no snapshot can be read: %w", unread)
	}
	return sums, ctx.Err()
}

// movedKey is the object that says that a repository was moved elsewhere.
const movedKey = "moved.json"

// moved is moved.json.
type moved struct {
	To string    `json:"to"` // in words for a person
	At time.Time `json:"at"`
}

// ErrMoved says that the repository is elsewhere now. Its text says where.
var ErrMoved = errors.New("the repository was moved")

// Move replicates a repository, and lets nobody commit to the source any more.
// place says in words where it went. Interrupted, it is called again.
func Move(ctx context.Context, from, to Storage, place string, sums Sums, progress func(Replication)) (Replication, error) {
	first, err := Replicate(ctx, from, to, sums, progress)
	if err != nil {
		return first, err
	}
	data, err := json.Marshal(moved{To: place, At: time.Now().UTC()})
	if err != nil {
		return first, fmt.Errorf("encode %s: %w", movedKey, err)
	}
	if err := put(ctx, from, movedKey, data); err != nil && !errors.Is(err, ErrExist) {
		return first, fmt.Errorf("mark the source as moved: %w", err)
	}
	// What was committed before the mark.
	last, err := Replicate(ctx, from, to, sums, progress)
	last.Copied += first.Copied
	last.Written += first.Written
	last.Damaged = append(first.Damaged, last.Damaged...)
	return last, err
}

// notMoved returns ErrMoved if the repository in storage was moved.
func notMoved(ctx context.Context, storage Storage) error {
	data, err := get(ctx, storage, movedKey, 0, -1, maxFormat)
	if errors.Is(err, ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", movedKey, err)
	}
	var m moved
	if err := json.Unmarshal(data, &m); err != nil {
		return damaged(movedKey, "it can't be decoded")
	}
	return fmt.Errorf("%w to %s on %s: set -repository to that place", ErrMoved, m.To, m.At.Format(time.DateOnly))
}
