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
func (s *Store) QueueLength() int { return len(s.writer.queue) }
