package cache

import (
	"fmt"
	"math"
	"sync/atomic"

	"github.com/dgraph-io/ristretto/v2"
)

const (
	// slotChunk is the number of slots that are added at a time.
	slotChunk = 256
	// slotCost is ristretto's cost of each slot.
	slotCost = 1
	// minQueueBytes keeps waits rare in a small cache: this many bytes of values may
	// be in ristretto's queue even if MaxBytes is smaller.
	minQueueBytes = 1 << 20
)

// newValues returns a ristretto cache that keeps everything, and counts in lost what
// it drops all the same.
func newValues[V any](lost *atomic.Uint64) (*ristretto.Cache[uint64, V], error) {
	drop := func(*ristretto.Item[V]) { lost.Add(1) }
	values, err := ristretto.NewCache(&ristretto.Config[uint64, V]{
		// The counters only choose a victim at MaxCost, which is never reached, so a
		// few are enough.
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

// valueLocked returns the value of a resident node. It drops the node if ristretto
// lacks the value.
func (c *Cache[V]) valueLocked(n *node) (V, bool) {
	value, ok := c.values.Get(n.slot)
	if !ok {
		// A Set would now add a new key instead of updating one, so abandon the
		// slot. Another can be added instead.
		c.unlistLocked(n)
		c.slots--
	}
	return value, ok
}

// setLocked stores a value of the given size in the slot of n.
func (c *Cache[V]) setLocked(n *node, value V, size int64) {
	c.values.Set(n.slot, value, slotCost)
	// Ristretto's queue refers to value until it is processed, even if value is
	// replaced before that.
	if size > c.queueBytes {
		c.values.Wait()
		c.queueBytes = max(c.maxBytes, minQueueBytes)
		return
	}
	c.queueBytes -= size
}

// freeLocked releases the value of a node that is no longer resident, and keeps the
// node for another key.
func (c *Cache[V]) freeLocked(n *node) {
	var zero V
	c.setLocked(n, zero, 0)
	n.next = c.free
	c.free = n
}

// takeLocked returns a free node, or nil if ristretto refused to add slots.
func (c *Cache[V]) takeLocked() *node {
	if c.free == nil {
		c.addSlotsLocked()
	}
	n := c.free
	if n != nil {
		c.free = n.next
		n.next = nil
	}
	return n
}

// addSlotsLocked adds free nodes with filled slots: a chunk, or as many as MaxKeys
// still allows.
func (c *Cache[V]) addSlotsLocked() {
	var zero V
	nodes := make([]node, min(slotChunk, c.maxKeys-c.slots))
	for i := range nodes {
		c.lastSlot++
		nodes[i].slot = c.lastSlot
		if !c.values.Set(c.lastSlot, zero, slotCost) {
			// The queue was full. Wait empties it, and nobody else fills it while the
			// lock is held.
			c.values.Wait()
			c.values.Set(c.lastSlot, zero, slotCost)
		}
	}
	c.values.Wait()
	for i := range nodes {
		n := &nodes[len(nodes)-1-i] // so that the lowest slot is taken first
		if _, ok := c.values.Get(n.slot); !ok {
			continue
		}
		n.next = c.free
		c.free = n
		c.slots++
	}
}
