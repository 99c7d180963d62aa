package proxy

import (
	"context"
	"iter"
	"slices"
	"sync"

	"kvstore/gateway/h1"
)

// forWrite returns the backends for a write, the first healthy one of Config.Backends first. So
// all gateways, given the same list, send writes to the same backend, which saves conflicts.
// Nothing else depends on it.
func (all *backends) forWrite() h1.Order { return (*all.orders.Load())[0] }

// forRead returns the backends for a read. Each begins with another healthy one.
func (all *backends) forRead() h1.Order {
	orders := *all.orders.Load()
	if len(orders) == 1 {
		return orders[0]
	}
	return orders[all.turn.Add(1)%uint64(len(orders))]
}

// count counts a request that was sent to a backend.
func (all *backends) count(to *h1.Pool, read bool) {
	for _, b := range all.list {
		switch {
		case to != &b.pool:
		case read:
			b.reads.Add(1)
		default:
			b.writes.Add(1)
		}
	}
}

// arrangeLocked sets the orders of backends for requests after a state has changed. In each, the
// healthy ones come first, then those that lag, those that are ill, and those that are gone, if
// they recover. The first order has equals as Config.Backends has them; each of the others begins
// with another one. A single backend is always tried, unless it is this gateway.
func (all *backends) arrangeLocked() {
	var groups [itself + 1][]*backend
	for _, b := range all.list {
		state := b.state.Load()
		if len(all.list) == 1 && state != itself {
			state = healthy
		}
		groups[state] = append(groups[state], b)
	}
	live, absent := groups[healthy:gone], slices.Concat(groups[unknown], groups[gone])
	turns := 1
	for _, group := range live {
		if len(group) > 0 {
			turns = len(group)
			break
		}
	}
	orders := make([]h1.Order, turns)
	for turn := range orders {
		list := make([]*backend, 0, len(all.list))
		for _, group := range live {
			list = append(list, rotate(group, turn)...)
		}
		orders[turn] = all.order(list, absent)
	}
	all.orders.Store(&orders)
}

func rotate(list []*backend, turn int) []*backend {
	if len(list) < 2 {
		return list
	}
	first := turn % len(list)
	return append(list[first:len(list):len(list)], list[:first]...)
}

// order yields the live backends at once, and each of the others when a probe finds that it has
// recovered.
func (all *backends) order(live, absent []*backend) (o h1.Order) {
	if len(live) > 0 {
		o.First = &live[0].pool
	}
	o.All = func(ctx context.Context) iter.Seq[*h1.Pool] {
		return func(yield func(*h1.Pool) bool) {
			for _, b := range live {
				if !yield(&b.pool) {
					return
				}
			}
			for b := range all.recovered(ctx, absent) {
				if !yield(&b.pool) {
					return
				}
			}
		}
	}
	return o
}

// recovered probes the backends at the same time and sends those that have recovered. A probe also
// asks for the store, so that no stranger is used. The channel is closed when all have answered or
// ctx ends.
func (all *backends) recovered(ctx context.Context, absent []*backend) <-chan *backend {
	back := make(chan *backend, len(absent))
	var asking sync.WaitGroup
	for _, b := range absent {
		asking.Go(func() {
			all.probe(ctx, all.ctx, b)
			if state := b.state.Load(); state >= healthy && state < gone && all.differ() == nil {
				back <- b
			}
		})
	}
	go func() {
		asking.Wait()
		close(back)
	}()
	return back
}
