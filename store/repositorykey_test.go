package store_test

import (
	"bytes"
	"errors"
	"testing"

	"holdfast/backup/repo"
	"holdfast/store"
	"holdfast/store/storetest"
)

// TestReadingNeverMakesKeys asks for keys of an epoch that never began, as the
// damaged header of a pack does: they must not be made, and must not become the
// epoch that is written in.
func TestReadingNeverMakesKeys(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx := t.Context()
		w := storetest.Fill(t, st)
		org := string(w.Contoso.ID)
		if _, err := st.TenantKey(ctx, org, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := st.TenantKey(ctx, org, 1<<24); !errors.Is(err, repo.ErrNoKey) {
			t.Errorf("tenant key of an epoch that never began = %v, want ErrNoKey", err)
		}
		if _, err := st.SourceKey(ctx, org, "box", 7); !errors.Is(err, repo.ErrNoKey) {
			t.Errorf("source key of an epoch that never began = %v, want ErrNoKey", err)
		}
		if epoch, err := st.Epoch(ctx, org); err != nil || epoch != 0 {
			t.Errorf("Epoch = %d, %v; want 0", epoch, err)
		}
	})
}

func TestRotatedKeysAreNewAndOldOnesStay(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx := t.Context()
		w := storetest.Fill(t, st)
		org := string(w.Contoso.ID)
		old, err := st.TenantKey(ctx, org, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.RotateKey(ctx, "another partner", w.Contoso.ID, w.Owner); !isNotFound(err) {
			t.Errorf("RotateKey by another partner = %v, want ErrNotFound", err)
		}
		epoch, err := st.RotateKey(ctx, w.Owner.Partner.ID, w.Contoso.ID, w.Owner)
		if err != nil || epoch != 1 {
			t.Fatalf("RotateKey = %d, %v; want epoch 1", epoch, err)
		}
		if now, err := st.Epoch(ctx, org); err != nil || now != 1 {
			t.Errorf("Epoch = %d, %v; want 1", now, err)
		}
		fresh, err := st.TenantKey(ctx, org, 1)
		if err != nil || bytes.Equal(fresh, old) {
			t.Errorf("the new key is the old one, %v", err)
		}
		if again, err := st.TenantKey(ctx, org, 0); err != nil || !bytes.Equal(again, old) {
			t.Errorf("the old key changed, %v", err)
		}
		if theirs, err := st.Epoch(ctx, string(w.Fabrikam.ID)); err != nil || theirs != 0 {
			t.Errorf("another organization is in epoch %d, %v", theirs, err)
		}
	})
}
