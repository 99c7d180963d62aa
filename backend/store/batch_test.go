package store_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kvstore/backend/database/databasetest"
	"kvstore/backend/kv"
	"kvstore/backend/store"
)

func putOf(key, value string) store.Change {
	return store.Change{Operation: kv.OpPut, Key: key, Value: []byte(value)}
}

func getOf(key string) store.Change { return store.Change{Operation: store.OpGet, Key: key} }

// atVersion requires that a key is at that version, 0 for a key that does not exist.
func atVersion(version int64) kv.Condition {
	if version == 0 {
		return kv.Condition{Absent: true}
	}
	return kv.Condition{OneOf: []int64{version}}
}

// TestBatchOfOneKey: operations on the same key see those before.
func TestBatchOfOneKey(t *testing.T) {
	s := open(t, options{})
	got, err := s.Batch(t.Context(), nil, []store.Change{
		getOf("k"),
		putOf("k", "1"),
		putOf("k", "2"),
		getOf("k"),
		{Operation: kv.OpRevert, Key: "k", Version: 1},
		{Operation: kv.OpDelete, Key: "k"},
		getOf("k"),
		putOf("k", "6"),
		{Operation: kv.OpDelete, Key: "k"},
		{Operation: kv.OpRevert, Key: "k"},
		{Operation: store.OpGet, Key: "k", If: atVersion(7)},
	})
	if err != nil {
		t.Fatal(err)
	}
	var values []string
	for i, r := range got.Results {
		switch {
		case r.Err != nil:
			values = append(values, r.Err.Error())
		case r.Entry.Version != 0:
			values = append(values, "read "+string(r.Entry.Value))
		default:
			w := r.Written
			values = append(values, string(w.Entry.Operation)+strconv.FormatInt(w.Entry.Version, 10)+" "+string(w.Entry.Value))
			if w.TotalVersions != w.Entry.Version || w.Entry.Revision != w.Entry.Version {
				t.Errorf("operation %d: %+v", i, w)
			}
		}
	}
	want := []string{
		"Key 'k' not found", "put1 1", "put2 2", "read 2", "revert3 1", "delete4 ", "Key 'k' was deleted at version 4",
		"put5 6", "delete6 ", "revert7 6", "read 6",
	}
	if diff := cmp.Diff(want, values); diff != "" {
		t.Error(diff)
	}
	if got.Revision != 7 {
		t.Errorf("revision %d, want 7", got.Revision)
	}
	if entry, source := get(t, s, "k"); entry.Version != 7 || source != store.FromCache {
		t.Errorf("the latest version is %d from the %s", entry.Version, source)
	}
}

// TestBatchFailsWhole: wherever a batch fails, nothing of it is written, the counters stay,
// and the error names the operation.
func TestBatchFailsWhole(t *testing.T) {
	url := databasetest.URL(t)
	db, faults := databasetest.OpenFaulty(t, url)
	s := over(t, db, options{maxKeys: 10, maxBytes: 1000})
	put(t, s, "k", "1")
	before, err := s.DatabaseStats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first := []store.Change{putOf("new", "1"), {Operation: kv.OpDelete, Key: "k"}, putOf("k", "3")}
	large := strings.Repeat("1", 1<<20+1)
	for name, test := range map[string]struct {
		requirements []store.Requirement
		last         store.Change
		want         error
		index        int // of the operation, or of the condition
		operation    bool
	}{
		"requirement":      {[]store.Requirement{{"k", atVersion(1)}, {"new", atVersion(2)}}, putOf("k", "4"), kv.ErrPreconditionFailed, 1, false},
		"absent":           {[]store.Requirement{{"k", atVersion(0)}}, putOf("k", "4"), kv.ErrPreconditionFailed, 0, false},
		"condition":        {nil, store.Change{Operation: kv.OpPut, Key: "k", If: atVersion(1)}, kv.ErrPreconditionFailed, 3, true},
		"condition of get": {nil, store.Change{Operation: store.OpGet, Key: "new", If: atVersion(0)}, kv.ErrPreconditionFailed, 3, true},
		"delete nothing":   {nil, store.Change{Operation: kv.OpDelete, Key: "none"}, kv.ErrKeyNotFound, 3, true},
		"revert nothing":   {nil, store.Change{Operation: kv.OpRevert, Key: "none", Version: 1}, kv.ErrKeyNotFound, 3, true},
		"revert to come":   {nil, store.Change{Operation: kv.OpRevert, Key: "new", Version: 2}, kv.ErrVersionNotFound, 3, true},
		"revert tombstone": {nil, store.Change{Operation: kv.OpRevert, Key: "k", Version: 2}, kv.ErrKeyDeleted, 3, true},
		"revert to what":   {nil, store.Change{Operation: kv.OpRevert, Key: "k"}, kv.ErrVersionRequired, 3, true},
		"key":              {nil, putOf("\x00", "1"), kv.ErrInvalidKey, 3, true},
		"value":            {nil, putOf("k", large), kv.ErrValueTooLarge, 3, true},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.Batch(t.Context(), test.requirements, append(slices.Clone(first), test.last))
			if !errors.Is(err, test.want) {
				t.Fatalf("got %v, want %v", err, test.want)
			}
			var operation *store.OperationError
			var precondition *kv.PreconditionError
			switch {
			case test.operation != errors.As(err, &operation), test.operation && operation.Index != test.index:
				t.Errorf("%v names operation %v", err, operation)
			case !test.operation && (!errors.As(err, &precondition) || precondition.Index != test.index):
				t.Errorf("%v names condition %v", err, precondition)
			}
		})
	}
	faults.FailCommits(1)
	if _, err := s.Batch(t.Context(), nil, first); !errors.Is(err, kv.ErrUnavailable) {
		t.Errorf("a commit that fails: %v", err)
	}
	if after, err := s.DatabaseStats(t.Context()); err != nil || after.Totals != before.Totals {
		t.Errorf("the counters are %+v, %v, were %+v", after.Totals, err, before.Totals)
	}
	if entry, source := get(t, s, "k"); entry.Version != 1 || source != store.FromCache {
		t.Errorf("k is at version %d from the %s", entry.Version, source)
	}
	if got, err := s.Batch(t.Context(), nil, first); err != nil || got.Revision != 4 {
		t.Errorf("the same batch alone: %+v, %v", got, err)
	}
}

