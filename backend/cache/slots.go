package cache

import (
	"fmt"
	"math"
	"sync/atomic"

	"github.com/dgraph-io/ristretto/v2"
)

const (
	// slotChunk is how many slots are made at a time.
	slotChunk = 256
	// slotCost is what each slot costs in ristretto's accounts.
	slotCost = 1
	// minQueueBytes is the least number of bytes of values that may be in
	// ristretto's queue before the cache waits for it: it keeps the waits of
	// a small cache rare.
	minQueueBytes = 1 << 20
)

// newValues returns a ristretto that keeps whatever is set, and counts in lost
// what it does not keep.
func newValues[V any](lost *atomic.Uint64) (*ristretto.Cache[uint64, V], error) {
	drop := func(*ristretto.Item[V]) { lost.Add(1) }
	values, err := ristretto.NewCache(&ristretto.Config[uint64, V]{
		// The counters serve to choose a victim when MaxCost is reached,
		// which it never is. Memory is allocated for all of them at once.
		NumCounters:        1024,
		MaxCost:            math.MaxInt64,
		BufferItems:        64,
		IgnoreInternalCost: true,
		OnEvict:            drop,
		OnReject:           drop,
	})
	if err != nil {
		return nil, fmt.Errorf("cache: open ristretto: %w", err)
	}
	return values, nil
}

// valueLocked returns the value of a resident node. A node whose value
// ristretto lacks is dropped.
func (c *Cache[V]) valueLocked(n *node) (V, bool) {
	value, ok := c.values.Get(n.slot)
	if !ok {
		// Its slot is not filled any more, so a Set of it would be that of a
		// new key. Forget the slot; another can be made in its place.
		c.unlistLocked(n)
		c.slots--
	}
	return value, ok
}

// setLocked gives the slot of n a value of the given size. A Get sees it at
// once.
func (c *Cache[V]) setLocked(n *node, value V, size int64) {
	c.values.Set(n.slot, value, slotCost)
	// The item that is now in ristretto's queue refers to value, also when
	// value is replaced before ristretto has looked at it.
	if size > c.queueBytes {
		c.values.Wait()
		c.queueBytes = max(c.maxBytes, minQueueBytes)
		return
	}
	c.queueBytes -= size
}

// freeLocked lets go of the value of a node that is not resident any more and
// keeps the node for another key.
func (c *Cache[V]) freeLocked(n *node) {
	var zero V
	c.setLocked(n, zero, 0)
	n.next = c.free
	c.free = n
}

// takeLocked returns a free node, and nil if ristretto refused to make slots.
func (c *Cache[V]) takeLocked() *node {
	if c.free == nil {
		c.makeSlotsLocked()
	}
	n := c.free
	if n != nil {
		c.free = n.next
		n.next = nil
	}
	return n
}

// makeSlotsLocked fills a chunk of new slots, as many as MaxKeys still allows,
// and adds their nodes to the free ones.
func (c *Cache[V]) makeSlotsLocked() {
	var zero V
	nodes := make([]node, min(slotChunk, c.maxKeys-c.slots))
	for i := range nodes {
		c.lastSlot++
		nodes[i].slot = c.lastSlot
		if !c.values.Set(c.lastSlot, zero, slotCost) {
			// The queue is full. After the wait it is empty, and stays so
			// since the lock is held.
			c.values.Wait()
			c.values.Set(c.lastSlot, zero, slotCost)
		}
	}
	c.values.Wait()
	for i := range nodes {
		n := &nodes[len(nodes)-1-i] // so that the lowest is taken first
		if _, ok := c.values.Get(n.slot); !ok {
			continue
		}
		n.next = c.free
		c.free = n
		c.slots++
	}
}
