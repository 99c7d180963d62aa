// Package cache provides a strict LRU cache, bounded by a number of keys and a
// number of bytes. It is generic in the value and keeps the values in ristretto.
//
// # Guarantees
//
// All methods are linearizable: each takes effect at one instant between its call
// and its return. In that order:
//
//   - The bounds always hold: there are never more than MaxKeys keys or more than
//     MaxBytes bytes, as counted by Size.
//   - Eviction is strict. To make room, the cache evicts the least recently used
//     key, then the next, and no more than necessary. A Get or GetIf that hits, a
//     Put, and a Fill that installs its value use a key. Nothing else does.
//   - A Get that begins after a Put of the same key has returned never returns an
//     older value, whatever fills are in progress.
//   - After the Put of a value that fits, the key hits until it is evicted, removed
//     or replaced.
//
// An entry that is larger than MaxBytes by itself is not kept and evicts nothing.
//
// An evicted or removed value is released at once, except that ristretto's write
// queue may refer to it a little longer. The queue refers to at most MaxBytes bytes
// of such values (1 MiB if that is more), plus one value.
//
// # Late fills
//
// A reader misses and reads version 1 from the database. Meanwhile a writer commits
// version 2 and puts it, and other keys may even evict it again. If the reader now
// stored version 1, later Gets would return a value that the database no longer
// holds. Comparing versions does not help, because version 2 is gone from the cache.
//
// So a reader takes a Lease before it reads the database, and passes it to Fill. Put
// and Remove void all outstanding leases of their key, and a Fill with a void lease
// installs nothing. This is safe if callers follow three rules:
//
//   - Read the database after Lease has returned.
//   - Call Put after the write has committed and before anyone is told about it.
//   - Call Put and Remove in commit order for each key.
//
// A valid lease then means that the reader has the newest value, or an older one
// that a Put still to come will replace. Memory for leases is proportional to the
// leases that their owners hold, not to the keys that were ever written.
//
// # Ristretto
//
// By itself ristretto (v2.4.2) is neither a strict LRU nor read-your-writes. It only
// queues the Set of a new key, so a Get right after it misses and a second Set may
// be rejected; it drops new keys if the queue is full; and a full cache compares
// sampled use counts, and may refuse the new key or evict one that was used recently.
// But a Set of a key that it already holds takes effect before it returns.
//
// So this package alone decides which keys stay, with one mutex, a map and a list in
// order of use, and ristretto stores values by slot number. Every slot is first filled
// with the zero value, so each later Set is an update. A new key takes over the slot of
// the key that it evicts. MaxCost is never reached, so ristretto neither evicts nor
// rejects; if it lacks a value all the same, that is a miss and the slot is abandoned.
package cache
