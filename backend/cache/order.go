package cache

// A node is a slot of ristretto with what the cache knows of its key. It is
// either resident, and then in the map and in the order, or free.
type node struct {
	slot uint64
	key  string
	size int64

	prev, next *node // in the order; of a free node, next is the next free one
}

// An order is a list of nodes from the most to the least recently used. It is a
// ring through root, which is no node of the cache. Call init before use.
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
