package cache_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"kvstore/backend/cache"
)

// A model is the simplest cache with the guarantees of package cache.
type model struct {
	maxKeys  int
	maxBytes int64
	entries  []modelEntry // the most recently used first
	stats    cache.Stats
}

type modelEntry struct {
	key   string
	value item
}

func (m *model) find(key string) int {
	return slices.IndexFunc(m.entries, func(e modelEntry) bool { return e.key == key })
}

func (m *model) bytes() (sum int64) {
	for _, e := range m.entries {
		sum += e.value.Size
	}
	return sum
}

func (m *model) keys() []string {
	keys := make([]string, 0, len(m.entries))
	for _, e := range m.entries {
		keys = append(keys, e.key)
	}
	return keys
}

func (m *model) remove(key string) {
	if i := m.find(key); i >= 0 {
		m.entries = slices.Delete(m.entries, i, i+1)
	}
}

func (m *model) get(key string, match func(item) bool) (item, bool) {
	i := m.find(key)
	if i < 0 || !match(m.entries[i].value) {
		m.stats.Misses++
		return item{}, false
	}
	m.stats.Hits++
	e := m.entries[i]
	m.remove(key)
	m.entries = slices.Insert(m.entries, 0, e)
	return e.value, true
}

func (m *model) put(key string, v item) {
	m.remove(key)
	if v.Size > m.maxBytes {
		return
	}
	m.entries = slices.Insert(m.entries, 0, modelEntry{key, v})
	for len(m.entries) > m.maxKeys || m.bytes() > m.maxBytes {
		m.entries = m.entries[:len(m.entries)-1]
		m.stats.Evictions++
	}
}

func (m *model) fill(key string, v item) bool {
	if m.find(key) >= 0 {
		return false
	}
	m.put(key, v)
	return m.find(key) >= 0
}

// An op is one call. The kind decides which fields are used.
type op struct {
	kind  int
	key   int
	size  int64
	lease int
}

const (
	opGet = iota
	opGetIf
	opPut
	opRemove
	opLease
	opFill
	opRelease
	opKinds
)

// A pair runs the same operations on a cache and on a model.
type pair struct {
	cache  *cache.Cache[item]
	model  *model
	lastID int
	leases []modelLease
}

type modelLease struct {
	lease cache.Lease
	key   string
	valid bool // until it ends, or its key is put or removed
}

func newPair(tb testing.TB, maxKeys int, maxBytes int64) *pair {
	tb.Helper()
	return &pair{
		cache:  newItems(tb, maxKeys, maxBytes),
		model:  &model{maxKeys: maxKeys, maxBytes: maxBytes},
		leases: make([]modelLease, 4),
	}
}

func (p *pair) void(key string) {
	for i := range p.leases {
		if p.leases[i].key == key {
			p.leases[i].valid = false
		}
	}
}

// do runs o on both, and returns an error if they differ.
func (p *pair) do(o op) error {
	key := fmt.Sprint("k", o.key)
	p.lastID++
	v := item{ID: p.lastID, Size: o.size}
	l := &p.leases[o.lease]
	switch o.kind {
	case opGet:
		got, ok := p.cache.Get(key)
		if want, wantOK := p.model.get(key, func(item) bool { return true }); got != want || ok != wantOK {
			return fmt.Errorf("Get(%s) = %v, %v, want %v, %v", key, got, ok, want, wantOK)
		}
	case opGetIf:
		match := func(v item) bool { return v.ID%2 == 0 }
		got, ok := p.cache.GetIf(key, match)
		if want, wantOK := p.model.get(key, match); got != want || ok != wantOK {
			return fmt.Errorf("GetIf(%s) = %v, %v, want %v, %v", key, got, ok, want, wantOK)
		}
	case opPut:
		p.void(key)
		p.cache.Put(key, v)
		p.model.put(key, v)
	case opRemove:
		p.void(key)
		p.cache.Remove(key)
		p.model.remove(key)
	case opLease:
		p.cache.Release(l.lease)
		*l = modelLease{p.cache.Lease(key), key, true}
	case opFill:
		got := p.cache.Fill(l.lease, v)
		want := l.valid && p.model.fill(l.key, v)
		l.valid = false
		if got != want {
			return fmt.Errorf("Fill(%s) = %v, want %v", l.key, got, want)
		}
	case opRelease:
		p.cache.Release(l.lease)
		l.valid = false
	}
	return p.compare()
}

