package cache

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/ristretto/v2"
)

// Config says how large a cache may become.
type Config[V any] struct {
	// MaxKeys is the largest number of keys, at least 1. Their memory is
	// taken when they come, not at the start.
	MaxKeys int
	// MaxBytes is the largest sum of the sizes of all entries, at least 1.
	MaxBytes int64
	// Size returns the bytes that an entry counts for. It must always give
	// the same for the same entry, and at least 0. It is called once for each
	// Put and Fill, without any lock held.
	Size func(key string, value V) int64
}

// Cache is a strict LRU cache bounded by keys and by bytes. Its methods may be
// called by any number of goroutines. Values are handed out as they were put:
// what they refer to is shared, so it must not be modified.
type Cache[V any] struct {
	size     func(key string, value V) int64
	maxKeys  int
	maxBytes int64

	lost atomic.Uint64 // values that ristretto dropped of its own accord: none

	mu     sync.Mutex                  // guards all below, and every ticket
	closed bool                        // then there are no nodes and no reads
	values *ristretto.Cache[uint64, V] // by slot
	nodes  map[string]*node            // the resident ones, by key
	order  order                       // the same, most recently used first
	reads  map[string]*reads           // the valid leases, by key
	free   *node                       // filled slots without a key
	bytes  int64                       // sum of the sizes of nodes

	lastSlot   uint64 // the highest slot number given out
	slots      int    // usable slots: len(nodes) and the free ones
	queueBytes int64  // bytes that may still be queued without a wait

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
	// Evictions counts keys that left to make room for others. A key that was
	// removed, replaced, or dropped because its new value alone is too large,
	// is not among them.
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
		reads:      make(map[string]*reads),
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

// Get returns the value of key, which becomes the most recently used, and
// whether it is resident. It counts one hit or one miss.
func (c *Cache[V]) Get(key string) (V, bool) {
	return c.GetIf(key, nil)
}

// GetIf is like Get, but a value for which match returns false is a miss: it
// stays where it is, and is not used. A nil match takes any value. The lock is
// held during match, which must be quick and must not call the cache.
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

// Put installs value, or replaces the one that is there, and makes key the most
// recently used. It voids the leases of key that are out. Call it after the
// write has committed, and for one key in the order of the commits. A value
// that is alone larger than MaxBytes is not kept, and the older one is dropped.
func (c *Cache[V]) Put(key string, value V) {
	size := c.sizeOf(key, value)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.voidLocked(key)
	if !c.closed {
		c.installLocked(key, value, size)
	}
}

// Remove drops key, if it is resident, and voids the leases of it that are out.
func (c *Cache[V]) Remove(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.voidLocked(key)
	c.dropLocked(key)
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

// Close empties the cache and returns when its goroutines have stopped. After
// it every Get misses and nothing is kept. A second Close does nothing.
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
	c.lost.Store(lost) // Close hands every value to OnEvict, which is no loss
	c.nodes, c.reads, c.free, c.bytes = nil, nil, nil, 0
	c.order.init()
}

// sizeOf returns what the entry counts for. A negative size, which would spoil
// the sum of all, counts as 0.
func (c *Cache[V]) sizeOf(key string, value V) int64 {
	return max(c.size(key, value), 0)
}

// installLocked makes key resident with value, as the most recently used, and
// evicts until both bounds hold. It reports whether key is now resident: it is
// not if the entry alone is too large.
func (c *Cache[V]) installLocked(key string, value V, size int64) bool {
	if size > c.maxBytes {
		c.dropLocked(key)
		return false
	}
	n := c.nodes[key]
	if n != nil {
		c.order.moveToFront(n) // so that it is the last to be evicted
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

// evictLocked evicts the least recently used keys until at most maxKeys are
// left and size more bytes fit. One of the nodes that became free, if any, is
// returned as it is; the others went to the free ones.
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

// dropLocked makes key not resident, if it is.
func (c *Cache[V]) dropLocked(key string) {
	if n := c.nodes[key]; n != nil {
		c.unlistLocked(n)
		c.freeLocked(n)
	}
}

// unlistLocked takes n out of the residents. Its slot still holds the value.
func (c *Cache[V]) unlistLocked(n *node) {
	delete(c.nodes, n.key)
	c.order.remove(n)
	c.bytes -= n.size
	n.key, n.size = "", 0
}
