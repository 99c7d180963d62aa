package postgres_test

import (
	"strings"
	"testing"

	"kvstore/backend/database/postgres/postgrestest"
)

// TestPooler: a pooler that keeps sessions works. Any other is refused, before anything is made.
func TestPooler(t *testing.T) {
	for _, mode := range []string{"transaction", "statement"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel() // it takes as long as a notification is waited for
			source := postgrestest.Database(t)
			wantRefused(t, postgrestest.Pooler(t, source, mode), "pgbouncer", "pool_mode = session")
			if n := number(t, connect(t, source), "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"); n != 0 {
				t.Errorf("%d tables were made", n)
			}
		})
	}
	t.Run("session", func(t *testing.T) {
		source := postgrestest.Database(t)
		through := postgrestest.Pooler(t, source, "session")
		first, second := open(t, through), open(t, through)
		for n := int64(1); n <= 100; n += 2 {
			if e, err := put(t.Context(), first, "k"); err != nil || e.Version != n {
				t.Fatal(e, err)
			}
			if e, err := put(t.Context(), second, "k"); err != nil || e.Version != n+1 {
				t.Fatal(e, err)
			}
		}
		if e, err := first.Latest(t.Context(), "k"); err != nil || e.Version != 100 {
			t.Error(e, err)
		}
		wantChain(t, connect(t, source))
		wantRefused(t, strings.Replace(through, "?", "?search_path=public&", 1), "search_path") // no pgbouncer knows it
	})
}
