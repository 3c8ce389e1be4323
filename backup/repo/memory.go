package repo

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Memory is a Storage in memory, for tests.
type Memory struct {
	mu      sync.Mutex
	objects map[string][]byte
}

// NewMemory returns an empty Memory.
func NewMemory() *Memory { return &Memory{objects: map[string][]byte{}} }

// Create implements Storage.
func (m *Memory) Create(_ context.Context, key string) (Upload, error) {
	if !ValidKey(key) {
		return nil, badKey(key)
	}
	return &memoryUpload{memory: m, key: key}, nil
}

type memoryUpload struct {
	memory *Memory
	key    string
	data   bytes.Buffer
}

func (u *memoryUpload) Write(p []byte) (int, error) { return u.data.Write(p) }

func (u *memoryUpload) Commit(context.Context) error {
	u.memory.mu.Lock()
	defer u.memory.mu.Unlock()
	if _, ok := u.memory.objects[u.key]; ok {
		return fmt.Errorf("%s: %w", u.key, ErrExist)
	}
	u.memory.objects[u.key] = bytes.Clone(u.data.Bytes())
	return nil
}

func (u *memoryUpload) Abort() {}

// Open implements Storage.
func (m *Memory) Open(_ context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if !ValidKey(key) {
		return nil, badKey(key)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.objects[key]
	if !ok {
		return nil, fmt.Errorf("%s: %w", key, ErrNotExist)
	}
	data = data[min(offset, int64(len(data))):]
	if length >= 0 {
		data = data[:min(length, int64(len(data)))]
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// Stat implements Storage.
func (m *Memory) Stat(_ context.Context, key string) (int64, error) {
	if !ValidKey(key) {
		return 0, badKey(key)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.objects[key]
	if !ok {
		return 0, fmt.Errorf("%s: %w", key, ErrNotExist)
	}
	return int64(len(data)), nil
}

// List implements Storage.
func (m *Memory) List(_ context.Context, prefix string) iter.Seq2[Entry, error] {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []Entry
	for _, key := range slices.Sorted(maps.Keys(m.objects)) {
		if strings.HasPrefix(key, prefix) {
			list = append(list, Entry{Key: key, Size: int64(len(m.objects[key]))})
		}
	}
	return func(yield func(Entry, error) bool) {
		for _, e := range list {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// Delete implements Storage.
func (m *Memory) Delete(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.objects[key]; !ok {
		return fmt.Errorf("%s: %w", key, ErrNotExist)
	}
	delete(m.objects, key)
	return nil
}

// Set replaces an object, as a failing disk might.
func (m *Memory) Set(key string, data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.objects[key] = data
}
