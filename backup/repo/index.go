package repo

import (
	"context"
	"sync"
)

// MemoryIndex is an Index in memory, for tests and tools.
type MemoryIndex struct {
	mu      sync.Mutex
	objects map[string]map[PieceID]Location
}

// NewMemoryIndex returns an empty index.
func NewMemoryIndex() *MemoryIndex {
	return &MemoryIndex{objects: map[string]map[PieceID]Location{}}
}

// Add makes objects of a tenant known.
func (m *MemoryIndex) Add(tenant string, objects []Object) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.objects[tenant] == nil {
		m.objects[tenant] = map[PieceID]Location{}
	}
	for _, o := range objects {
		m.objects[tenant][o.ID] = o.Location
	}
}

// Locate implements Index.
func (m *MemoryIndex) Locate(_ context.Context, tenant string, ids []PieceID) (map[PieceID]Location, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := map[PieceID]Location{}
	for _, id := range ids {
		if at, ok := m.objects[tenant][id]; ok {
			found[id] = at
		}
	}
	return found, nil
}
