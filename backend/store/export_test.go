package store

import "kvstore/backend/kv"

// Hooks are called by a store under test at the moments where orders matter.
type Hooks struct {
	// AfterRead is called with what a missing read got from the database, before it
	// may fill the cache or be answered.
	AfterRead func(kv.Entry)
	// AfterCommit is called when a batch is on disk and not yet published.
	AfterCommit func()
	// BeforeSubscribe is called when a watch has looked how far the store is, and not
	// yet subscribed.
	BeforeSubscribe func()
}

// SetHooks must be called before the store is used.
func (s *Store) SetHooks(h Hooks) {
	s.hooks = hooks{afterRead: h.AfterRead, afterCommit: h.AfterCommit, beforeSubscribe: h.BeforeSubscribe}
}

// QueueLength is how many writes wait for the writer.
func (s *Store) QueueLength() int { return len(s.writer.queue) }

// Publish hands on what was written, as if it had been committed.
func (s *Store) Publish(written []kv.Written, revision int64) { s.hub.publish(written, revision) }

// Watchers is how many watches are open, and how many are subscribed to a prefix.
func (s *Store) Watchers() (open, subscribed int) {
	s.hub.mu.RLock()
	defer s.hub.mu.RUnlock()
	for _, group := range s.hub.byPrefix {
		subscribed += len(group)
	}
	return s.hub.watches, subscribed
}

// The bounds of a watch's queue, and how near to its end history is read with one.
const (
	MaxQueueEvents = maxQueueEvents
	MaxQueueBytes  = maxQueueBytes
	NearHistory    = nearHistory
)
