// Package sqlite keeps a database in a file of SQLite. It opens, locks and checks the file, copies
// and restores it, gives its free space back, overwrites what was destroyed, and deals with a disk
// that fails. The queries are in package database.
//
// # Guarantees
//
//   - One process owns a file. Open locks it and fails with the name of the process that holds
//     it, since two caches over one file would diverge. When the file loses its name, nothing is
//     written any more.
//   - A commit is in the write-ahead log and synced (synchronous = FULL) when Update returns.
//   - A commit that failed has left nothing, or the error is kv.ErrOutcomeUnknown: see
//     Resolve.
//   - After Scrub nothing of what was destroyed before is in the file or its log, and no
//     write has waited for more than a bounded number of pages.
//   - A copy and a backup are the state at one moment. A backup has been read and compared whole
//     before it has its name. A restore leaves the old database or the new one, or a file that
//     Open refuses until the restore is repeated.
//   - Open, Check, Backup and Restore refuse a file with a damaged structure, of another program
//     or of another schema, and leave it as it is. Open reads files of up to maxQuickCheckBytes
//     for that, and reports damaged rows of those of up to maxRowCheckBytes; the others read all
//     of a file and accept no damage. What SQLite itself keeps, its schema and the header of the
//     file, has no checksum.
//
// # Connections
//
// One connection writes, and a pool of query-only ones reads. Every pragma is part of the way in
// which a connection is opened, since an Exec would reach only one connection of the pool. The
// driver keeps prepared statements, for each connection (_stmt_cache_size), and not GORM, which
// forgets them after a day, and prepares a statement that is first used inside a transaction
// anew at each use.
//
// # A disk that fails
//
// A write that finds no room is kv.ErrStorageFull, one that the disk refuses is
// kv.ErrDiskFailed. A page that cannot be read (EIO) is kv.ErrCorrupt: SQLite makes one error of
// both. It is not remembered: the next read asks the disk again.
//
// Linux counts pages that a failed sync did not write as written, and no later sync
// writes them. Within a process that does no harm: what failed is written anew, the
// frames by the next commit, the pages of the file by the next checkpoint, which starts
// from where the last good one ended. A new process, though, would read frames from
// memory that the disk has not, and append behind them. So Open moves the log into the
// file and syncs it before anything is served (see moveLog).
//
// Pages are read by pread and not mapped (mmap_size is 0, the default): where the disk does not
// give a mapped page back the system sends SIGBUS, which within C ends the process, and pread
// returns an error. One file is mapped all the same: the index of the log (FILE-shm), which SQLite
// shares between connections in no other way. It is made anew at each start, and SQLite writes to
// each page of it before use, so that a full disk is an error. If the system cannot read such a page
// back the process dies by SIGBUS, as by kill -9; nothing acknowledged is lost.
package sqlite
