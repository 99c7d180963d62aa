package database_test

import (
	"strings"
	"testing"

	"kvstore/backend/database"
	"kvstore/backend/database/databasetest"
)

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
		if databasetest.Postgres() || strings.Contains(strings.Join(s.Plan, "\n"), index) {
			return
		}
	}
	t.Errorf("no statement uses %q: %v", index, statements)
}
