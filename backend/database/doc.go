// Package database keeps the rows: GORM models of keys and their versions, the
// numbered migrations that make the tables, and the dialects. Rows go in and
// come out as kv types; which version or revision a write gets, and in which
// order caches learn of it, is decided in package store.
//
// # Tables
//
//	store     one row: the id of the store and its counters (revision, keys, versions),
//	          so that statistics take the same time however large the store is
//	keys      one row per key: its latest version and where that stands, whether it is
//	          deleted, when it ends
//	versions  one row per version, append only but for what retention and destruction
//	          take; the revision is the primary key, so rows lie on disk in commit
//	          order; (key_id, version) is unique
//	erased    one row per key that was erased whole: a digest of its name, and how far
//	          it had counted
//
// # Guarantees
//
//   - Update is one transaction: when it returns nil, everything that was done in it
//     is on disk (fsync); when it returns an error, nothing of it is.
//   - A read sees everything whose Update returned before the read began.
//   - One process owns a database file. Open locks it and fails with the name of
//     the process that holds it, since two caches over one file would diverge.
//   - What Update remembers of the rows (see memory) is what the file has: nothing but
//     Update changes it, and a commit that failed is forgotten whole.
//   - After Scrub nothing of what was destroyed before is in the file or its log.
//   - Errors are those of package kv, or wrap an error of the context. The text of
//     a driver's error is for the log, never for a client.
//
// # SQLite
//
// There is one connection for writes and a pool of query-only connections for
// reads. Every pragma is part of the way in which a connection is opened, since
// an Exec would reach only one connection of the pool. Prepared statements are kept
// by the driver, for each connection (_stmt_cache_size), and not by GORM: GORM
// forgets them after a day, and prepares a statement that is first used inside
// a transaction anew at each use.
package database