func TestBatchReadsAtMost(t *testing.T) {
	s := open(t, options{})
	put(t, s, "k", strings.Repeat("1", 1<<20))
	for n, want := range map[int]error{8: nil, 9: kv.ErrBatchTooLarge} {
		for _, c := range []store.Change{getOf("k"), {Operation: kv.OpRevert, Key: "k", Version: 1}} {
			if _, err := s.Batch(t.Context(), nil, slices.Repeat([]store.Change{c}, n)); !errors.Is(err, want) {
				t.Errorf("%d times %s of 1 MiB: %v, want %v", n, c.Operation, err, want)
			}
		}
	}
}

// TestBatchesAgainstMap runs random batches against plain maps, with restarts.
func TestBatchesAgainstMap(t *testing.T) {
	url := databasetest.URL(t)
	model := &plain{versions: map[string][]kv.Entry{}}
	random := rand.New(rand.NewPCG(3, 4))
	made := 0
	for range 3 {
		db := databasetest.Open(t, url)
		s := over(t, db, options{maxKeys: 3, maxBytes: 200})
		for range 300 {
			requirements, changes := model.random(random)
			want, index, wantErr := model.apply(requirements, changes)
			got, err := s.Batch(t.Context(), requirements, changes)
			if !errors.Is(err, wantErr) || wantErr == nil && err != nil {
				t.Fatalf("%v, %v = %v, want %v", requirements, changes, err, wantErr)
			}
			if err != nil {
				if !strings.Contains(err.Error(), "["+strconv.Itoa(index)+"]") {
					t.Fatalf("%v, want it of %d", err, index)
				}
				continue
			}
			made++
			if diff := cmp.Diff(want, texts(got.Results)); diff != "" || got.Revision != model.revision {
				t.Fatalf("revision %d, want %d: %s", got.Revision, model.revision, diff)
			}
		}
		for key, versions := range model.versions {
			for _, want := range versions {
				entry, _, err := s.GetVersion(t.Context(), key, want.Version)
				if want.Operation.Tombstone() != errors.Is(err, kv.ErrKeyDeleted) || err == nil && describe(entry) != describe(want) {
					t.Fatalf("%s = %s, %v", describe(want), describe(entry), err)
				}
			}
		}
		if stats, err := s.DatabaseStats(t.Context()); err != nil || stats.Totals != model.totals() {
			t.Errorf("%+v, %v, want %+v", stats.Totals, err, model.totals())
		}
		s.Close()
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if made < 100 || made > 800 {
		t.Errorf("%d of 900 batches were made: too few failed or worked to say anything", made)
	}
}

func texts(results []store.Result) []string {
	all := make([]string, 0, len(results))
	for _, r := range results {
		switch {
		case errors.Is(r.Err, kv.ErrKeyDeleted):
			all = append(all, kv.ErrKeyDeleted.Error())
		case errors.Is(r.Err, kv.ErrKeyNotFound):
			all = append(all, kv.ErrKeyNotFound.Error())
		case r.Entry.Version != 0:
			all = append(all, describe(r.Entry))
		default:
			all = append(all, describe(r.Written.Entry))
		}
	}
	return all
}

// TestBatchesKeepSum moves amounts between keys, many at once, beside batches that
// fail after some of their operations. Every batch of gets must find the same sum,
// and retention must not disturb them.
func TestBatchesKeepSum(t *testing.T) {
	const accounts, clients, moves, amount = 5, 8, 25, 100
	s := open(t, options{maxKeys: 2, keep: 3})
	gets := make([]store.Change, accounts)
	for i := range gets {
		gets[i] = getOf("account" + strconv.Itoa(i))
		put(t, s, gets[i].Key, strconv.Itoa(amount))
	}
	balances := func() ([]store.Result, []int) {
		got, err := s.Batch(context.Background(), nil, gets)
		if err != nil {
			t.Error(err)
			return nil, nil
		}
		sum, values := 0, make([]int, accounts)
		highest := int64(0)
		for i, r := range got.Results {
			values[i], _ = strconv.Atoi(string(r.Entry.Value))
			sum += values[i]
			highest = max(highest, r.Entry.Revision)
		}
		if sum != accounts*amount || highest > got.Revision {
			t.Errorf("at revision %d (highest %d) the sum is %d, want %d", got.Revision, highest, sum, accounts*amount)
		}
		return got.Results, values
	}
	var wg sync.WaitGroup
	var lost atomic.Int64
	for range clients {
		wg.Go(func() {
			for done := 0; done < moves && !t.Failed(); {
				results, values := balances()
				from, to := rand.IntN(accounts), rand.IntN(accounts)
				if from == to || results == nil {
					continue
				}
				requirements := []store.Requirement{
					{gets[from].Key, atVersion(results[from].Entry.Version)}, {gets[to].Key, atVersion(results[to].Entry.Version)},
				}
				changes := []store.Change{
					putOf(gets[from].Key, strconv.Itoa(values[from]-1)), putOf(gets[to].Key, strconv.Itoa(values[to]+1)),
				}
				if rand.IntN(3) == 0 { // fails after one key was written
					bad := []store.Change{changes[0], {Operation: kv.OpDelete, Key: "none"}}
					if _, err := s.Batch(context.Background(), nil, bad); !errors.Is(err, kv.ErrKeyNotFound) {
						t.Errorf("the bad batch: %v", err)
					}
				}
				switch _, err := s.Batch(context.Background(), requirements, changes); {
				case err == nil:
					done++
				case errors.Is(err, kv.ErrPreconditionFailed):
					lost.Add(1)
				default:
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	balances()
	stats, err := s.DatabaseStats(t.Context())
	if want := int64(accounts + 2*clients*moves); err != nil || stats.Revision != want {
		t.Errorf("revision %d, %v, want %d: one for each write that was answered", stats.Revision, err, want)
	}
	t.Logf("%d batches came too late", lost.Load())
}

// TestBatchConditionNamesStoredVersion: the error of a condition that fails within a batch
// names the version in the store, not one that the batch would have made.
func TestBatchConditionNamesStoredVersion(t *testing.T) {
	s := open(t, options{})
	history(t, s, "k", 4, "1")
	putAt := func(key string, version int64) store.Change {
		c := putOf(key, "2")
		c.If = atVersion(version)
		return c
	}
	const meanwhile = ", and an earlier operation of this batch would have changed it"
	for _, c := range []struct {
		changes []store.Change
		want    kv.PreconditionError
		text    string
	}{
		{
			[]store.Change{putAt("k", 4), putAt("k", 4)},
			kv.PreconditionError{Index: -1, Key: "k", Current: 4, Meanwhile: true}, "Key 'k' is at version 4" + meanwhile,
		},
		{
			[]store.Change{putOf("new", "1"), putAt("new", 0)},
			kv.PreconditionError{Index: -1, Key: "new", Meanwhile: true}, "Key 'new' does not exist" + meanwhile,
		},
		{
			[]store.Change{{Operation: kv.OpDelete, Key: "k"}, putAt("k", 4)},
			kv.PreconditionError{Index: -1, Key: "k", Current: 4, Meanwhile: true}, "Key 'k' is at version 4" + meanwhile,
		},
		{
			[]store.Change{putOf("other", "1"), putAt("k", 3)},
			kv.PreconditionError{Index: -1, Key: "k", Current: 4}, "Key 'k' is at version 4",
		},
	} {
		_, err := s.Batch(t.Context(), nil, c.changes)
		var got *kv.PreconditionError
		if !errors.As(err, &got) || *got != c.want {
			t.Errorf("%+v: %v, want %+v", c.changes, err, c.want)
		}
		if want := "operations[1]: Precondition failed: " + c.text; err.Error() != want {
			t.Errorf("it says %q, want %q", err, want)
		}
	}
}
