package database

import (
	"fmt"
	"strings"

	"gorm.io/gorm"
)

// statementRows are the numbers of rows that one statement takes. They are few, so
// that the driver finds each statement prepared, whatever the size of a batch.
var statementRows = [...]int{64, 16, 4, 1}

// An insert puts many rows into a table with few statements. GORM's Create would
// do the same; it takes three times as long to bring the rows into a statement, by
// reflection, and the statement's text is the same each time.
type insert struct {
	table      string
	columns    int
	statements map[int]string // by the number of rows, those of statementRows
}

func newInsert(table, columns, conflict string) *insert {
	i := &insert{table: table, columns: strings.Count(columns, ",") + 1, statements: map[int]string{}}
	row := "(" + strings.Repeat("?, ", i.columns-1) + "?)"
	for _, n := range statementRows {
		values := strings.Repeat(row+", ", n-1) + row
		i.statements[n] = fmt.Sprintf("INSERT INTO %s (%s) VALUES %s %s", table, columns, values, conflict)
	}
	return i
}

var (
	upsertKeys = newInsert("keys", keyColumns, moveHead+`, deleted = excluded.deleted,
		expires_at = excluded.expires_at, pruned = excluded.pruned`)
	// moveKeys is for keys that are stored and exist as they did. SQLite writes an index anew
	// when a statement sets one of its columns, to the same value or not: this one sets none.
	moveKeys = newInsert("keys", "id, key, version, revision, timestamp, total_versions, complete_from, checksum", moveHead)
	// pruneKeys is moveKeys for those that have lost versions too.
	pruneKeys = newInsert("keys", "id, key, version, revision, timestamp, total_versions, complete_from, pruned, checksum",
		moveHead+", pruned = excluded.pruned")
	appendVersions = newInsert("versions", `revision, key_id, version, timestamp, operation, content_type,
		author, expires_at, destroyed, checksums, value`, "")
)

const (
	keyColumns = "id, key, version, revision, timestamp, total_versions, deleted, expires_at, complete_from, pruned, checksum"
	moveHead   = `ON CONFLICT (id) DO UPDATE SET version = excluded.version, revision = excluded.revision,
		timestamp = excluded.timestamp, total_versions = excluded.total_versions,
		complete_from = excluded.complete_from, checksum = excluded.checksum`
)

// exec inserts the rows, in their order.
func (i *insert) exec(tx *gorm.DB, rows [][]any) error {
	for _, n := range statementRows {
		for ; len(rows) >= n; rows = rows[n:] {
			args := make([]any, 0, n*i.columns)
			for _, row := range rows[:n] {
				args = append(args, row...)
			}
			if err := tx.Exec(i.statements[n], args...).Error; err != nil {
				return fmt.Errorf("%d rows: %w", n, err)
			}
		}
	}
	return nil
}
