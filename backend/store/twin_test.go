package store_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kvstore/backend/database/databasetest"
	"kvstore/backend/kv"
	"kvstore/backend/store"
)

// A twin is a store with its model, and makes random operations on both.
type twin struct {
	t      *testing.T
	store  *store.Store
	model  *model
	random *rand.Rand
	writes int
	prefix string // of its keys
	shared bool   // the store has other twins, so revisions are not known
}

func (w *twin) name() string { return fmt.Sprint(w.prefix, "k", w.random.IntN(6)) }

// change returns a random change, which may be one that must be refused.
func (w *twin) change() store.Change {
	key := w.name()
	k := w.model.key(key)
	c := store.Change{Operation: kv.OpPut, Key: key}
	switch w.random.IntN(10) {
	case 0, 1:
		c.Operation = kv.OpDelete
	case 2, 3:
		c.Operation = kv.OpRevert
		c.Version = w.random.Int64N(k.latest() + 3)
	default:
		w.writes++
		c.Value = fmt.Appendf(nil, `"%d"`, w.writes)
		if w.random.IntN(4) == 0 {
			c.TTL = time.Duration(1+w.random.IntN(5)) * time.Minute
		}
	}
	switch w.random.IntN(8) {
	case 0:
		c.If.OneOf = []int64{k.latest() + w.random.Int64N(2)}
	case 1:
		c.If.Absent = true
	case 2:
		c.If.Exists = true
	case 3:
		c.If.NoneOf = []int64{k.latest() - w.random.Int64N(2)}
	}
	return c
}

func (w *twin) write() {
	c := w.change()
	want := w.model.apply(c)
	written, err := w.store.Write(w.t.Context(), c)
	if !errors.Is(err, want) || want == nil && err != nil {
		w.t.Fatalf("%+v: %v, want %v", c, err, want)
	}
	k, entry := w.model.key(c.Key), written.Entry
	if err == nil && (entry.Version != k.latest() || written.TotalVersions != k.count() || !w.shared && entry.Revision != w.model.revision) {
		w.t.Fatalf("%+v made %+v, want version %d, revision %d, %d versions", c, written, k.latest(), w.model.revision, k.count())
	}
}

// batch makes several changes, all or none.
func (w *twin) batch() {
	changes := make([]store.Change, 1+w.random.IntN(6))
	before := w.model.copy()
	var want error
	failed := -1
	for i := range changes {
		changes[i] = w.change()
		if want == nil {
			if want = w.model.apply(changes[i]); want != nil {
				failed = i
			}
		}
	}
	done, err := w.store.Batch(w.t.Context(), nil, changes)
	if want == nil {
		if err != nil || len(done.Results) != len(changes) || done.Revision != w.model.revision && !w.shared {
			w.t.Fatalf("batch: %v", err)
		}
		return
	}
	w.model = before
	var operation *store.OperationError
	if !errors.Is(err, want) || !errors.As(err, &operation) || operation.Index != failed {
		w.t.Fatalf("batch: %v, want %v at %d", err, want, failed)
	}
}

func (m *model) copy() *model {
	all := &model{keys: map[string]*modelKey{}, revision: m.revision, now: m.now}
	for name, k := range m.keys {
		all.keys[name] = &modelKey{versions: append([]modelVersion(nil), k.versions...), forgotten: k.forgotten}
	}
	return all
}

func (w *twin) destroy() {
	name := w.name()
	k := w.model.key(name)
	version := 1 + w.random.Int64N(k.latest()+1)
	_, want := k.read(version)
	switch {
	case !k.stored() && version > k.latest():
		want = kv.ErrKeyNotFound
	case version > int64(k.forgotten) && errors.Is(want, kv.ErrVersionGone):
		want = nil // destroyed before
	}
	got, err := w.store.Destroy(w.t.Context(), name, []int64{version}, kv.Condition{})
	if !errors.Is(err, want) || want == nil && err != nil {
		w.t.Fatalf("Destroy(%s, %d) = %v, want %v", name, version, err, want)
	}
	if want == nil {
		k.versions[version-1].destroyed = true
		if got.TotalVersions != k.count() {
			w.t.Fatalf("Destroy(%s, %d) = %+v, want %d versions", name, version, got, k.count())
		}
	}
}