func (p *pair) compare() error {
	if got, want := p.cache.Keys(), p.model.keys(); !slices.Equal(got, want) {
		return fmt.Errorf("residents %v, want %v", got, want)
	}
	want := p.model.stats
	want.Keys, want.MaxKeys = len(p.model.entries), p.model.maxKeys
	want.Bytes, want.MaxBytes = p.model.bytes(), p.model.maxBytes
	if got := p.cache.Stats(); got != want {
		return fmt.Errorf("Stats %+v, want %+v", got, want)
	}
	open := make(map[string]bool)
	for _, l := range p.leases {
		if l.valid {
			open[l.key] = true
		}
	}
	if got := p.cache.LeasedKeys(); got != len(open) {
		return fmt.Errorf("%d records of leases, %d keys have a valid one", got, len(open))
	}
	return nil
}

func TestModel(t *testing.T) {
	const unbounded = 1 << 40
	tests := []struct {
		maxKeys  int
		maxBytes int64
		keys     int
		maxSize  int64
		ops      int
	}{
		{1, unbounded, 3, 9, 30_000},
		{2, unbounded, 5, 9, 30_000},
		{3, unbounded, 6, 9, 30_000},
		{10, unbounded, 16, 9, 30_000},
		{unbounded, 1, 4, 2, 30_000},
		{unbounded, 10, 8, 6, 30_000},
		{unbounded, 40, 20, 50, 30_000},
		{1, 5, 3, 7, 30_000},
		{2, 10, 5, 9, 30_000},
		{3, 10, 6, 12, 30_000},
		{8, 24, 12, 9, 30_000},
		{600, 2700, 1000, 9, 10_000},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%d keys %d bytes", tt.maxKeys, tt.maxBytes), func(t *testing.T) {
			ops := tt.ops
			if testing.Short() {
				ops /= 10
			}
			p := newPair(t, tt.maxKeys, tt.maxBytes)
			seed := rand.Uint64()
			r := rand.New(rand.NewPCG(seed, 0))
			for i := range ops {
				o := op{r.IntN(opKinds), r.IntN(tt.keys), r.Int64N(tt.maxSize + 1), r.IntN(len(p.leases))}
				if r.IntN(3) == 0 {
					o.kind = opPut // so that it fills up
				}
				if err := p.do(o); err != nil {
					t.Fatalf("seed %d, operation %d %+v: %v", seed, i, o, err)
				}
			}
		})
	}
}

// FuzzModel takes the bounds from the first two bytes and an operation from
// every two that follow.
func FuzzModel(f *testing.F) {
	f.Add([]byte{2, 200, 0x20, 1, 0x21, 2, 0x22, 3, 0x00, 0, 0x01, 0})
	f.Add([]byte{0, 9, 0x40, 0, 0x20, 5, 0x50, 3, 0x00, 0})
	f.Add([]byte{5, 12, 0x20, 6, 0x21, 6, 0x22, 6, 0x20, 12, 0x20, 13, 0x30, 0})
	f.Add([]byte{1, 3, 0x40, 0, 0x40, 1 << 6, 0x50, 1, 0x30, 0, 0x50, 1<<6 | 1, 0x60, 0, 0x10, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < 2 {
			return
		}
		p := newPair(t, 1+int(data[0])%8, 1+int64(data[1]))
		for data = data[2:]; len(data) >= 2; data = data[2:] {
			o := op{
				kind:  int(data[0]>>4) % opKinds,
				key:   int(data[0] & 0x0f),
				size:  int64(data[1] & 0x3f),
				lease: int(data[1] >> 6),
			}
			if err := p.do(o); err != nil {
				t.Fatalf("%+v: %v", o, err)
			}
		}
	})
}
