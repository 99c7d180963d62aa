// Package cache is a strict least-recently-used cache that is bounded by a
// number of keys and by a number of bytes at once. It is generic in the value
// and keeps the values in ristretto.
//
// # Guarantees
//
// Every method takes effect at one instant between its call and its return,
// in one order for all goroutines. In that order:
//
//   - The bounds always hold: at no instant are there more than MaxKeys keys
//     or more than MaxBytes bytes, as Size counts them.
//   - Eviction is strict. When room is needed the key that was used least
//     recently leaves, then the next, and no more keys than needed. A key is
//     used by a Get that hits, by a GetIf that hits, by a Put, and by a Fill
//     that installs. A miss, a GetIf that does not match, and a Fill that
//     installs nothing are no use.
//   - A Get that begins after a Put of the same key has returned gives that
//     value, or one put later, or misses. It never gives an older one, whatever
//     fills are under way (see below).
//   - A Put of a key that fits is followed by a hit until the key is evicted,
//     removed or replaced.
//
// An entry whose size alone exceeds MaxBytes is not kept, and evicts nobody.
//
// The memory that values take is bounded too. An evicted or removed value is
// let go at once, save that ristretto's queue of writes may refer to it a
// little longer: to MaxBytes bytes of values, or 1 MiB where that is more, and
// one value.
//
// # The late fill
//
// A reader misses and reads version 1 from the database. Before it stores what
// it read, a writer commits version 2 and puts it, and version 2 may even have
// been evicted again. If the reader now stored version 1, every later Get would
// give a value that the database no longer holds. Comparing versions does not
// help once version 2 has left the cache.
//
// So a reader takes a Lease of the key before it reads the database, and hands
// it to Fill along with what it read. Put and Remove void every lease of their
// key that is out at that moment, and a Fill by a void lease installs nothing.
// For this to be a guarantee
//
//   - the read of the database must begin after Lease has returned,
//   - Put must be called after the write has committed, and before the write is
//     reported to anybody,
//   - the Puts and Removes of one key must be called in the order of their
//     commits. The cache does not look into values.
//
// A value that is read under a valid lease is then the newest at the instant of
// the Fill, or older only by writes whose Put is still to come and will replace
// it. A Fill also leaves a resident key alone, since the reader that filled it
// held a valid lease too.
//
// The cache keeps one record per key that has a valid lease out and one per
// lease that its owner still holds, and nothing per key ever written.
//
// # Why not ristretto alone
//
// Ristretto (v2.4.2) is built for throughput and promises neither strict
// order nor that a value set is there:
//
//   - Cache.Set of a new key only queues it; a Get right after it misses, and a
//     second Set of it before the first was applied is rejected by
//     defaultPolicy.Add, which leaves the older value. With the queue full, Set
//     drops a new key and returns false.
//   - A full defaultPolicy.Add compares sampled use counts and may refuse the
//     new key, or evict one that is not the least recently used.
//
// Set of a key that ristretto holds, though, is applied before it returns:
// Cache.SetWithTTL calls shardedMap.Update, which replaces the value under the
// shard's lock, and only the cost of it is queued. That it returns true then
// even with a full queue is no loss, since all costs are equal here.
//
// # The algorithm
//
// Package cache decides who stays. It has one mutex, a map from key to node and
// a list of the nodes in order of use. Ristretto holds the values by slot
// number: a node owns a slot, and a key that comes takes over the slot of one
// that leaves. Each slot is filled once with the zero value before it is used,
// so every later Set of it is an update. Such numbers are their own hashes
// (z.KeyToHash of a uint64 gives the number and no conflict hash), so two slots
// never meet.
//
// Slots are made in chunks when they are first needed, under the lock: Set of
// each, Wait until ristretto has applied them, Get of each to be sure. The lock
// makes the cache the only writer of that queue, so a Set that was refused
// because the queue was full succeeds after a Wait. A node that is evicted or
// removed gets the zero value set, which lets go of its value, and goes to a
// list of free nodes, unless a new key takes it over at once.
//
// Each slot costs 1 and MaxCost is the largest integer, so defaultPolicy.Add
// always finds room: it never evicts, never rejects, and never consults its use
// counters, which are therefore few. A node whose value ristretto lacks all
// the same counts as a miss and is dropped along with its slot number.
package cache
