package cache

// A Lease is the right to fill one key of one cache with what the database
// held after the lease was taken. It ends with the first Fill or Release. The
// zero Lease is one that has ended. Copies of a Lease are the same lease.
type Lease struct {
	key    string
	ticket *ticket
}

// A ticket is what the copies of one lease share. The lock of the cache guards
// it.
type ticket struct {
	reads *reads // nil once the lease has ended
}

// reads are the leases of one key that a Put or Remove voids together: those
// taken since the last one. Cache.reads lists it until it is void or none of
// its leases is out.
type reads struct {
	open int // leases that have not ended
	void bool
}

// Lease returns a lease of key. Take it before the read of the database begins,
// and end it with Fill or Release, whatever comes of the read.
func (c *Cache[V]) Lease(key string) Lease {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return Lease{}
	}
	r := c.reads[key]
	if r == nil {
		r = new(reads)
		c.reads[key] = r
	}
	r.open++
	return Lease{key: key, ticket: &ticket{reads: r}}
}

// Fill ends the lease and installs value, as the most recently used, unless the
// key was put or removed since the lease was taken, is resident, or is too
// large with this value. It reports whether it installed. With a lease that
// has ended it does nothing.
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

// Release ends the lease without a fill: the row was not found, or the read
// failed. With a lease that has ended it does nothing.
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
	r := l.ticket.reads
	if r == nil {
		return false
	}
	l.ticket.reads = nil
	r.open--
	if r.void {
		return false
	}
	if r.open == 0 {
		delete(c.reads, l.key)
	}
	return true
}

// voidLocked voids the leases of key that are out.
func (c *Cache[V]) voidLocked(key string) {
	if r := c.reads[key]; r != nil {
		r.void = true
		delete(c.reads, key)
	}
}
