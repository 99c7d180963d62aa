package database

import (
	"context"

	"gorm.io/gorm"

	"kvstore/backend/kv"
)

// A Tx is a transaction of Update, which writes, or of View. It is valid inside the
// function that these call, and only there.
//
// It numbers what is written. Load reads what it must know of keys, Append makes versions
// from that, in memory, and Save writes them, with few statements.
type Tx struct {
	tx       *gorm.DB
	memory   *memory // its lock is held; nil in a View
	identity identity
	count    func(*error)
	keys     map[string]*loadedKey
	latest   map[string]kv.Entry // see Latest
	wrote    bool                // a row, so that there is something to commit
	// appended are the versions that Save has still to write, and before the heads that
	// their keys had.
	appended []kv.Entry
	before   []Head
	// Totals are the store's counters, saved with the transaction. Append advances them.
	Totals kv.Totals
	// MaxVersions, when not 0, is how many versions a key has at most after Save. A key that
	// had more before loses them over several transactions. Trimmed counts those that Save
	// has removed.
	MaxVersions int64
	Trimmed     int
}

// Update runs fn in one transaction and commits it: when it returns nil, all that
// fn did is on disk, saved or not; when it returns an error, nothing of it is stored, with one
// exception: kv.ErrOutcomeUnknown says that the disk failed at the commit, so that no read
// sees what fn did, but the next process that opens the file may, unless there is another
// commit before. An error of fn comes back as it is.
//
// It fails with kv.ErrCorrupt when the counters are damaged.
func (db *DB) Update(ctx context.Context, fn func(*Tx) error) error {
	db.memory.mu.Lock()
	defer db.memory.mu.Unlock()
	ended := false
	defer func() {
		if !ended { // it panics, and how far it came is not known
			db.memory.forgetLocked()
		}
	}()
	committed, err := db.updateLocked(ctx, fn)
	ended = true
	db.noteLocked(err, committed)
	return err
}

func (db *DB) updateLocked(ctx context.Context, fn func(*Tx) error) (committed bool, err error) {
	if err := db.Ready(); err != nil {
		return false, err
	}
	tx := db.writer.WithContext(ctx).Begin()
	if tx.Error != nil {
		return false, Translate(tx, "begin", tx.Error)
	}
	defer tx.Rollback() // after a commit it does nothing
	update := &Tx{
		tx: tx, memory: db.memory, identity: db.identity, count: db.count, keys: map[string]*loadedKey{},
	}
	if err := update.loadTotals(); err != nil {
		return false, err
	}
	before := update.Totals
	if err := fn(update); err != nil {
		return false, err
	}
	if _, err := update.Save(); err != nil {
		return false, err
	}
	if !update.wrote && update.Totals == before {
		return false, nil
	}
	if err := update.saveTotals(); err != nil {
		return false, Translate(tx, "save the counters", err)
	}
	if err := db.commit(ctx, tx); err != nil {
		return false, db.commitFailedLocked(ctx, err)
	}
	db.memory.learnLocked(update)
	return true, nil
}

func (t *Tx) loadTotals() (err error) {
	defer t.count(&err)
	if t.memory.totals != nil {
		t.Totals = *t.memory.totals
		return nil
	}
	t.Totals, err = readTotals(t.tx)
	err = Translate(t.tx, "read the counters", err)
	return err
}

func (t *Tx) saveTotals() error { return t.identity.save(t.tx, t.Totals) }

// Append makes e the next version of its key, which is loaded and sound: it decides version,
// revision and time, and moves head and totals on. e.Time is now, or when an imported version
// was made; e.Version is 0, or the number of an imported version, and then the history lacks
// those that it passes over. The row is written by Save.
func (t *Tx) Append(e kv.Entry) kv.Written {
	k := t.keys[e.Key]
	t.before = append(t.before, k.head)
	totals, head := &t.Totals, &k.head
	previous, existed := head.Version, head.ID != 0 && !head.Deleted
	if !existed {
		previous = 0
	}
	totals.Revision++
	totals.Versions++
	next := head.Version + 1
	if e.Version == 0 {
		e.Version = next
	}
	if head.ID == 0 {
		head.ID = totals.Revision
	}
	if head.ID == totals.Revision || e.Version != next {
		head.CompleteFrom = e.Version
	}
	head.Version, head.Revision = e.Version, totals.Revision
	head.TotalVersions++
	head.Time = max(head.Time, e.Time) // the time of the last start may have been ahead
	head.Deleted, head.Expires = e.Operation.Tombstone(), e.Expires
	switch {
	case existed && head.Deleted:
		totals.Keys--
	case !existed && !head.Deleted:
		totals.Keys++
	}
	e.Revision, e.Time = head.Revision, head.Time
	t.appended = append(t.appended, e)
	return kv.Written{Entry: e, Previous: previous, TotalVersions: head.TotalVersions}
}

// Try calls fn, which must not Save. When that returns an error, nothing is left of what it
// appended.
func (t *Tx) Try(fn func() error) error {
	totals, n := t.Totals, len(t.appended)
	err := fn()
	if err != nil {
		for i := len(t.appended) - 1; i >= n; i-- {
			t.keys[t.appended[i].Key].head = t.before[i]
		}
		t.Totals, t.appended, t.before = totals, t.appended[:n], t.before[:n]
	}
	return err
}

// Save writes the versions that were appended since the last Save, and returns them in
// their order. When MaxVersions is set it removes older versions, and does not store those that
// would go at once. Update saves what its function has not.
func (t *Tx) Save() (appended []kv.Entry, err error) {
	appended, t.appended, t.before = t.appended, nil, nil
	if len(appended) == 0 {
		return nil, nil
	}
	t.wrote = true
	added := make(map[*loadedKey]int64, len(appended))
	changed := make([]*loadedKey, 0, len(appended))
	for i := range appended {
		k := t.keys[appended[i].Key]
		if added[k]++; added[k] == 1 {
			changed = append(changed, k)
		}
	}
	stored := appended
	if t.MaxVersions > 0 {
		if stored, err = t.trim(changed, added, appended); err != nil {
			return nil, err
		}
	}
	if err := t.saveHeads(changed); err != nil {
		return nil, err
	}
	rows := make([][]any, 0, len(stored))
	for i := range stored {
		e := &stored[i]
		rows = append(rows, versionOf(e, t.keys[e.Key].head.ID))
	}
	return appended, t.insert(appendVersions, rows)
}

func (t *Tx) insert(i *insert, rows [][]any) error {
	return Translate(t.tx, "write "+i.table, i.exec(t.tx, rows))
}

// versionOf returns a row of appendVersions.
func versionOf(e *kv.Entry, keyID int64) []any {
	return []any{
		e.Revision, keyID, e.Version, int64(e.Time), string(e.Operation), e.ContentType, e.Author, int64(e.Expires), e.Destroyed,
		checksumsOf(e), bytesOf(e.Value),
	}
}

// bytesOf keeps an empty value from being stored as NULL.
func bytesOf(value []byte) []byte {
	if value == nil {
		return []byte{}
	}
	return value
}
