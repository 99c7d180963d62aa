// Package store gives the guarantees. It is the only place that decides which
// version a write gets and in which order the database, the cache and the callers
// learn of it.
//
// # Writes
//
// One goroutine, the writer, makes every write. It takes the writes that are
// waiting (it never waits for more to come), applies them in one transaction, and
// then, in this order:
//
//  1. commits: the transaction is on disk;
//  2. publishes: puts each new version into the cache, in their order;
//  3. answers each caller.
//
// So a write is answered only after it is on disk, and a read that begins after
// the answer sees that version or a later one. Within a key, versions are numbered
// in the order of the answers. A write that cannot be applied fails alone: its
// neighbours in the transaction are applied without it. When the commit itself
// fails, every caller in it gets an error, nothing was written, and the cache
// stays as it was.
//
// A caller that goes away before its write was taken makes no version. A write
// that was taken is finished whether or not its caller still waits.
//
// # Reads
//
// A read of the latest version asks the cache, and the database when the cache
// does not have the key. What the database answers goes into the cache, unless a
// write of the key was published since the read began: the read takes a lease
// before it asks the database, publishing a write voids the leases of its key, and
// a void lease fills nothing. Comparing version numbers would not be enough,
// since the newer version may have been cached and evicted again in between.
//
// A read never returns a version that is committed but not yet published: it waits
// for the writer, which is between steps 1 and 2 then. Without that rule one
// reader could be given version 2 by the database and a later reader version 1 by
// the cache. With it, reads and writes of one key are linearizable: a write takes
// effect when it is published.
//
// A read of a version by number is served from the cache when that version is the
// cached one, and from the database otherwise; it never changes which version the
// cache holds for the key.
//
// # Retention
//
// By default every version is kept. With a limit of number or age, a goroutine of
// its own deletes the oldest versions, a few hundred in a transaction, so that
// writes wait for it only as for one another. The latest version of a key stays
// whatever its age; a deleted version's number is not used again, and reading it
// says that it is gone. The cache holds latest versions alone, so nothing of what is
// deleted is in it.
package store
