package cache

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/ristretto/v2"
)

// Config bounds a cache.
type Config[V any] struct {
	// MaxKeys is the largest number of keys, at least 1. Memory is allocated as
	// keys arrive.
	MaxKeys int
	// MaxBytes is the largest sum of the sizes of all entries, at least 1.
	MaxBytes int64
	// Size returns the number of bytes of an entry, at least 0 and always the
	// same for the same entry. It is called once for each Put and Fill, without
	// the lock.
	Size func(key string, value V) int64
}

// Cache is a strict LRU cache bounded by keys and by bytes. It is safe for
// concurrent use. Callers must not modify what a value refers to: it is shared.
type Cache[V any] struct {
	size     func(key string, value V) int64
	maxKeys  int
	maxBytes int64

	lost atomic.Uint64 // values that ristretto dropped by itself; always 0

	mu     sync.Mutex // guards everything below, and every ticket
	closed bool
	values *ristretto.Cache[uint64, V] // by slot
	nodes  map[string]*node            // resident keys
	order  order                       // of nodes, most recently used first
	leases map[string]*leaseGroup      // valid leases by key
	free   *node                       // list of filled slots without a key
	bytes  int64                       // sum of the sizes of nodes

	lastSlot   uint64 // the highest slot number in use
	slots      int    // resident and free nodes
	queueBytes int64  // bytes that may still be queued before a Wait

	hits, misses, evictions uint64
}

// Stats is the state of a cache at one instant.
type Stats struct {
	Keys     int
	MaxKeys  int
	Bytes    int64
	MaxBytes int64
	// Hits and Misses count the calls of Get and GetIf.
	Hits   uint64
	Misses uint64
	// Evictions counts keys that were evicted to make room. It does not count
	// keys that were removed, replaced, or dropped because their new value by
	// itself was too large.
	Evictions uint64
}

// New returns an empty cache. Close it to stop its goroutines.
func New[V any](cfg Config[V]) (*Cache[V], error) {
	switch {
	case cfg.MaxKeys < 1:
		return nil, fmt.Errorf("cache: MaxKeys is %d, must be at least 1", cfg.MaxKeys)
	case cfg.MaxBytes < 1:
		return nil, fmt.Errorf("cache: MaxBytes is %d, must be at least 1", cfg.MaxBytes)
	case cfg.Size == nil:
		return nil, errors.New("cache: Size is nil")
	}
	c := &Cache[V]{
		size:       cfg.Size,
		maxKeys:    cfg.MaxKeys,
		maxBytes:   cfg.MaxBytes,
		nodes:      make(map[string]*node),
		leases:     make(map[string]*leaseGroup),
		queueBytes: max(cfg.MaxBytes, minQueueBytes),
	}
	c.order.init()
	var err error
	c.values, err = newValues[V](&c.lost)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Get returns the value of key and whether it is resident. A resident key becomes
// the most recently used. Get counts as one hit or one miss.
func (c *Cache[V]) Get(key string) (V, bool) {
	return c.GetIf(key, nil)
}

// GetIf is like Get, but if match returns false, it is a miss and does not use the
// key. A nil match accepts any value. The lock is held while match runs, so match
// must be fast and must not call the cache.
func (c *Cache[V]) GetIf(key string, match func(V) bool) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.nodes[key]; n != nil {
		value, ok := c.valueLocked(n)
		if ok && (match == nil || match(value)) {
			c.order.moveToFront(n)
			c.hits++
			return value, true
		}
	}
	c.misses++
	var zero V
	return zero, false
}

// Put sets the value of key, makes key the most recently used, and voids its
// outstanding leases. Call it after the write has committed, in commit order for
// each key. A value that by itself is larger than MaxBytes is not kept, and any
// previous value is dropped.
func (c *Cache[V]) Put(key string, value V) {
	size := c.sizeOf(key, value)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.voidLocked(key)
	if !c.closed {
		c.installLocked(key, value, size)
	}
}

// Remove drops key if it is resident, and voids its outstanding leases.
func (c *Cache[V]) Remove(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.voidLocked(key)
	c.dropLocked(key)
}

