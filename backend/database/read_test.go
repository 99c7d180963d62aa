package database_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"kvstore/backend/database"
	"kvstore/backend/database/databasetest"
	"kvstore/backend/kv"
)

// TestAtAgainstScan asks keys of every small length, with equal times among their
// versions, with and without their oldest versions, at each time.
func TestAtAgainstScan(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	random := rand.New(rand.NewPCG(3, 4))
	for length := 1; length <= 40; length++ {
		key := strings.Repeat("k", length)
		times := make([]kv.Timestamp, length+1) // by version
		for version := 1; version <= length; version++ {
			times[version] = times[version-1] + kv.Timestamp(random.IntN(3))
			databasetest.Write(t, db, kv.Entry{Key: key, Value: []byte("1"), Time: max(1, times[version])})
			times[version] = max(1, times[version])
		}
		oldest := 1
		if random.IntN(2) == 0 {
			kept := 1 + random.IntN(length)
			if _, err := db.Prune(t.Context(), []string{key}, database.Retention{MaxVersions: int64(kept)}, length); err != nil {
				t.Fatal(err)
			}
			oldest = length - kept + 1
		}
		for at := kv.Timestamp(0); at <= times[length]+2; at++ {
			want := 0
			for version := oldest; version <= length; version++ {
				if times[version] <= at {
					want = version
				}
			}
			entry, err := db.At(t.Context(), key, at)
			switch {
			case want > 0:
				if err != nil || entry.Version != int64(want) || entry.Key != key || entry.Time != times[want] || string(entry.Value) != "1" {
					t.Fatalf("length %d from %d at %d: %+v, %v, want version %d", length, oldest, at, entry, err, want)
				}
			case oldest > 1 && !errors.Is(err, kv.ErrVersionGone), oldest == 1 && !errors.Is(err, kv.ErrVersionNotFound):
				t.Fatalf("length %d from %d at %d: %+v, %v", length, oldest, at, entry, err)
			}
		}
	}
	if _, err := db.At(t.Context(), "none", 1); !errors.Is(err, kv.ErrKeyNotFound) {
		t.Errorf("At of a missing key: %v, want ErrKeyNotFound", err)
	}
}

func TestAtPlan(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	databasetest.Write(t, db, versionsOf("k", manyVersions)...) // the time of each is its revision
	for _, at := range []kv.Timestamp{1, 2, 49_999, 50_000, manyVersions, manyVersions + 1} {
		statements := db.Statements(t, func() {
			entry, err := db.At(t.Context(), "k", at)
			if want := min(int64(at), manyVersions); err != nil || entry.Version != want {
				t.Errorf("At(%d) = %+v, %v", at, entry, err)
			}
		})
		if len(statements) != 1 {
			t.Errorf("%d statements, want 1", len(statements))
		}
		wantPlans(t, statements)
		wantIndex(t, statements, "SEARCH versions USING INDEX versions_key_version (key_id=? AND version=?)")
	}
}
