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
// # Commits
//
// A backend knows the last commit that it has seen, and stages its rows on that without asking. Then one
// statement (see Append) is the whole commit: it locks the row of identity, adds the row of the commit if
// the commit that was seen is still the last, and hangs all other rows on that one. When another backend
// was first, nothing is written, and the transaction is run again with the lock taken first, so that
// nobody starves; so is the next one, until no other backend has written in between. Statements of
// a destruction, of retention, or of an import need the lock from the beginning, too.
//
//   - What is read before the statement, such as the head of a key that is not known, is read after the
//     last commit was seen. So it is of that commit, or of a later one, and then the comparison fails.
//     A transaction that writes nothing compares too, before it is answered.
//   - The statement sees the state before it began to wait for the lock. It cannot miss a commit in
//     between: that has taken the number of its row. Rows of commits are therefore kept longer than
//     LockTimeout.
//   - The time of what is staged is that of the server as it was measured last, by this commit's
//     predecessor or by the follower of package store, but not before the last commit. It is never the
//     clock of this machine. The statement compares it with the server's clock: when it is a second old,
//     or when a key that the transaction has seen has ended since, nothing is written, as above. So a
//     key that has ended at one backend is not written at another as if it had not.
//   - A backend that stands still keeps nobody waiting while the statement runs, which needs nothing more
//     from it. Within a transaction it holds the lock for a bounded time: the server ends one that idles
//     for idleTimeout, or for briefIdle when it has only to stage its rows. It is then run again.
//   - No context ends the statement, but a timeout does. An error that comes with the answer of the server
//     says that nothing was written. Any other may come after the commit, and so may a notice that the
//     server no longer waits for a standby: then the commit is looked for.
//
// # Guarantees
//
//   - The rows of commits are a chain: seq, and the revisions, go on without a gap, in the order of
//     the commits, however many backends write. The row of identity, which is their lock, is not
//     changed, since a snapshot that somebody holds open would make every old state of it stay. Only
//     what fills an empty database changes it, while no backend is connected (see ToEmpty).
//   - Update returns nil when the commit is durable as the server is set up to make it
//     (synchronous_commit, synchronous_standby_names). When the server gives up waiting for a standby
//     that is no success.
//   - A commit whose answer was lost is looked for on another connection, behind the lock. So the
//     transaction has ended, and what is found stays. If it is not there, it is made again.
//   - Nothing shows the password: no error, and no line of a log.
//
// The SQL keeps to what CockroachDB and YugabyteDB have too: no advisory locks, sequences, or collations.
// LISTEN is only a hint that makes watches faster.
package postgres