// Purge drops all keys, and voids all outstanding leases.
func (c *Cache[V]) Purge() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.leases {
		c.voidLocked(key)
	}
	for len(c.nodes) > 0 {
		n := c.order.last()
		c.unlistLocked(n)
		c.freeLocked(n)
	}
}

// Stats returns the state of the cache.
func (c *Cache[V]) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Stats{
		Keys:      len(c.nodes),
		MaxKeys:   c.maxKeys,
		Bytes:     c.bytes,
		MaxBytes:  c.maxBytes,
		Hits:      c.hits,
		Misses:    c.misses,
		Evictions: c.evictions,
	}
}

// Close empties the cache and returns when its goroutines have stopped. A closed
// cache keeps nothing, and every Get misses. Closing it again does nothing.
func (c *Cache[V]) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.closed = true
	c.values.Wait()
	lost := c.lost.Load()
	c.values.Close()
	c.lost.Store(lost) // ristretto's Close calls OnEvict for every value
	c.nodes, c.leases, c.free, c.bytes = nil, nil, nil, 0
	c.order.init()
}

// sizeOf returns the size of an entry. A negative size would corrupt the sum, so it
// counts as 0.
func (c *Cache[V]) sizeOf(key string, value V) int64 {
	return max(c.size(key, value), 0)
}

// installLocked makes key resident and most recently used, and evicts until both
// bounds hold. It reports whether key is resident, which it is not if the entry by
// itself is too large.
func (c *Cache[V]) installLocked(key string, value V, size int64) bool {
	if size > c.maxBytes {
		c.dropLocked(key)
		return false
	}
	n := c.nodes[key]
	if n != nil {
		c.order.moveToFront(n) // so that it is not evicted itself
		c.bytes -= n.size
		n.size = 0
		if spare := c.evictLocked(c.maxKeys, size); spare != nil {
			c.freeLocked(spare)
		}
	} else {
		n = c.evictLocked(c.maxKeys-1, size)
		if n == nil {
			n = c.takeLocked()
		}
		if n == nil {
			return false
		}
		n.key = key
		c.nodes[key] = n
		c.order.pushFront(n)
	}
	n.size = size
	c.bytes += size
	c.setLocked(n, value, size)
	return true
}

// evictLocked evicts the least recently used keys until at most maxKeys are left and
// size more bytes fit. It returns one of the evicted nodes for reuse, if there are
// any, and frees the others.
func (c *Cache[V]) evictLocked(maxKeys int, size int64) (spare *node) {
	for len(c.nodes) > maxKeys || size > c.maxBytes-c.bytes {
		n := c.order.last()
		c.unlistLocked(n)
		c.evictions++
		if spare != nil {
			c.freeLocked(spare)
		}
		spare = n
	}
	return spare
}

// dropLocked removes key and its value, if it is resident.
func (c *Cache[V]) dropLocked(key string) {
	if n := c.nodes[key]; n != nil {
		c.unlistLocked(n)
		c.freeLocked(n)
	}
}

// unlistLocked makes n not resident. Its slot still holds the value.
func (c *Cache[V]) unlistLocked(n *node) {
	delete(c.nodes, n.key)
	c.order.remove(n)
	c.bytes -= n.size
	n.key, n.size = "", 0
}

// A node is a slot of ristretto. It is either resident, and then in Cache.nodes and
// Cache.order, or free.
type node struct {
	slot uint64
	key  string
	size int64

	prev, next *node // in Cache.order; next is also the link in Cache.free
}

// An order lists nodes from the most to the least recently used. It is a ring through
// root, which is not a node of the cache. Unlike container/list, it does not allocate.
type order struct {
	root node
}

func (o *order) init() {
	o.root.prev = &o.root
	o.root.next = &o.root
}

// last returns the least recently used node. The order must not be empty.
func (o *order) last() *node { return o.root.prev }

func (o *order) pushFront(n *node) {
	n.prev = &o.root
	n.next = o.root.next
	n.prev.next = n
	n.next.prev = n
}

func (o *order) remove(n *node) {
	n.prev.next = n.next
	n.next.prev = n.prev
	n.prev, n.next = nil, nil
}

func (o *order) moveToFront(n *node) {
	if o.root.next == n {
		return
	}
	o.remove(n)
	o.pushFront(n)
}
