package jobs_test

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"encoding/base64"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/jobs"
	"holdfast/backup/repo"
	"holdfast/store"
	"holdfast/store/storetest"
)

// stolen are the keys that an organization has at some time.
type stolen struct {
	epoch           int
	tenant, mailbox [][]byte // by epoch
}

func steal(t *testing.T, st *store.Store, org backup.OrgID, mailbox backup.MailboxID) stolen {
	t.Helper()
	epoch, err := st.Epoch(t.Context(), string(org))
	if err != nil {
		t.Fatal(err)
	}
	s := stolen{epoch: epoch}
	for e := range epoch + 1 {
		tenant, err := st.TenantKey(t.Context(), string(org), e)
		if err != nil {
			t.Fatal(err)
		}
		source, err := st.SourceKey(t.Context(), string(org), string(mailbox), e)
		if err != nil {
			t.Fatal(err)
		}
		s.tenant, s.mailbox = append(s.tenant, tenant), append(s.mailbox, source)
	}
	return s
}

func (s stolen) Epoch(context.Context, string) (int, error) { return s.epoch, nil }

func (s stolen) TenantKey(_ context.Context, _ string, epoch int) ([]byte, error) {
	if epoch > s.epoch {
		return nil, repo.ErrNoKey
	}
	return s.tenant[epoch], nil
}

func (s stolen) SourceKey(_ context.Context, _, _ string, epoch int) ([]byte, error) {
	if epoch > s.epoch {
		return nil, repo.ErrNoKey
	}
	return s.mailbox[epoch], nil
}

func (s stolen) Secrets(context.Context, string) ([]byte, error) { return nil, repo.ErrNoKey }

// texts reads every message of a snapshot, by the provider's ids; opened says how
// many could be.
func (k kept) texts(t *testing.T, e *engine.Engine, seq int64) (list map[string]string, opened int) {
	t.Helper()
	org, mailbox := k.w.Contoso.ID, k.mailbox.ID
	items, _, err := k.Store.Items(t.Context(), org, mailbox, seq, store.ItemQuery{PageSize: 1000})
	if err != nil {
		t.Fatal(err)
	}
	list = map[string]string{}
	for _, item := range items {
		var out bytes.Buffer
		if err := e.WriteItem(t.Context(), org, mailbox, item.ID, &out); err == nil {
			opened++
		}
		list[item.ProviderID] = out.String()
	}
	return list, opened
}

