package repo

import (
	"context"
	"slices"
	"sync"
)

// MemoryIndex is an Index in memory, for tests and tools.
type MemoryIndex struct {
	mu      sync.Mutex
	tenants map[string]*memoryObjects
}

// memoryObjects are the objects of a tenant, and its packs.
type memoryObjects struct {
	objects map[PieceID][]Location // an object may be in several packs
	packs   map[PackID][]PieceID
}

// NewMemoryIndex returns an empty index.
func NewMemoryIndex() *MemoryIndex { return &MemoryIndex{tenants: map[string]*memoryObjects{}} }

// tenant is called with mu held.
func (m *MemoryIndex) tenant(name string) *memoryObjects {
	t := m.tenants[name]
	if t == nil {
		t = &memoryObjects{objects: map[PieceID][]Location{}, packs: map[PackID][]PieceID{}}
		m.tenants[name] = t
	}
	return t
}

// Add makes objects of a tenant known.
func (m *MemoryIndex) Add(tenant string, objects []Object) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.tenant(tenant)
	for _, o := range objects {
		if !slices.Contains(t.objects[o.ID], o.Location) {
			t.objects[o.ID] = append(t.objects[o.ID], o.Location)
			t.packs[o.Pack] = append(t.packs[o.Pack], o.ID)
		}
	}
}

// Forget takes packs of a tenant out of the index.
func (m *MemoryIndex) Forget(tenant string, packs []PackID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.tenant(tenant)
	for _, pack := range packs {
		for _, id := range t.packs[pack] {
			t.objects[id] = slices.DeleteFunc(t.objects[id], func(at Location) bool { return at.Pack == pack })
		}
		delete(t.packs, pack)
	}
}

// Missing returns those of the packs that the index has nothing of.
func (m *MemoryIndex) Missing(tenant string, packs []PackID) []PackID {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.tenant(tenant)
	return slices.DeleteFunc(slices.Clone(packs), func(id PackID) bool { return len(t.packs[id]) > 0 })
}

// Locate implements Index.
func (m *MemoryIndex) Locate(_ context.Context, tenant string, ids []PieceID) (map[PieceID]Location, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.tenant(tenant)
	found := map[PieceID]Location{}
	for _, id := range ids {
		if list := t.objects[id]; len(list) > 0 {
			found[id] = list[len(list)-1]
		}
	}
	return found, nil
}

// EachPiece implements Lister.
func (m *MemoryIndex) EachPiece(_ context.Context, tenant string, packs []PackID, f func(PieceID)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, pack := range packs {
		for _, id := range m.tenant(tenant).packs[pack] {
			f(id)
		}
	}
	return nil
}
