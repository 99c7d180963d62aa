package cache

// A Lease is the right to fill one key with what the database holds after the lease
// was taken. It ends with the first Fill or Release. The zero Lease has ended. Copies
// of a Lease are the same lease.
type Lease struct {
	key    string
	ticket *ticket
}

// A ticket is shared by the copies of one lease. Cache.mu guards it.
type ticket struct {
	group *leaseGroup // nil once the lease has ended
}

// A leaseGroup holds the leases of one key that the next Put or Remove voids. It is in
// Cache.leases until it is void or all of its leases have ended.
type leaseGroup struct {
	open int // leases that have not ended
	void bool
}

// Lease returns a lease of key. Take it before reading the database, and always end it
// with Fill or Release.
func (c *Cache[V]) Lease(key string) Lease {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return Lease{}
	}
	g := c.leases[key]
	if g == nil {
		g = new(leaseGroup)
		c.leases[key] = g
	}
	g.open++
	return Lease{key: key, ticket: &ticket{group: g}}
}

// Fill ends the lease and installs value, unless the key was put or removed since the
// lease was taken, is resident, or is too large with this value. It reports whether it
// installed the value. If the lease has ended, Fill does nothing.
func (c *Cache[V]) Fill(l Lease, value V) bool {
	if l.ticket == nil {
		return false
	}
	size := c.sizeOf(l.key, value)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.endLocked(l) || c.closed {
		return false
	}
	if _, resident := c.nodes[l.key]; resident {
		return false
	}
	return c.installLocked(l.key, value, size)
}

// Release ends the lease without a fill, because the key was not found or the read
// failed. If the lease has ended, Release does nothing.
func (c *Cache[V]) Release(l Lease) {
	if l.ticket == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLocked(l)
}

// endLocked ends the lease and reports whether it was valid until now.
func (c *Cache[V]) endLocked(l Lease) bool {
	g := l.ticket.group
	if g == nil {
		return false
	}
	l.ticket.group = nil
	g.open--
	if g.void {
		return false
	}
	if g.open == 0 {
		delete(c.leases, l.key)
	}
	return true
}

// voidLocked voids the outstanding leases of key.
func (c *Cache[V]) voidLocked(key string) {
	if g := c.leases[key]; g != nil {
		g.void = true
		delete(c.leases, key)
	}
}
