// Package store gives the guarantees. It is the only place that decides which writes are
// made and in which order the database, the cache and the callers learn of them.
//
// # Writes
//
// One goroutine, the writer, makes every write. It takes the requests that are
// waiting (it never sleeps for more to come), applies them in one transaction, and
// then, in this order:
//
//  1. commits: the transaction is on disk;
//  2. publishes: appends the events to the log and, in the same moment, puts each new
//     version into the cache, in their order, and takes a key out of it that has got a
//     tombstone;
//  3. answers each caller.
//
// A request is one change or a batch of them, and is written whole or not at all. Its
// conditions are evaluated by the writer, against the state that the requests before it
// left, so of two writers with the same condition on a key one wins. A condition
// that does not hold, like a version to go back to that is not there, is an answer
// to its caller and no failure of the transaction.
//
// So a write is answered only after it is on disk, and a read that begins after
// the answer sees that version or a later one. Within a key, versions are numbered
// in the order of the answers. A write that cannot be applied fails alone: its
// neighbours in the transaction are applied without it. When the transaction cannot begin,
// or the commit itself or the disk fails, every caller in it gets an error, and the cache
// stays as it was. Nothing was written then, unless the error is kv.ErrOutcomeUnknown: no
// read sees such a write, but after a restart it may be there (see package database). While
// the disk fails a goroutine tries it every half second, so that the store is well again by
// itself. A panic after the commit is logged, and the write is answered as the success it is.
//
// What the store keeps of a write, in its cache or anywhere else, is a copy of its own and
// never a part of the request that brought it.
//
// How many writes wait, and how many bytes, is bounded (Config.MaxQueuedWrites,
// MaxQueuedBytes). More are refused at once, so that under any load those that were
// accepted wait for a bounded time, in bounded memory.
//
// A caller that goes away before its write was taken makes no version. A write
// that was taken is finished whether or not its caller still waits.
//
// # The end of a key
//
// A tombstone is a version: the key does not exist after it, and goes on counting
// when it is written again. A key with a time to live ends at that time: reads look
// at the clock and do not depend on the tombstone, which the janitor writes soon
// after, many in a transaction, or the next write of the key before its own version. A
// damaged key that cannot be ended is set aside, for longer each time. The clock never runs
// backwards (see clock), so a key that has ended stays so.
//
// Destroy erases the values of versions, DestroyAll a key with its history. Each has
// transactions of its own, short ones however much there is to erase. DestroyAll ends the
// key first and erases up to that tombstone, so no later write goes with it. What SQLite
// frees it overwrites (secure_delete), and before the answer the write-ahead log is emptied
// and the copies are overwritten that SQLite leaves in pages when rows move, beside other
// writes (see Scrub in database/sqlite). A revert reads the version to go
// back to within its transaction, and a patch is only made of a version that still
// has its value, so that no destroyed bytes come back.
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
// A read never returns a version that is committed but not yet published: it waits until
// the log has reached its revision, since the writer is between steps 1 and 2 then. Without that rule one
// reader could be given version 2 by the database and a later reader version 1 by
// the cache. With it, reads and writes of one key are linearizable: a write takes
// effect when it is published.
//
// A read of a version by number is served from the cache when that version is the
// cached one, and from the database otherwise; it never changes which version the
// cache holds for the key.
//
// Reads of several keys are reads of their own, each at its time: while a batch is
// published, within microseconds, one may see what it wrote to one key, and the next
// not yet what it wrote to another. After the batch was answered nobody reads
// what was before it. To read several keys as they were together, use one batch of gets.
// It reads one snapshot beside the writer, so it sees each other batch whole or not at all,
// and neither waits for the other. At most half as many of these batches run at once as
// there are processors, so that the writer is not starved. On disk a batch is one transaction, and a crash leaves all of it or nothing.
//
// # Damage
//
// What the database finds damaged is never answered and never cached; the error is
// kv.ErrCorrupt and names key and version. A put or a delete of a key does not depend on
// its older versions, so when the latest is damaged a new one makes the key readable
// again. A patch of a damaged version, a revert to it, or a get of it in a batch fails,
// alone in its transaction. Nothing can be written to a key whose own row is damaged: the
// next number is not known. A damaged value stays in the history, in the way of backups,
// until Destroy takes it; what else of a version is damaged goes with DestroyAll alone.
//
// # Watches
//
// A watch delivers every write to the keys of its prefix in the order of the revisions,
// none twice. It is a cursor: it reads the log, which has the newest events in memory,
// and the database when it is further back; watches that are at the same place share a
// read. So a feed that goes on from the last revision that it has delivered, in this
// process or in a later one, misses nothing that log or history still have. When
// retention removed a version of its keys from there on, or DestroyAll any key, whose name
// is forgotten with it, the feed says so first. When a backup was restored meanwhile it says
// that too: revisions go on above every one that was given out before. A feed may still
// deliver a value that was on its way when it was destroyed; the log keeps none.
//
// The writer marks the prefixes of what it wrote, and wakes nobody itself, so watches
// cost it the same however many they are. All watches share an event and its text. While
// writes go on, many watches are woken less often and get more at a time. A watch that was
// at the end of the log, and is overtaken by its beginning, ends and tells where to go on; so
// does one that keeps a delivery while those that are kept take more than 64 MiB besides the
// log.
//
// # Retention
//
// By default every version is kept. With a limit of their number, each write deletes what
// goes beyond it, in its own transaction; of a key that had far more than that it deletes a
// few more than it adds. With a limit of age, and for what is left of other settings, the
// janitor searches the whole store from time to time, and deletes from many keys in one
// transaction. The latest version of a key stays whatever its age, unless it is a tombstone: a
// key that has ended before that age goes whole, as one that was destroyed. A deleted
// version's number is not used again, and reading it says that it is gone. The cache holds
// latest versions alone, so nothing of what is deleted is in it.
package store
