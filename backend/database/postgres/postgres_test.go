package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"kvstore/backend/database"
	"kvstore/backend/database/postgres"
	"kvstore/backend/database/postgres/postgrestest"
	"kvstore/backend/kv"
)

type tests struct{ *testing.M }

func (m tests) Run() int { return postgrestest.Run(m.M) }

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(tests{m}, goleak.Cleanup(os.Exit))
}

func open(t testing.TB, url string) *database.DB {
	t.Helper()
	db, err := postgres.Open(t.Context(), postgres.Config{URL: url, Backend: t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close the database: %v", err)
		}
	})
	return db
}

// put appends a version of a key, and calls before it returns what is to be done within the transaction.
func put(ctx context.Context, db *database.DB, key string, within ...func()) (written kv.Entry, err error) {
	err = db.Update(ctx, func(tx *database.Tx) error {
		if err := tx.Load(key); err != nil {
			return err
		}
		if _, err := tx.Head(key); err != nil {
			return err
		}
		written = tx.Append(kv.Entry{Key: key, Value: []byte("1"), Time: 7, Operation: kv.OpPut}).Entry
		for _, fn := range within {
			fn()
		}
		return nil
	})
	return written, err
}

func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.WithoutCancel(t.Context()), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // the server may have ended
	return conn
}

func exec(t testing.TB, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if _, err := conn.Exec(context.WithoutCancel(t.Context()), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

func number(t testing.TB, conn *pgx.Conn, query string) (n int64) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen within 30 s")
		}
	}
}

// wantChain fails unless the commits are a chain that fits the rows of versions.
func wantChain(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	for what, query := range map[string]string{
		"commits with a gap before them": `SELECT count(*) FROM commits c WHERE seq > 0 AND NOT EXISTS (
			SELECT 1 FROM commits WHERE seq = c.seq - 1 AND revision_after = c.revision_before AND clock <= c.clock)`,
		"revisions that are missing": "SELECT (SELECT max(revision_after) FROM commits) - (SELECT count(*) FROM versions)",
		"batches that stand twice":   "SELECT count(*) - count(DISTINCT batch) FROM commits",
	} {
		if n := number(t, conn, query); n != 0 {
			t.Errorf("%s: %d", what, n)
		}
	}
}

