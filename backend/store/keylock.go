package store

import (
	"context"
	"hash/maphash"
	"slices"
	"sync"
)

// keyLocks have a lock for each key. Keys share them by hash.
type keyLocks struct {
	seed  maphash.Seed
	locks [256]keyLock
}

// A keyLock orders what is done to its keys.
type keyLock struct {
	// turn is that of one update at a time.
	turn chan struct{}
	// writes is held for reading by each write until it is answered, and for writing by
	// an update that could not be made beside them.
	writes sync.RWMutex
}

func newKeyLocks() *keyLocks {
	l := &keyLocks{seed: maphash.MakeSeed()}
	for i := range l.locks {
		l.locks[i].turn = make(chan struct{}, 1)
	}
	return l
}

func (l *keyLocks) index(key string) int {
	return int(maphash.String(l.seed, key) % uint64(len(l.locks)))
}

func (l *keyLocks) of(key string) *keyLock { return &l.locks[l.index(key)] }

// enter waits for the turn of an update, or for the end of ctx.
func (l *keyLock) enter(ctx context.Context) (leave func(), err error) {
	select {
	case l.turn <- struct{}{}:
		return func() { <-l.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// share lets changes be written while no update holds their keys. They take each lock
// once, in the order of all, so that none waits for another in a circle.
func (l *keyLocks) share(changes []Change) (leave func()) {
	var buffer [8]int
	taken := buffer[:0]
	for i := range changes {
		if changes[i].Operation != OpGet {
			taken = append(taken, l.index(changes[i].Key))
		}
	}
	slices.Sort(taken)
	taken = slices.Compact(taken)
	for _, i := range taken {
		l.locks[i].writes.RLock()
	}
	return func() {
		for _, i := range taken {
			l.locks[i].writes.RUnlock()
		}
	}
}