// TestLeakedKeysOpenNothingAfterARekey takes an organization in two epochs through
// all of a rekey, as the schedule does it.
func TestLeakedKeysOpenNothingAfterARekey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		ctx, letters := t.Context(), someLetters(4)
		big := make([]byte, 60<<10)
		crand.Read(big)
		attachment := &strings.Builder{}
		for part := range slices.Chunk(big, 57) {
			attachment.WriteString(base64.StdEncoding.EncodeToString(part) + "\r\n")
		}
		letters["big"] = attachment.String() // all of it is a piece that mailboxes share
		k := keep(t, st, letters)
		org, owner := k.w.Contoso.ID, k.w.Owner
		if _, err := st.RotateKey(ctx, owner.Partner.ID, org, owner); err != nil {
			t.Fatal(err)
		}
		letters["new"] = strings.Repeat("written in the second epoch\r\n", 100)
		if _, err := k.Engine.Backup(ctx, engine.Job{Org: org, Mailbox: k.mailbox.ID, Source: letters}); err != nil {
			t.Fatal(err)
		}
		before := []map[string]string{}
		for seq := int64(1); seq <= 2; seq++ {
			list, opened := k.texts(t, k.Engine, seq)
			if opened != 4+int(seq) {
				t.Fatalf("snapshot %d has %d messages", seq, opened)
			}
			before = append(before, list)
		}
		thief := steal(t, st, org, k.mailbox.ID)

		if _, err := st.BeginRekey(ctx, "another partner", org, owner); !errors.Is(err, backup.ErrNotFound) {
			t.Errorf("BeginRekey by another partner = %v, want ErrNotFound", err)
		}
		epoch, err := st.BeginRekey(ctx, owner.Partner.ID, org, owner)
		if err != nil || epoch != 2 {
			t.Fatalf("BeginRekey = %d, %v; want epoch 2", epoch, err)
		}
		passes := 0
		for u := (backup.Upkeep{NextAt: time.Now()}); !u.NextAt.IsZero(); passes++ {
			if passes == 10 {
				t.Fatalf("it does not end: %+v", u)
			}
			if wait := time.Until(u.NextAt); wait > 0 {
				time.Sleep(wait)
				if due, err := st.DueAgain(ctx, time.Now()); err != nil || len(due) != 1 || due[0].OrgID != org {
					t.Fatalf("due are %v, %v", due, err)
				}
			}
			u = k.do(t, backup.UpkeepRekey)
			if u.State != backup.UpkeepOK || u.Problem.Text != "" {
				t.Fatalf("rekey = %+v", u)
			}
			if _, err := st.BeginRekey(ctx, owner.Partner.ID, org, owner); !u.NextAt.IsZero() && !errors.Is(err, backup.ErrConflict) {
				t.Errorf("BeginRekey while one goes on = %v, want ErrConflict", err)
			}
		}
		if passes < 3 {
			t.Errorf("it ended after %d passes, want the grace to be waited for", passes)
		}
		left := map[int]int{} // keys by epoch
		for e := range 3 {
			if _, err := st.SourceKey(ctx, string(org), string(k.mailbox.ID), e); err == nil {
				left[e]++
			}
			if _, err := st.TenantKey(ctx, string(org), e); err == nil {
				left[e]++
			}
		}
		if left[0]+left[1] != 0 || left[2] != 2 {
			t.Errorf("keys by epoch are %v, want those of epoch 2", left)
		}
		k.opensAll(t, before)
		closedTo(t, k, thief)
		again, err := repo.Open(ctx, k.storage, st, st, repo.Options{}) // with no key in memory
		if err != nil {
			t.Fatal(err)
		}
		k.Engine = &engine.Engine{Repo: again, Catalog: st}
		if err := k.Engine.Rebuild(ctx, org); err != nil {
			t.Fatal(err)
		}
		k.opensAll(t, before)
		kit := &bytes.Buffer{}
		if _, err := st.WriteKit(ctx, kit); err != nil {
			t.Fatal(err)
		}
		other := storetest.Open(t)
		if _, err := other.ReadKit(ctx, bytes.Repeat([]byte{1}, 32), kit); err != nil {
			t.Fatal(err)
		}
		anew, err := repo.Open(ctx, k.storage, other, other, repo.Options{})
		if err != nil {
			t.Fatal(err)
		}
		k.Store, k.Engine = other, &engine.Engine{Repo: anew, Catalog: other}
		if err := k.Engine.Rebuild(ctx, org); err != nil {
			t.Fatal(err)
		}
		k.opensAll(t, before)
	})
}

// opensAll checks that every snapshot has what it had, and that all of the
// repository opens.
func (k kept) opensAll(t *testing.T, want []map[string]string) {
	t.Helper()
	org := k.w.Contoso.ID
	for i, texts := range want {
		got, opened := k.texts(t, k.Engine, int64(i+1))
		if opened != len(texts) || !maps.Equal(got, texts) {
			t.Errorf("%d of %d messages of snapshot %d open, or are not what they were", opened, len(texts), i+1)
		}
	}
	report, err := k.Engine.Verify(t.Context(), org, true)
	if err != nil || len(report.Damaged) > 0 || report.Packs == 0 {
		t.Errorf("Verify = %+v, %v", report, err)
	}
}