func (w *twin) destroyAll() {
	name := w.name()
	k := w.model.key(name)
	_, err := w.store.DestroyAll(w.t.Context(), name, "", kv.Condition{})
	if want := !k.stored(); want != errors.Is(err, kv.ErrKeyNotFound) || !want && err != nil {
		w.t.Fatalf("DestroyAll(%s) = %v", name, err)
	}
	if k.stored() && !k.last().operation.Tombstone() {
		w.model.append(k, modelVersion{operation: kv.OpDestroy})
	}
	k.forgotten = len(k.versions)
}

func (w *twin) read() {
	name := w.name()
	k := w.model.key(name)
	value, want := k.readLatest(w.model.now)
	entry, _, err := w.store.Get(w.t.Context(), name)
	if !errors.Is(err, want) || string(entry.Value) != value {
		w.t.Fatalf("Get(%s) = %s, %v, want %s, %v", name, entry.Value, err, value, want)
	}
	version := 1 + w.random.Int64N(k.latest()+2)
	value, want = k.read(version)
	entry, _, err = w.store.GetVersion(w.t.Context(), name, version)
	if !errors.Is(err, want) || string(entry.Value) != value {
		w.t.Fatalf("GetVersion(%s, %d) = %s, %v, want %s, %v", name, version, entry.Value, err, value, want)
	}
}

func (w *twin) step() {
	switch w.random.IntN(11) {
	case 0:
		w.destroy()
	case 1:
		w.destroyAll()
	case 2, 3:
		w.batch()
	case 4, 5, 6, 7:
		w.write()
	default:
		w.read()
	}
}

// sweep waits for the tombstones of all expired keys. The order in which the janitor writes
// them is not known.
func (w *twin) sweep() {
	for _, k := range w.model.keys {
		w.model.settle(k)
	}
	w.compareTotals()
}

func (w *twin) compareTotals() {
	want := w.model.totals()
	var diff string
	waitFor(w.t, func() bool {
		stats, err := w.store.DatabaseStats(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		stats.Compacted, stats.Forgotten = 0, 0 // the models do not know the revisions that others destroyed
		diff = cmp.Diff(want, stats.Totals)
		return diff == ""
	})
}

// TestAgainstModel runs random operations against the model, with restarts, and compares
// what is read, the numbers and the counters after each. When its clock passes the end of a key
// it waits for the janitor, so that both have the tombstone at the same point.
func TestAgainstModel(t *testing.T) {
	url := databasetest.URL(t)
	clock := newTestClock(1_000_000_000)
	w := &twin{t: t, model: &model{keys: map[string]*modelKey{}}, random: rand.New(rand.NewPCG(8, 9))}
	for range 3 {
		db := databasetest.Open(t, url)
		w.store = over(t, db, options{maxKeys: 3, maxBytes: 64, now: clock.now})
		for range 250 {
			w.model.now = clock.timestamp()
			if w.random.IntN(12) == 0 {
				clock.add(time.Duration(w.random.IntN(90)) * time.Second)
				w.model.now = clock.timestamp()
				w.sweep()
			} else {
				w.step()
			}
			w.compareTotals()
		}
		w.store.Close()
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAgainstModelsAtOnce runs several models with separate keys against one store at the same
// time. The counters are compared at the end of each run.
func TestAgainstModelsAtOnce(t *testing.T) {
	const clients, steps = 6, 120
	url := databasetest.URL(t)
	clock := newTestClock(1_000_000_000)
	var twins []*twin
	for i := range clients {
		twins = append(twins, &twin{
			t: t, model: &model{keys: map[string]*modelKey{}, now: clock.timestamp()},
			random: rand.New(rand.NewPCG(10, uint64(i))), prefix: fmt.Sprint("client", i, "/"), shared: true,
		})
	}
	for range 2 {
		db := databasetest.Open(t, url)
		s := over(t, db, options{maxKeys: 5, maxBytes: 1000, now: clock.now})
		var wg sync.WaitGroup
		for _, w := range twins {
			w.store = s
			wg.Go(func() {
				for range steps {
					w.step()
				}
			})
		}
		wg.Wait()
		sum := twin{t: t, store: s, model: &model{keys: map[string]*modelKey{}}}
		for _, w := range twins {
			sum.model.revision += w.model.revision
			maps.Copy(sum.model.keys, w.model.keys)
		}
		sum.compareTotals()
		s.Close()
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
