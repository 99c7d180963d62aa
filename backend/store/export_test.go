package store

import "kvstore/backend/kv"

// Hooks are called by a store under test at the moments where orders matter.
type Hooks struct {
	// AfterRead is called with what a missing read got from the database, before it
	// may fill the cache or be answered.
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

// Queued is how many writes were accepted and are not answered, and the bytes of their
// values.
func (s *Store) Queued() (writes int, bytes int64) { return s.writer.queue.load() }

// Publish hands on what was written, as if it had been committed.
func (s *Store) Publish(written []kv.Entry, revision int64) {
	s.log.append(written, revision, func() { s.watchers.markLocked(written) })
}

// ForgetLog leaves what was written to the database.
func (s *Store) ForgetLog() {
	s.log.mu.Lock()
	s.log.emptyLocked(s.log.head)
	s.log.mu.Unlock()
	s.pages.forget()
}

// Watchers is how many watches are open, and how many are subscribed to a prefix.
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

// Pages is how many pages of history are kept for others.
func (s *Store) Pages() int {
	s.pages.mu.Lock()
	defer s.pages.mu.Unlock()
	return len(s.pages.all)
}
