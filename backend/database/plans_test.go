package database_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"kvstore/backend/database"
	"kvstore/backend/kv"
)

// write appends versions, in pieces of a few thousand, and numbers them; each keeps its
// time, or gets that of its revision.
func write(t testing.TB, db *database.DB, entries ...kv.Entry) {
	t.Helper()
	const piece = 4096
	for len(entries) > 0 {
		n := min(piece, len(entries))
		if err := db.Update(t.Context(), func(tx *database.Tx) error { return number(tx, entries[:n]) }); err != nil {
			t.Fatal(err)
		}
		entries = entries[n:]
	}
}

func number(tx *database.Tx, entries []kv.Entry) error {
	keys := make([]string, 0, len(entries))
	for _, e := range entries {
		keys = append(keys, e.Key)
	}
	if err := tx.Load(keys...); err != nil {
		return err
	}
	for i := range entries {
		e := &entries[i]
		if e.Time == 0 {
			e.Time = kv.Timestamp(tx.Totals.Revision + 1)
		}
		if e.Operation == "" {
			e.Operation = kv.OpPut
		}
		*e = tx.Append(*e).Entry
	}
	return nil
}

// wantPlans fails unless each statement of a read finds its rows by an index and takes
// them in its order.
func wantPlans(t *testing.T, statements []database.Statement) {
	t.Helper()
	for _, s := range statements {
		for _, step := range s.Plan {
			if strings.HasPrefix(step, "SCAN store") || strings.HasPrefix(step, "SCAN bounds") || strings.HasPrefix(step, "SCAN search") {
				continue // a table of one row, and the state of a recursion
			}
			if strings.HasPrefix(step, "SCAN") || strings.Contains(step, "B-TREE") || strings.Contains(step, "AUTOMATIC") {
				t.Errorf("%s\nhas the step %q of the plan\n\t%s", s.SQL, step, strings.Join(s.Plan, "\n\t"))
			}
		}
	}
}

// wantIndex fails unless some statement uses that index.
func wantIndex(t *testing.T, statements []database.Statement, index string) {
	t.Helper()
	for _, s := range statements {
		if strings.Contains(strings.Join(s.Plan, "\n"), index) {
			return
		}
	}
	t.Errorf("no statement uses %q: %v", index, statements)
}

// TestStatementsArePlannedOnce finds conditions that SQLite would plan anew whenever
// something is bound (see doc.go). Nothing that the driver tells shows that.
func TestStatementsArePlannedOnce(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	replanned := regexp.MustCompile(`\b(WHERE|AND|OR|ON) [a-z_.]+ (= \?|IN \?)`)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range replanned.FindAllString(string(source), -1) {
			t.Errorf("%s: %q must be in unlikely()", name, found)
		}
	}
}
