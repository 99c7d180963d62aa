// Package database keeps the rows: GORM models of keys and their versions, the
// schema that they make, and the dialects. Rows go in and come out as kv types. It numbers versions, for the store and for the importer
// (Tx.Append); what is written, and in which order caches learn of it, is decided in
// package store.
//
// # Tables
//
//	store     one row: the id of the store, its counters (revision, keys, versions), so
//	          that statistics take the same time however large the store is, and up to
//	          which revision some may be missing
//	keys      one row per key: its latest version and where that stands, whether it is
//	          deleted, when it ends, the highest revision that retention removed of it
//	versions  one row per version, append only but for what retention and destruction
//	          take; the revision is the primary key, so rows lie on disk in commit
//	          order; (key_id, version) is unique
//	erased    one row per key that was erased whole: a digest of its name, and how far
//	          it had counted
//
// # Schema
//
// A file has the number of its schema in its header (PRAGMA user_version). There is one,
// version 1: createSchema makes it whole, and a file with another number is refused, by
// Open as by Verify and Restore. testdata has a file of it, which a test reads.
//
// Version 2 will need this: the models change; schemaVersion becomes 2; a function in
// schema.go changes a file of version 1 in one transaction, with PRAGMA user_version = 2
// as its last statement, by SQL and not by the models, which go on changing; Open calls it
// in place of createSchema when the file has version 1, and Restore calls it on its copy of
// a backup. refuseSchema then accepts both, and rows are checked once they have version 2.
// The test makes testdata/schema2.db, and reads it and schema1.db.
//
// # Guarantees
//
//   - Update is one transaction: when it returns nil, everything that was done in it
//     is on disk (fsync); when it returns an error, nothing of it is, unless it is
//     kv.ErrOutcomeUnknown (see "A disk that fails").
//   - A read sees everything whose Update returned before the read began.
//   - One process owns a database file. Open locks it and fails with the name of
//     the process that holds it, since two caches over one file would diverge.
//   - What Update remembers of the rows (see memory) is what the file has: nothing but
//     Update changes it, and a commit that failed is forgotten whole.
//   - What is read is what was written, or the error is kv.ErrCorrupt and names what is
//     damaged: see the next part.
//   - After Scrub nothing of what was destroyed before is in the file or its log, and no
//     write has waited for more than a bounded number of pages.
//   - Errors are those of package kv, or wrap an error of the context. The text of
//     a driver's error is for the log, never for a client.
//
// # Statements
//
// A condition "column = ?" stands in unlikely(), which says what SQLite assumes anyway. Without
// it, SQLite looks at the value that is bound to estimate how many rows have it, and so
// parses and plans the statement anew each time that the driver binds: half of the
// time that a read of one version takes.
//
// # Damage
//
// Each row has a checksum (checksum.go defines it), which every read compares: of the
// value when the value is read, of all else always. So a damaged row is never served, nor
// one in place of another.
//
// Indexes have none. One that is damaged may hide a key or a version, so that it is not
// found, or is missing from a list. Check, Backup and Restore compare all indexes with the
// rows. Events reads versions in the order of their table, without an index, and fails when
// a revision is missing that nothing has removed.
//
// One damaged row takes nothing else with it, but for what cannot be told without it: a
// list or a page of history or of events that it is on, a time that lies just before it, a
// feed of other keys when its members besides the value are damaged, and retention of its
// key. Update works on a key whose latest version is damaged, since it does not read
// that; on a key whose own row is damaged it fails. A start reports damaged rows of files
// up to maxRowCheckBytes and goes on; it refuses a file with a damaged structure (up to
// maxQuickCheckBytes) or damaged counters. Check, Backup and Restore accept no damage.
//
// What SQLite itself keeps, its schema and the header of the file, has no checksum.
//
// # SQLite
//
// There is one connection for writes and a pool of query-only connections for
// reads. Every pragma is part of the way in which a connection is opened, since
// an Exec would reach only one connection of the pool. Prepared statements are kept
// by the driver, for each connection (_stmt_cache_size), and not by GORM: GORM
// forgets them after a day, and prepares a statement that is first used inside
// a transaction anew at each use.
//
// # Destruction
//
// A transaction erases rows, and SQLite overwrites what it frees (secure_delete). What then
// is left is in the write-ahead log, and in the gaps of pages whose rows have moved
// (residue.go). Scrub takes it away in one pass over the file, in this order:
//
//  1. Move the log into the file beside writes, and the rest while the writer is held, until the
//     log is empty. From then on only the pass moves it, so that it has every page that
//     was written since.
//  2. Read the file without a lock. Remember the pages that have something in their gap.
//  3. In steps, each with the writer held: add the pages that the log has to those, empty
//     the log, take SQLite's lock for writes, look at a bounded number of the pages again,
//     overwrite what is in their gaps, and have the connection forget its pages. Then leave
//     the writer to others for as long. A step comes when enough pages or enough of the
//     log have gathered, while the file is still being read.
//  4. When a step leaves no page to look at, sync the file.
//
// At the end of that step the log is empty, and each page was either clean when it was read
// and not written since, or has been looked at since it was last written. Rows and whole
// pages may move meanwhile, to where the pass has been: whatever moves is written.
// SQLite's lock and the empty log keep other processes from writing a page between the look
// and the overwriting, so they lose nothing. What they may bring back is what they had in
// memory themselves: one process owns the file.
//
// # A disk that fails
//
// A write that finds no room is kv.ErrStorageFull, one that the disk refuses is
// kv.ErrDiskFailed, and neither leaves anything: without its last frame a transaction in
// the log counts for nothing. But SQLite writes that frame and then syncs the log. When
// the sync fails, it rolls the transaction back for this process, and the frames stay:
// the next process that reads the log would take them for committed, and a write that was
// refused would appear. So after such a failure a transaction that changes nothing is
// committed over them (settle). If that works, nothing was written, and the answer
// says so. If it does not, the outcome is not known, and the answer says that. No read
// sees the write; the next process may; the next commit ends that. Whoever opened the
// database calls Settle until the disk works.
//
// Linux counts pages that a failed sync did not write as written, and no later sync
// writes them. Within a process that does no harm: what failed is written anew, the
// frames by the next commit, the pages of the file by the next checkpoint, which starts
// from where the last good one ended. A new process, though, would read frames from
// memory that the disk has not, and append behind them. So Open moves the log into the
// file and syncs it before anything is served, and fails when the disk does. It goes on
// when the disk is full or another program reads the log (Litestream), with a warning.
//
// A page that cannot be read (EIO) is kv.ErrCorrupt: SQLite makes one error of both. It is
// not remembered: the next read asks the disk again.
//
// Pages are read by pread and not mapped (mmap_size is 0, the default): where the disk
// does not give a mapped page back the system sends SIGBUS, which within C ends the
// process, and pread returns an error. (In a try over 100,000 entries a mapped read
// took 42 to 52 us of processor time, another 47 to 51.) One file is mapped all the same:
// the index of the log (FILE-shm), which SQLite shares between connections in no other
// way. It is made anew at each start, and SQLite writes to each page of it before use, so that a
// full disk is an error. If the system takes such a page out of memory and cannot read
// it back, the process dies by SIGBUS, as by kill -9; nothing acknowledged is lost.
package database
