package store

import (
	"context"

	"kvstore/backend/kv"
)

// What follows a commit, and how a read waits for it.

// publish lets everybody know of a transaction: those who follow the log, and in the same
// moment the cache.
func (s *Store) publish(p *pending) {
	if s.hooks.afterCommit != nil {
		s.hooks.afterCommit()
	}
	if p.erased != nil {
		s.log.erase(p.erased)
		s.pages.forget()
	}
	s.log.append(p.written, p.tx.Totals.Revision, func() {
		s.watchers.markLocked(p.written)
		for _, e := range p.written {
			if e.Operation.Tombstone() {
				s.cache.Remove(e.Key)
			} else {
				s.cache.Put(e.Key, e)
			}
		}
		for _, key := range p.uncached {
			s.cache.Remove(key)
		}
	})
	s.counters.pruned.Add(uint64(p.tx.Trimmed))
	for _, e := range p.written {
		s.counters.wrote(e.Operation)
	}
}

// publishAgain is publish after it has panicked: the cache forgets the keys, so that the
// database is asked for them.
func (s *Store) publishAgain(p *pending) {
	s.uncache(p)
	if s.log.reached() < p.tx.Totals.Revision {
		s.log.append(p.written, p.tx.Totals.Revision, func() { s.watchers.markLocked(p.written) })
	}
}

// uncache takes out of the cache what a transaction changed.
func (s *Store) uncache(p *pending) {
	for _, e := range p.written {
		s.cache.Remove(e.Key)
	}
	for _, key := range p.uncached {
		s.cache.Remove(key)
	}
}

// An erasure makes versions of a key unreadable, all of them and the name when there are
// none; done is closed when the cache knows.
type erasure struct {
	key      string
	versions []int64
	done     chan struct{}
}

func newErasure(key string, versions []int64) *erasure {
	return &erasure{key: key, versions: versions, done: make(chan struct{})}
}

// endErasure lets the reads go on that wait for an erasure.
func (s *Store) endErasure() {
	if e := s.erasing.Swap(nil); e != nil {
		close(e.done)
	}
}

// awaitPublished returns once the cache and the log know what made the answer of the
// database: the write of an entry, or the erasure because of which it is destroyed or not
// there. Else a later read could be answered with what was before. Without a key it is about
// many. err is that of the read.
func (s *Store) awaitPublished(ctx context.Context, key string, entry kv.Entry, err error) error {
	if err == nil {
		if s.hooks.afterRead != nil {
			s.hooks.afterRead(entry)
		}
		err = s.log.await(ctx, entry.Revision)
	}
	if err == nil && !entry.Destroyed {
		return nil
	}
	if e := s.erasing.Load(); e != nil && (key == e.key || key == "") {
		select {
		case <-e.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}
