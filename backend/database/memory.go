package database

import (
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"kvstore/backend/kv"
)

// rememberedHeads bounds the heads that are remembered. One takes about 200 bytes and
// its key.
const rememberedHeads = 8192

// memory is what Update knows without reading it: the counters, and the heads of the
// keys that were written last. That is right because this process alone writes the
// file, and only through Update, which changes the memory after each commit. With a
// database that several processes share, nothing may be remembered.
type memory struct {
	mu     sync.Mutex // held by Update from its begin to its end
	totals *kv.Totals // nil when they must be read
	heads  *simplelru.LRU[string, Head]
}

func newMemory() (*memory, error) {
	heads, err := simplelru.NewLRU[string, Head](rememberedHeads, nil)
	return &memory{heads: heads}, err
}

// learnLocked takes what a transaction has committed.
func (m *memory) learnLocked(t *Tx) {
	totals := t.Totals
	m.totals = &totals
	for key, head := range t.changed {
		m.heads.Add(key, head)
	}
	for _, key := range t.uncertain {
		m.heads.Remove(key)
	}
}

// forgetLocked is for when it is not known whether a transaction was committed.
func (m *memory) forgetLocked() {
	m.totals = nil
	m.heads.Purge()
}
