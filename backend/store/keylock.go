package store

import (
	"context"
	"hash/maphash"
	"slices"
	"sync"
)

// keyLocks lock keys. Each lock is shared by the keys of one hash.
type keyLocks struct {
	seed  maphash.Seed
	locks [256]keyLock
}

// A keyLock orders the writes and updates of its keys.
type keyLock struct {
	// update is held by one update at a time. It is a mutex that a context can end.
	update chan struct{}
	// writes is held for reading by each write until it is answered, and for writing by
	// an update that other writes have overtaken too often.
	writes sync.RWMutex
}

func newKeyLocks() *keyLocks {
	l := &keyLocks{seed: maphash.MakeSeed()}
	for i := range l.locks {
		l.locks[i].update = make(chan struct{}, 1)
	}
	return l
}

func (l *keyLocks) index(key string) int {
	return int(maphash.String(l.seed, key) % uint64(len(l.locks)))
}

func (l *keyLocks) of(key string) *keyLock { return &l.locks[l.index(key)] }

// lockUpdate waits until no other update holds the lock, or returns the error of ctx.
func (l *keyLock) lockUpdate(ctx context.Context) (unlock func(), err error) {
	select {
	case l.update <- struct{}{}:
		return func() { <-l.update }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// lockWrites locks the keys of changes for reading. It takes each lock once, in the order of
// all locks, so that no two callers wait for each other.
func (l *keyLocks) lockWrites(changes []Change) (unlock func()) {
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
