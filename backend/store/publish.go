package store

import (
	"context"

	"kvstore/backend/kv"
)

// publish makes a committed transaction visible: to those who follow the log, and at the
// same moment in the cache.
func (s *Store) publish(p *pending) {
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
}

// count counts what a committed transaction has done. A follower may publish it, which does not know.
func (s *Store) count(p *pending) {
	s.counters.pruned.Add(uint64(p.tx.Trimmed))
	for _, e := range p.written {
		s.counters.wrote(e.Operation)
	}
}

// publishAgain is for a publish that has panicked. The cache forgets the keys, so that the
// next reads ask the database.
func (s *Store) publishAgain(p *pending) {
	s.uncache(p)
	if s.log.reached() < p.tx.Totals.Revision {
		s.log.append(p.written, p.tx.Totals.Revision, func() { s.watchers.markLocked(p.written) })
	}
}

// uncache removes what a transaction changed from the cache.
func (s *Store) uncache(p *pending) {
	for _, e := range p.written {
		s.cache.Remove(e.Key)
	}
	for _, key := range p.uncached {
		s.cache.Remove(key)
	}
}

// An erasure makes versions of a key unreadable, or the whole key when versions is nil.
type erasure struct {
	key      string
	versions []int64
	done     chan struct{} // closed when the cache knows
}

func newErasure(key string, versions []int64) *erasure {
	return &erasure{key: key, versions: versions, done: make(chan struct{})}
}

// endErasure lets the reads that wait for the erasure go on.
func (s *Store) endErasure() {
	if e := s.erasing.Swap(nil); e != nil {
		close(e.done)
	}
}

// awaitPublished waits until the cache and the log know what the database answered: the write
// of entry, or the erasure because of which it is destroyed or missing. Otherwise a later read
// could return what was before. With key "" the answer is about many keys. err is the error
// of the read, and is returned.
func (s *Store) awaitPublished(ctx context.Context, key string, entry kv.Entry, err error) error {
	if err == nil {
		if s.hooks.afterRead != nil {
			s.hooks.afterRead(entry)
		}
		err = s.awaitRevision(ctx, entry.Revision)
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
