// Package postgres keeps a database on a server that speaks PostgreSQL's protocol, which several
// backends share. It connects, makes the schema, orders the commits of all backends, and finds out
// what became of one whose answer was lost. The queries are in package database.
//
// # Tables
//
// keys, versions and erased are those of package database. Beside them are
//
//	kvstore_schema  one row: the version of the schema, and the least version that a program must know to
//	                use it; who makes or changes tables locks it
//	identity        one row: the id of the store; who writes locks it
//	commits         one row for each transaction of Update: its number, its batch, which backend made
//	                it, the counters after it, the time, and keys that lost something; rows of more than
//	                a few minutes go, and with them the names of erased keys
//	lease           one row: which process does what one does for all
//	members         one row for each backend that runs: its version, the schema that it knows, and when it
//	                was seen; one that was not seen for a minute goes
//	store           a view: the identity and the counters after the last commit
//
// During an upgrade backends of two versions run beside each other. So a later version changes the tables
// in two steps, each in a transaction that locks the row of kvstore_schema. First it adds what older
// backends do not mind, and sets version; they can be put back still. When no member knows too old a schema,
// it takes away what only those used, and sets least: from then on they refuse to start.
//
// Keys are bytea, which sorts by bytes whatever the collation of the database.
//
// # Guarantees
//
//   - The rows of commits are a chain: seq, and the revisions, go on without a gap, in the order of
//     the commits, however many backends write. For that each transaction of Update holds the lock of
//     the row of identity from its begin to its end. That row is not changed, since a snapshot that
//     somebody holds open would make every old state of it stay. Only what fills an empty database
//     changes it, while no backend is connected (see ToEmpty).
//   - A backend that stops within a transaction holds the lock for a bounded time: the server ends
//     a transaction that idles for idleTimeout.
//   - Update returns nil when the commit is durable as the server is set up to make it
//     (synchronous_commit, synchronous_standby_names). When the server gives up waiting for a standby
//     that is no success.
//   - A commit whose answer was lost is looked for on another connection, behind the lock. So the
//     transaction has ended, and what is found stays.
//   - Nothing shows the password: no error, and no line of a log.
//
// The SQL keeps to what CockroachDB and YugabyteDB have too: no advisory locks, sequences, or collations.
// LISTEN is only a hint that makes watches faster.
package postgres