func TestTenAtOnce(t *testing.T) {
	url := postgrestest.Database(t)
	var starting sync.WaitGroup
	backends := make([]*database.DB, 10)
	failures := make([]error, len(backends))
	for i := range backends {
		starting.Go(func() {
			backends[i], failures[i] = postgres.Open(t.Context(), postgres.Config{URL: url, Readers: 1})
			if failures[i] == nil {
				_, failures[i] = put(t.Context(), backends[i], "k")
			}
		})
	}
	starting.Wait()
	for i, db := range backends {
		if failures[i] != nil {
			t.Errorf("backend %d: %v", i, failures[i])
			continue
		}
		if db.StoreID() != backends[0].StoreID() {
			t.Errorf("backend %d has the store %s, the first %s", i, db.StoreID(), backends[0].StoreID())
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
	if e, err := open(t, url).Latest(t.Context(), "k"); err != nil || e.Version != 10 || e.Revision != 10 {
		t.Errorf("%+v, %v", e, err)
	}
}

// TestThreeWriters: no revision and no version is missing or given out twice, and the counters are right.
func TestThreeWriters(t *testing.T) {
	const writers, each = 3, 200
	url := postgrestest.Database(t)
	var writing sync.WaitGroup
	var mu sync.Mutex
	revisions, versions := map[int64]bool{}, map[int64]bool{}
	for i := range writers {
		db := open(t, url)
		writing.Go(func() {
			for n := range each {
				shared, err := put(t.Context(), db, "shared")
				if err != nil {
					t.Error(err)
					return
				}
				own, err := put(t.Context(), db, fmt.Sprintf("own/%d/%d", i, n%3))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				revisions[shared.Revision], revisions[own.Revision], versions[shared.Version] = true, true, true
				mu.Unlock()
				if got, err := db.Latest(t.Context(), "shared"); err != nil || got.Version < shared.Version {
					t.Errorf("a read after version %d: %d, %v", shared.Version, got.Version, err)
				}
			}
		})
	}
	writing.Wait()
	if len(revisions) != 2*writers*each || len(versions) != writers*each {
		t.Errorf("%d revisions and %d versions of one key, want %d and %d", len(revisions), len(versions), 2*writers*each, writers*each)
	}
	db, conn := open(t, url), connect(t, url)
	wantChain(t, conn)
	stats, err := db.Stats(t.Context())
	want := kv.Totals{Revision: 2 * writers * each, Versions: 2 * writers * each, Keys: 1 + 3*writers}
	if err != nil || !cmp.Equal(stats.Totals, want) || stats.Bytes == 0 {
		t.Errorf("%+v, %v, want %+v", stats, err, want)
	}
}

// TestCommitRow: what the next reader of the chain needs.
func TestCommitRow(t *testing.T) {
	url := postgrestest.Database(t)
	db, conn := open(t, url), connect(t, url)
	for _, key := range []string{"a", "a", `b\x`} {
		if _, err := put(t.Context(), db, key); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Update(t.Context(), func(tx *database.Tx) error {
		if _, err := tx.Destroy("a", []int64{1}); err != nil {
			return err
		}
		_, err := tx.Destroy(`b\x`, []int64{1})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	losses := [][]byte{[]byte(`{"key":"a","versions":[1]}`), []byte(`{"key":"b\\x","versions":[1]}`)}
	var backend string
	var before, after, clock, versions, touched int64
	if err := conn.QueryRow(t.Context(), `SELECT backend, revision_before, revision_after, clock, total_versions, cardinality(touched)
		FROM commits WHERE seq = 4 AND touched @> $1`, losses).Scan(&backend, &before, &after, &clock, &versions, &touched); err != nil {
		t.Fatal(err)
	}
	if backend != t.Name() || before != 3 || after != 3 || clock != 7 || versions != 1 || touched != 2 {
		t.Error(backend, before, after, clock, versions, touched)
	}
	// A failed transaction leaves nothing, and the next has its number.
	cause := errors.New("a cause")
	if err := db.Update(t.Context(), func(tx *database.Tx) error { return cause }); !errors.Is(err, cause) {
		t.Error(err)
	}
	if n := number(t, conn, "SELECT max(seq) FROM commits"); n != 4 {
		t.Errorf("the last commit is %d", n)
	}
}

// TestStandstill: a backend that stops within a transaction is no longer waited for. It writes when it goes on.
func TestStandstill(t *testing.T) {
	for name, first := range map[string]func(*database.Tx) error{
		"staged": func(*database.Tx) error { return nil },
		"direct": func(tx *database.Tx) error { _, err := tx.Destroy("k", nil); return err },
	} {
		t.Run(name, func(t *testing.T) {
			url := postgrestest.Database(t)
			frozen, other := open(t, url), open(t, url)
			entered, thaw := make(chan struct{}), make(chan struct{})
			var once sync.Once
			var waiting sync.WaitGroup
			var stood kv.Entry
			waiting.Go(func() {
				err := frozen.Update(t.Context(), func(tx *database.Tx) error {
					if err := errors.Join(first(tx), tx.Load("k")); err != nil {
						return err
					}
					once.Do(func() { close(entered); <-thaw })
					stood = tx.Append(kv.Entry{Key: "k", Value: []byte("1"), Time: 7, Operation: kv.OpPut}).Entry
					return nil
				})
				if err != nil {
					t.Errorf("the backend that stood still: %v", err)
				}
			})
			<-entered
			if e, err := put(t.Context(), other, "k"); err != nil || e.Version != 1 {
				t.Errorf("beside it: %+v, %v", e, err)
			}
			close(thaw)
			waiting.Wait()
			if stood.Version != 2 || frozen.Chain().Retries == 0 {
				t.Errorf("the backend that stood still has written version %d; %+v", stood.Version, frozen.Chain())
			}
			wantChain(t, connect(t, url))
		})
	}
}

// TestReaders: as many reads run at once as was said, and the others wait.
func TestReaders(t *testing.T) {
	const readers = 3
	url := postgrestest.Database(t)
	db, err := postgres.Open(t.Context(), postgres.Config{URL: url, Readers: readers})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := put(t.Context(), db, "k"); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, url)
	exec(t, conn, "BEGIN", "LOCK TABLE keys")
	var reading sync.WaitGroup
	for range 10 * readers {
		reading.Go(func() {
			if _, err := db.Latest(t.Context(), "k"); err != nil {
				t.Error(err)
			}
		})
	}
	other := connect(t, url)
	waitFor(t, func() bool {
		return number(t, other, `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock'`) == readers
	})
	exec(t, conn, "ROLLBACK")
	reading.Wait()
	if n := number(t, other, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"); n > readers+6 {
		t.Errorf("there are %d connections", n) // the test's two, and those that do not read
	}
}

// TestDurability: what the role or the database says does not make success of what is not durable.
func TestDurability(t *testing.T) {
	url := postgrestest.Database(t)
	conn := connect(t, url)
	exec(t, conn, "ALTER DATABASE "+conn.Config().Database+" SET synchronous_commit = off",
		"ALTER DATABASE "+conn.Config().Database+" SET default_transaction_isolation = 'serializable'")
	db := open(t, url)
	want := map[string]string{
		"synchronous_commit": "on", "lock_timeout": "5s", "idle_in_transaction_session_timeout": "3s",
		"transaction_isolation": "read committed", "default_transaction_isolation": "read committed",
	}
	if diff := cmp.Diff(want, postgres.Settings(t, db, want)); diff != "" {
		t.Error(diff)
	}
}
