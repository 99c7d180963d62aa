// Package database keeps every version of every key: the GORM models and the schema that they
// make, the queries, and the transaction, which numbers versions. Rows go in and come out as kv
// types. It runs on an Engine: package sqlite has the one for a file, package postgres the one for a
// server that several processes share. Both run the same SQL. What is written, and in which
// order caches learn of it, is decided in package store.
//
// # Tables
//
//	store     one row: the id of the store, its counters (revision, keys, versions), so
//	          that statistics take the same time however large the store is, and up to
//	          which revision some may be missing; on PostgreSQL a view of the last commit
//	keys      one row per key: its latest version and where that stands, whether it is
//	          deleted, when it ends, the highest revision that retention removed of it
//	versions  one row per version, append only but for what retention and destruction
//	          take; the revision is the primary key, so rows lie on disk in commit
//	          order; (key_id, version) is unique
//	erased    one row per key that was erased whole: a digest of its name, and how far
//	          it had counted
//
// The schema has version 1, which the engine keeps with the tables; testdata has a file of it,
// which a test reads. Version 2 will need a function that changes tables of version 1 in one
// transaction, by SQL and not by the models, which go on changing.
//
// # Guarantees
//
//   - Update is one transaction. When it returns nil, all that was done in it is durable. When
//     it returns an error, nothing of it is, unless that is kv.ErrOutcomeUnknown.
//   - Of processes that share an engine one commits at a time, on what the one before has left. An
//     Update that has relied on anything else, be it to refuse a write, runs again.
//   - A read sees everything whose Update returned before the read began.
//   - What is read is what was written, or the error is kv.ErrCorrupt.
//   - A Transfer from one engine to another leaves all rows as they were, and compares them, or leaves
//     nothing.
//   - What Update remembers of the rows (see memory) is what the database has: nothing but
//     Update changes it, and it is forgotten whole after a commit that failed, or one of another process.
//   - Errors are those of package kv, or wrap an error of the context. The text of
//     a driver's error is for the log, never for a client.
//
// # Damage
//
// Each row has a checksum (checksum.go defines it), which every read compares: of the
// value when the value is read, of all else always. So a damaged row is never served, nor
// one in place of another. The error names the key, and the version.
//
// Indexes have none. One that is damaged may hide a key or a version, so that it is not
// found, or is missing from a list. CheckRows and the engine's own check find that, and a backup
// and a restore make them. Events reads versions in the order of their table, without an index,
// and fails when a revision is missing that nothing has removed.
//
// One damaged row takes nothing else with it, but for what cannot be told without it: a
// list or a page of history or of events that it is on, a time that lies just before it, a
// feed of other keys when its members besides the value are damaged, and retention of its
// key. Update works on a key whose latest version is damaged, since it does not read
// that; on a key whose own row is damaged it fails.
package database
