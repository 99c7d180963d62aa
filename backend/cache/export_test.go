package cache

import "fmt"

// Keys returns the resident keys, the most recently used first.
func (c *Cache[V]) Keys() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	keys := make([]string, 0, len(c.nodes))
	for n := c.order.root.next; n != &c.order.root; n = n.next {
		keys = append(keys, n.key)
	}
	return keys
}

// Lost returns the number of values that ristretto dropped by itself.
func (c *Cache[V]) Lost() uint64 { return c.lost.Load() }

// LeasedKeys returns the number of keys with a record of leases.
func (c *Cache[V]) LeasedKeys() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.leases)
}

// Slots returns the number of usable slots.
func (c *Cache[V]) Slots() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.slots
}

// LoseValue deletes the value of a resident key from ristretto.
func (c *Cache[V]) LoseValue(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.values.Del(c.nodes[key].slot)
	c.values.Wait()
}

// Drain waits until ristretto's write queue is empty.
func (c *Cache[V]) Drain() { c.values.Wait() }

// Check returns an error if the cache is inconsistent.
func (c *Cache[V]) Check() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var bytes int64
	listed, free := 0, 0
	slots := make(map[uint64]bool)
	for n := c.order.root.next; n != &c.order.root; n = n.next {
		if c.nodes[n.key] != n {
			return fmt.Errorf("key %q is listed but its node is not in the map", n.key)
		}
		slots[n.slot] = true
		bytes += n.size
		listed++
	}
	for n := c.free; n != nil; n = n.next {
		if n.key != "" || n.size != 0 || n.prev != nil {
			return fmt.Errorf("free slot %d has key %q, size %d", n.slot, n.key, n.size)
		}
		slots[n.slot] = true
		free++
	}
	for key, r := range c.leases {
		if r.open < 1 || r.void {
			return fmt.Errorf("the leases of %q: %d open, void %v", key, r.open, r.void)
		}
	}
	switch {
	case listed != len(c.nodes):
		return fmt.Errorf("%d keys are listed, %d in the map", listed, len(c.nodes))
	case listed > c.maxKeys:
		return fmt.Errorf("%d keys, the bound is %d", listed, c.maxKeys)
	case bytes != c.bytes:
		return fmt.Errorf("the sizes add up to %d bytes, the cache says %d", bytes, c.bytes)
	case bytes > c.maxBytes:
		return fmt.Errorf("%d bytes, the bound is %d", bytes, c.maxBytes)
	case !c.closed && (listed+free != c.slots || len(slots) != c.slots):
		return fmt.Errorf("%d slots, of which %d are listed and %d free", c.slots, listed, free)
	case c.queueBytes < 0 || c.queueBytes > max(c.maxBytes, minQueueBytes):
		return fmt.Errorf("%d bytes may be queued without a wait", c.queueBytes)
	case c.slots > c.maxKeys:
		return fmt.Errorf("%d slots, the bound is %d keys", c.slots, c.maxKeys)
	}
	return nil
}
