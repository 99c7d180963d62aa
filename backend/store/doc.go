// Package store gives the guarantees. It decides which writes are made, and in which order
// the database, the cache, the watches and the callers learn of them. It leaves the rows and
// their checks to package database, and HTTP to package api.
//
// # Writes
//
// One goroutine, the writer, makes every write of this process. It takes the requests that are waiting (it
// never waits for more), applies them in one transaction, and then in this order
//
//  1. commits, after which the transaction is on disk;
//  2. publishes: while it holds the lock of the log, it marks the watches, updates the cache
//     and appends the events to the log;
//  3. answers each caller.
//
// A request is one change or a batch, and is written whole or not at all. The writer evaluates
// its conditions in the state that the requests before it left, so of two writers with the same
// condition on a key one wins. A read that begins after an answer sees that write or a later
// one. The versions of a key are numbered in the order of the answers.
//
// A request that cannot be applied fails alone. When the transaction cannot begin, or its
// commit fails, all its callers get an error and nothing was written, unless the error is
// kv.ErrOutcomeUnknown: then no read sees the write, but it may be there after a restart. A
// caller that goes away before its write was taken makes no version; a write that was taken is
// finished. The writes that wait are bounded, and more are refused at once.
//
// # Reads
//
// A read of the latest version asks the cache, and then the database. The read takes a lease
// before it asks the database, publishing a write voids the leases of its key, and only a valid
// lease fills the cache. Comparing version numbers would not be enough, since a newer version may
// have been cached and evicted again in between.
//
// A read waits until the log has reached the revision of what the database answered, which may
// be committed and not yet published. Without that, one reader could get version 2 from the
// database and a later reader version 1 from the cache. With it, reads and writes of one key
// are linearizable: a write takes effect when it is published. Reads of several keys are
// separate; a batch of gets reads one snapshot, beside the writer.
//
// # Several backends
//
// On an engine that several processes share, a Store has a follower. It publishes the commits of
// the other backends, from the engine's chain of commits: whole, in their order, and the commits of
// this backend among them. So cache, log and watches are the same as with one writer, and the
// store gives these guarantees:
//
//   - A read that begins after a write was answered, by whichever backend, sees it. Each read
//     first joins a round of the follower, which asks for the last commit after the read began,
//     and publishes up to that commit. Reads at the same time share a round. Notifications and the
//     time between rounds decide only how soon watches learn of a write.
//   - A read with a context of Known skips the round. Its answer is no older than Age.
//   - A commit is published when the one before it, by number and id, is the last that was
//     published. If the engine has another commit of that number, it has lost acknowledged commits:
//     no read is answered until the cache is empty, the watches have ended, told to forget what they
//     know, and the revision is beyond all that were given out (see Rejoin in package database).
//   - Time is that of the engine as last measured. It runs backwards at no backend, and a read that
//     begins later never has an earlier time.
//   - What is destroyed at one backend goes from the cache and the log of the others with its commit,
//     so a read that begins after the answer does not have it, unless its context is one of Known.
//   - A version that is removed by retention before a backend has followed its commit reaches the
//     watches there as the gap that it leaves in the history.
//
// # The end of a key
//
// A tombstone is a version, and a key that is written again goes on counting. A key with a time
// to live ends at that time: reads compare it with the clock, which never runs backwards. The
// janitor writes the tombstone soon after, or the next write of the key does.
//
// Destroy erases values, DestroyAll a key with its history up to the tombstone that it makes
// first. Nothing brings destroyed bytes back: a revert reads the version within its
// transaction, and a patch is made only while its version still has its value. The answer
// comes when the bytes are off the disk (see Scrub in package sqlite).
//
// With a limit of versions, each write deletes what exceeds it in its own transaction. The
// janitor deletes what is too old, and what is left of other settings. The latest version of
// a key stays, unless it is a tombstone that is too old: then the key goes whole. The number
// of a deleted version is not used again.
//
// # Watches
//
// A watch delivers every write to its keys in the order of the revisions, none twice. It is a
// cursor in the log or, further back, in the database, so a watch that resumes from a position
// misses nothing that the history still has, and is told when that is not all. A watch that
// was at the end of the log and falls behind it ends, and tells where to resume. However many
// watches there are, they cost the writer the same, and they share the events.
//
// # Damage
//
// Damaged rows are never answered and never cached: the error is kv.ErrCorrupt and names the
// key. A damaged version does not hinder the next write of its key; a key whose own row is
// damaged cannot be written. A damaged value prevents backups until Destroy erases it; other
// damage of a version goes only with DestroyAll.
package store
