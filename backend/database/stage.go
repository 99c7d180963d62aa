package database

import (
	"errors"
	"sync/atomic"
	"time"

	"kvstore/backend/kv"
)

// Rows are what a commit writes besides its own row.
type Rows struct {
	Keys     []KeyState // to insert, or to update by Head.ID
	Versions []Version  // to insert
	Removed  []VersionID
}

// A KeyState is the row of a key.
type KeyState struct {
	Key string
	Head
	Checksum int64
}

// A Version is the row of a version.
type Version struct {
	*kv.Entry
	KeyID     int64
	Checksums int64
}

// Bytes returns the value, which is not nil.
func (v Version) Bytes() []byte { return bytesOf(v.Value) }

// staged is what a transaction has to write at its commit.
type staged struct {
	Rows
	// until is the time of the engine from which on a key that the transaction has seen has ended,
	// or a time that it has used is too old.
	until   kv.Timestamp
	refused bool // it needs statements of its own
}

// errDirect is the error of a method that cannot be staged.
var errDirect = errors.New("the transaction needs statements of its own")

// direct returns an error when statements that write must wait until the commit. Update then runs
// the transaction again, in another form.
func (t *Tx) direct() error {
	if t.staged == nil {
		return nil
	}
	t.staged.refused = true
	return errDirect
}

// rely notes how long the state of a key stays as it is now.
func (s *staged) rely(now kv.Timestamp, head Head) {
	if !head.Deleted && head.Expires > now {
		s.until = min(s.until, head.Expires)
	}
}

func (s *staged) saveHeads(changed []*loadedKey) {
	for _, k := range changed {
		s.Keys = append(s.Keys, KeyState{k.name, k.head, keyChecksum(k.name, k.head)})
		k.found(k.head)
		k.changed = true
	}
}

func (s *staged) append(t *Tx, entries []kv.Entry) {
	for i := range entries {
		e := &entries[i]
		s.Versions = append(s.Versions, Version{e, t.keys[e.Key].head.ID, checksumsOf(e)})
	}
}

// findVersions stages the removal of versions and returns those that exist.
func (t *Tx) findVersions(ids []VersionID) (all []removed, err error) {
	err = pieces(ids, func(some []VersionID) (err error) {
		all, err = t.readRemoved(all, findSQL[len(some)], some)
		return err
	})
	for _, r := range all {
		t.staged.Removed = append(t.staged.Removed, r.VersionID)
	}
	return all, Translate(t.tx, "find versions to delete", err)
}

// A Chain counts what has happened to commits on a shared engine since the database was opened.
type Chain struct {
	// Conflicts are attempts to commit that came after a commit of another process.
	Conflicts uint64
	// Retries are transactions that the engine has refused and that were run again.
	Retries uint64
	// Commits whose answer did not arrive: Made were found, Lost were not made, and of Unknown it
	// could not be found out.
	Made, Lost, Unknown uint64
}

// Chain returns the counters.
func (db *DB) Chain() Chain {
	c := &db.chain
	return Chain{c.conflicts.Load(), c.retries.Load(), c.made.Load(), c.lost.Load(), c.unknown.Load()}
}

// chain is the state behind Chain, and the time of the engine as it was measured last.
type chain struct {
	conflicts, retries, made, lost, unknown atomic.Uint64
	time                                    atomic.Int64
}

func (c *chain) resolved(outcome Outcome, err error) {
	switch {
	case err != nil:
		c.unknown.Add(1)
	case outcome == Made:
		c.made.Add(1)
	case outcome == Lost:
		c.lost.Add(1)
	}
}

// Now is the time of a shared engine as it was measured last, and never runs backwards. It is measured with each
// question and each commit, and not extrapolated: a read that asks for the last commit gets a time at which it was
// under way, so what has expired for one read has expired for every later one, at each backend.
func (db *DB) Now() time.Time { return time.UnixMicro(int64(db.chain.now())) }

func (c *chain) now() kv.Timestamp { return kv.Timestamp(c.time.Load()) }

func (c *chain) measured(now kv.Timestamp) {
	for before := c.time.Load(); int64(now) > before && !c.time.CompareAndSwap(before, int64(now)); {
		before = c.time.Load()
	}
}
