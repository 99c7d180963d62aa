package store

import "kvstore/backend/kv"

// Hooks are called by a store under test at the moments where order matters.
type Hooks struct {
	// AfterRead is called with what a read got from the database, before it fills the
	// cache or is answered.
	AfterRead func(kv.Entry)
	// AfterCommit is called when a batch is on disk and not yet published.
	AfterCommit func()
}

// SetHooks must be called before the store is used.
func (s *Store) SetHooks(h Hooks) {
	s.hooks = hooks{afterRead: h.AfterRead, afterCommit: h.AfterCommit}
}

// QueueLength is how many writes wait for the writer.
func (s *Store) QueueLength() int { return len(s.writer.queue.waiting) }

// Queued returns how many writes are accepted and not answered, and the bytes of their
// values.
func (s *Store) Queued() (writes int, bytes int64) { return s.writer.queue.load() }

// Publish publishes versions as if they had been committed.
func (s *Store) Publish(written []kv.Entry, revision int64) {
	s.log.append(written, revision, func() { s.watchers.markLocked(written) })
}

// ForgetLog empties the log, so that watches read the database.
func (s *Store) ForgetLog() {
	s.log.mu.Lock()
	s.log.emptyLocked(s.log.head)
	s.log.mu.Unlock()
	s.pages.forget()
}

// Watchers returns how many watches are open, and how many subscriptions there are.
func (s *Store) Watchers() (open, subscribed int) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	for _, group := range s.watchers.byPrefix {
		subscribed += len(group.members)
	}
	return s.watchers.open, subscribed
}

// The bounds of the log.
const (
	LogEvents = logEvents
	LogBytes  = logBytes
)

// Pages returns how many pages of history are kept.
func (s *Store) Pages() int {
	s.pages.mu.Lock()
	defer s.pages.mu.Unlock()
	return len(s.pages.all)
}

// DelayWaking makes watches wait for as long as that many deliveries take.
func (s *Store) DelayWaking(deliveries int) { s.watchers.pacer.begin(deliveries, 0) }

// HoldPages holds the reads of history until release is called.
func (s *Store) HoldPages() (release func()) {
	for range cap(s.pages.slots) {
		s.pages.slots <- struct{}{}
	}
	return func() {
		for range cap(s.pages.slots) {
			<-s.pages.slots
		}
	}
}

// LoseCommits makes the store begin anew at a revision, since what it has published is lost.
func (s *Store) LoseCommits(revision int64) {
	s.restart(kv.Totals{Revision: revision, Restored: revision}, true)
}
