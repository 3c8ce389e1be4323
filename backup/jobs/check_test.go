package jobs_test

import (
	"strings"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/store"
	"holdfast/store/storetest"
)

func TestChecksReadWhatIsDue(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx := t.Context()
		k := keep(t, st, someLetters(20))
		org := k.w.Contoso.ID
		share := func() backup.CheckedShare {
			t.Helper()
			now := time.Now()
			shares, err := st.CheckedShares(ctx, k.w.Owner.Partner.ID, now.Add(-backup.HashedWithin), now.Add(-backup.OpenedWithin))
			if err != nil {
				t.Fatal(err)
			}
			return shares[org]
		}
		packs := int64(len(k.objects(t, "t/"+string(org)+"/d/")) + len(k.objects(t, "t/"+string(org)+"/m/")))
		if u := k.do(t, backup.UpkeepStructure); u.State != backup.UpkeepOK || u.Counted != packs || u.Bytes != 0 {
			t.Errorf("structure = %+v, want %d packs and nothing read", u, packs)
		}
		if s := share(); s.Bytes == 0 || s.Hashed != 0 || s.Opened != 0 {
			t.Errorf("share = %+v, want nothing opened", s)
		}
		first := k.do(t, backup.UpkeepData)
		if first.State != backup.UpkeepOK || first.Bytes == 0 {
			t.Errorf("data = %+v, want new packs read", first)
		}
		if s := share(); s.Hashed != s.Bytes || s.Opened != s.Bytes {
			t.Errorf("share = %+v, want all of it", s)
		}
		if u := k.do(t, backup.UpkeepData); u.State != backup.UpkeepOK || u.Counted != packs || u.Bytes != 0 {
			t.Errorf("data again = %+v, want nothing read that was read today", u)
		}
		checks, err := st.PackChecks(ctx, org)
		if err != nil {
			t.Fatal(err)
		}
		var old []backup.PackCheck
		for _, c := range checks {
			c.HashedAt, c.OpenedAt = c.HashedAt.Add(-backup.HashedWithin), c.OpenedAt.Add(-backup.HashedWithin)
			old = append(old, c)
		}
		if err := st.SavePackChecks(ctx, org, old); err != nil {
			t.Fatal(err)
		}
		if u := k.do(t, backup.UpkeepData); u.Bytes != first.Bytes {
			t.Errorf("data a month later read %d bytes, want %d", u.Bytes, first.Bytes)
		}
		if u := k.do(t, backup.UpkeepAll); u.State != backup.UpkeepOK || u.Bytes != first.Bytes {
			t.Errorf("all = %+v", u)
		}
		if theirs, err := st.PackChecks(ctx, k.w.Fabrikam.ID); err != nil || len(theirs) != 0 {
			t.Errorf("another organization has checks of packs: %v, %v", theirs, err)
		}
	})
}

// TestEveryDamageIsFoundAndNamed does everything that a disk may do to each kind
// of object: a check finds it, names it and the messages that it costs, and
// knows when it is whole again.
func TestEveryDamageIsFoundAndNamed(t *testing.T) {
	harms := map[string]func([]byte) []byte{
		"flip":     func(d []byte) []byte { d[len(d)/2] ^= 1; return d },
		"truncate": func(d []byte) []byte { return d[:len(d)/3] },
		"zero":     func(d []byte) []byte { clear(d[len(d)/3 : len(d)*2/3]); return d },
		"empty":    func([]byte) []byte { return nil },
		"delete":   nil,
	}
	for name, harm := range harms {
		for _, folder := range []string{"d", "m", "c"} {
			t.Run(name+" "+folder, func(t *testing.T) {
				st := storetest.Open(t)
				k := keep(t, st, someLetters(5))
				org := k.w.Contoso.ID
				key := k.objects(t, "t/"+string(org)+"/"+folder+"/")[0]
				whole := k.read(t, key)
				if harm == nil {
					if err := k.storage.Delete(t.Context(), key); err != nil {
						t.Fatal(err)
					}
				} else {
					k.change(t, key, harm)
				}
				kind := backup.UpkeepData
				if harm == nil && folder != "c" {
					kind = backup.UpkeepStructure // what is missing is found without reading anything
				}
				u := k.do(t, kind)
				list, err := st.Damages(t.Context(), org, 100)
				if err != nil {
					t.Fatal(err)
				}
				objects, letters := 0, 0
				for _, d := range list {
					switch {
					case d.Object == key:
						objects++
					case d.Record > 0 && strings.HasPrefix(d.Subject, "Letter m"):
						letters++
					default:
						t.Errorf("unknown damage %+v", d)
					}
				}
				wantLetters := 5 // all are in the one pack
				if folder == "c" {
					wantLetters = 0 // the catalog still leads to them
				}
				if u.Damaged != int64(len(list)) {
					t.Errorf("%s says %d damaged, the list has %d", kind, u.Damaged, len(list))
				}
				if u.State != backup.UpkeepDamaged || objects != 1 || letters != wantLetters {
					t.Errorf("%s = %+v: %d objects and %d letters named, want 1 and %d", kind, u, objects, letters, wantLetters)
				}
				// Whatever check comes after it, it counts what the list shows, once.
				for _, kind := range []backup.UpkeepKind{backup.UpkeepStructure, backup.UpkeepData, backup.UpkeepAll} {
					if u := k.do(t, kind); u.Damaged != int64(len(list)) {
						t.Errorf("%s after it says %d damaged, the list has %d", kind, u.Damaged, len(list))
					}
				}
				k.storage.Set(key, whole)
				if u := k.do(t, backup.UpkeepStructure); u.State != backup.UpkeepOK {
					t.Errorf("after it is whole again: %+v", u)
				}
				if n, _, err := st.CountDamages(t.Context(), org); err != nil || n != 0 {
					left, _ := st.Damages(t.Context(), org, 10)
					t.Errorf("%d damages left, %v: %+v", n, err, left)
				}
			})
		}
	}
}