// closedTo checks that stolen keys open no message, no snapshot and no log, with
// the catalog to help.
func closedTo(t *testing.T, k kept, thief stolen) {
	t.Helper()
	org := k.w.Contoso.ID
	r, err := repo.Open(t.Context(), k.storage, thief, k.Store, repo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for seq := int64(1); seq <= 2; seq++ {
		if _, opened := k.texts(t, &engine.Engine{Repo: r, Catalog: k.Store}, seq); opened > 0 {
			t.Errorf("%d messages of snapshot %d open under the stolen keys", opened, seq)
		}
		if _, err := r.Commit(t.Context(), string(org), string(k.mailbox.ID), seq); err == nil {
			t.Errorf("snapshot %d opens under the stolen keys", seq)
		}
	}
	if err := r.VerifyLog(t.Context(), string(org)); err == nil {
		t.Error("the deletion log opens under the stolen keys")
	}
}

// TestRekeyEndsOnPostgreSQL has a rekey begin at one database and, after the grace,
// end at another, which a recovery kit brought the keys to.
func TestRekeyEndsOnPostgreSQL(t *testing.T) {
	there := storetest.At(t, storetest.Postgres(t))
	kit, k, before := &bytes.Buffer{}, kept{}, []map[string]string{}
	var thief stolen
	synctest.Test(t, func(t *testing.T) { // its time is long ago
		st := storetest.Open(t)
		ctx := t.Context()
		letters := someLetters(4)
		k = keep(t, st, letters)
		org := k.w.Contoso.ID
		letters["new"] = "A letter that came later"
		if _, err := k.Engine.Backup(ctx, engine.Job{Org: org, Mailbox: k.mailbox.ID, Source: letters}); err != nil {
			t.Fatal(err)
		}
		for seq := int64(1); seq <= 2; seq++ {
			list, _ := k.texts(t, k.Engine, seq)
			before = append(before, list)
		}
		thief = steal(t, st, org, k.mailbox.ID)
		if _, err := st.BeginRekey(ctx, k.w.Owner.Partner.ID, org, k.w.Owner); err != nil {
			t.Fatal(err)
		}
		if u := k.do(t, backup.UpkeepRekey); u.Counted == 0 || u.Done >= u.Total || u.NextAt.IsZero() {
			t.Fatalf("rekey = %+v, want packs written anew, and the grace to be waited for", u)
		}
		time.Sleep(repo.WriterLife)
		if _, err := st.WriteKit(ctx, kit); err != nil {
			t.Fatal(err)
		}
	})
	ctx, org := t.Context(), k.w.Contoso.ID
	if _, err := there.ReadKit(ctx, bytes.Repeat([]byte{1}, 32), kit); err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(ctx, k.storage, there, there, repo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	k.Runner = &jobs.Runner{Store: there, Engine: &engine.Engine{Repo: r, Catalog: there}, Log: slog.New(slog.DiscardHandler)}
	if err := k.Engine.Rebuild(ctx, org); err != nil {
		t.Fatal(err)
	}
	k.opensAll(t, before)
	for passes := 0; ; passes++ {
		u := k.do(t, backup.UpkeepRekey)
		if u.State != backup.UpkeepOK || passes > 3 {
			t.Fatalf("rekey = %+v after %d passes", u, passes)
		}
		if u.NextAt.IsZero() {
			break
		}
	}
	if _, err := there.TenantKey(ctx, string(org), 0); !errors.Is(err, repo.ErrNoKey) {
		t.Errorf("the old key = %v, want ErrNoKey", err)
	}
	k.opensAll(t, before)
	closedTo(t, k, thief)
}

// lockedUntil keeps packs and snapshots until a time.
type lockedUntil struct {
	repo.Storage
	until time.Time
}

// Delete implements repo.Storage.
func (l lockedUntil) Delete(ctx context.Context, key string) error {
	if repo.Lasting(key) && time.Now().Before(l.until) {
		return repo.ErrRetained
	}
	return l.Storage.Delete(ctx, key)
}

// LockedUntil says when the lock of an object ends.
func (l lockedUntil) LockedUntil(context.Context, string) (time.Time, error) { return l.until, nil }

// TestARekeySaysWhatIsLocked moves an organization to new keys whose storage locks what
// it has: how many objects stay and until when is known until they are deleted.
func TestARekeySaysWhatIsLocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, ctx := keep(t, storetest.Open(t), someLetters(4)), t.Context()
		org, until := k.w.Contoso.ID, time.Now().Add(12*24*time.Hour)
		locked := int64(len(k.objects(t, "t/"+string(org)+"/")))
		k.Runner = k.on(t, lockedUntil{k.storage, until})
		if _, err := k.Store.BeginRekey(ctx, k.w.Owner.Partner.ID, org, k.w.Owner); err != nil {
			t.Fatal(err)
		}
		u, waits := backup.Upkeep{NextAt: time.Now()}, 0
		for passes := 0; !u.NextAt.IsZero() && passes < 20; passes++ {
			time.Sleep(time.Until(u.NextAt))
			if u = k.do(t, backup.UpkeepRekey); u.Retained > 0 {
				if waits++; u.Retained != locked || !u.RetainedUntil.Equal(until) {
					t.Errorf("%d objects are locked until %s, want %d until %s", u.Retained, u.RetainedUntil, locked, until)
				}
			}
		}
		if waits < 8 || u.Retained != 0 || !u.RetainedUntil.IsZero() || !u.NextAt.IsZero() {
			t.Errorf("it waited for the locks %d times, and ended as %+v", waits, u)
		}
	})
}
