package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"kvstore/backend/database"
	"kvstore/backend/kv"
)

// array is an array to the driver, which GORM does not take apart.
type array[T any] []T

// Value returns the array.
func (a array[T]) Value() (driver.Value, error) { return []T(a), nil }

const (
	commitColumns = `seq, batch, backend, revision_before, revision_after, clock, total_keys, total_versions,
		compacted, forgotten, restored, touched, checksum`
	// recordSQL notifies in the same statement, which saves a round trip.
	recordSQL = "WITH made AS (INSERT INTO commits (" + commitColumns + `)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING seq)
		SELECT ` + notifySQL + " FROM made"
	notifySQL = "pg_notify('" + channel + "', ?)"

	// appendSQL is a commit as one statement. Everything that it writes hangs on the row of the commit,
	// which is not written unless the commit before it is the one that was expected, and still the
	// last. What the statement sees may be older than the lock that it has waited for; the number of
	// the row, which is unique, is not.
	appendSQL = `WITH locked AS MATERIALIZED (` + lockSQL + `),
	made AS (
		INSERT INTO commits (` + commitColumns + `)
		SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM locked
		WHERE EXISTS (SELECT 1 FROM commits WHERE seq = ? AND batch = ?) AND ` + clockSQL + ` < ?
		ON CONFLICT DO NOTHING RETURNING seq
	),
	key_rows AS (
		INSERT INTO keys (id, key, version, revision, timestamp, total_versions, deleted, expires_at,
			complete_from, pruned, checksum)
		SELECT rows.* FROM made, unnest(CAST(? AS bigint[]), CAST(? AS bytea[]), CAST(? AS bigint[]),
			CAST(? AS bigint[]), CAST(? AS bigint[]), CAST(? AS bigint[]), CAST(? AS boolean[]),
			CAST(? AS bigint[]), CAST(? AS bigint[]), CAST(? AS bigint[]), CAST(? AS bigint[])) AS rows
		ON CONFLICT (id) DO UPDATE SET version = excluded.version, revision = excluded.revision,
			timestamp = excluded.timestamp, total_versions = excluded.total_versions,
			deleted = excluded.deleted, expires_at = excluded.expires_at,
			complete_from = excluded.complete_from, pruned = excluded.pruned, checksum = excluded.checksum
	),
	version_rows AS (
		INSERT INTO versions (revision, key_id, version, timestamp, operation, content_type, author,
			expires_at, destroyed, checksums, value)
		SELECT rows.* FROM made, unnest(CAST(? AS bigint[]), CAST(? AS bigint[]), CAST(? AS bigint[]),
			CAST(? AS bigint[]), CAST(? AS text[]), CAST(? AS text[]), CAST(? AS text[]),
			CAST(? AS bigint[]), CAST(? AS boolean[]), CAST(? AS bigint[]), CAST(? AS bytea[])) AS rows
	),
	removed AS (
		DELETE FROM versions USING made, unnest(CAST(? AS bigint[]), CAST(? AS bigint[])) AS rows (key_id, version)
		WHERE versions.key_id = rows.key_id AND versions.version = rows.version
	)
	SELECT ` + clockSQL + ", " + notifySQL + " FROM made"
)

// Append runs appendSQL. A context that ends does not end the statement: the driver would then report
// success of what is not known.
func (s *server) Append(
	tx *gorm.DB, last database.Mark, until kv.Timestamp, c database.Commit, r database.Rows,
) (mark database.Mark, now kv.Timestamp, err error) {
	args, err := s.begin(last, c)
	if err != nil {
		return s.next, 0, err
	}
	args = append(args, last.Seq, last.Batch[:], int64(until))
	args = append(append(append(args, keyArrays(r.Keys)...), versionArrays(r.Versions)...), idArrays(r.Removed)...)
	args = append(args, s.process)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tx.Statement.Context), transactionTimeout)
	defer cancel()
	commits := s.Writer.ConnPool.(*pool)
	commits.unreplicated.Store(false)
	rows, err := tx.WithContext(ctx).Raw(appendSQL, args...).Rows()
	if err != nil {
		if code := codeOf(err); refused(err) && code != lockNotAvailable && code != queryCanceled {
			err = fmt.Errorf("%w: %w", database.ErrAgain, err)
		}
		return s.next, 0, err
	}
	if now, err = scanTime(rows); err == nil {
		err = ctx.Err() // the rows may have been closed before the end of the commit
	}
	if err == nil {
		err = commits.replicated()
	}
	return s.next, now, err
}

// scanTime returns the row of appendSQL. An error of the commit comes after the row.
func scanTime(rows *sql.Rows) (now kv.Timestamp, err error) {
	err = database.ErrBehind
	if rows.Next() {
		err = rows.Scan(&now, new(any))
	}
	if failed := errors.Join(rows.Err(), rows.Close()); failed != nil {
		err = failed
	}
	return now, err
}

// begin returns the row of the commit after that one.
func (s *server) begin(last database.Mark, c database.Commit) ([]any, error) {
	s.next = database.Mark{Seq: last.Seq + 1, Batch: uuid.New()}
	touched := make(array[[]byte], 0, len(c.Losses))
	for _, loss := range c.Losses {
		text, err := json.Marshal(loss)
		if err != nil {
			return nil, err
		}
		touched = append(touched, text)
	}
	t := c.Totals
	return []any{
		s.next.Seq, s.next.Batch[:], s.backend, c.Before, t.Revision, int64(c.Clock),
		t.Keys, t.Versions, t.Compacted, t.Forgotten, t.Restored, touched, c.Checksum,
	}, nil
}

// column returns one member of each row.
func column[R, T any](rows []R, of func(*R) T) array[T] {
	values := make(array[T], len(rows))
	for i := range rows {
		values[i] = of(&rows[i])
	}
	return values
}

func keyArrays(keys []database.KeyState) []any {
	type row = *database.KeyState
	return []any{
		column(keys, func(k row) int64 { return k.ID }),
		column(keys, func(k row) []byte { return []byte(k.Key) }),
		column(keys, func(k row) int64 { return k.Version }),
		column(keys, func(k row) int64 { return k.Revision }),
		column(keys, func(k row) int64 { return int64(k.Time) }),
		column(keys, func(k row) int64 { return k.TotalVersions }),
		column(keys, func(k row) bool { return k.Deleted }),
		column(keys, func(k row) int64 { return int64(k.Expires) }),
		column(keys, func(k row) int64 { return k.CompleteFrom }),
		column(keys, func(k row) int64 { return k.Pruned }),
		column(keys, func(k row) int64 { return k.Checksum }),
	}
}

func versionArrays(versions []database.Version) []any {
	type row = *database.Version
	return []any{
		column(versions, func(v row) int64 { return v.Revision }),
		column(versions, func(v row) int64 { return v.KeyID }),
		column(versions, func(v row) int64 { return v.Version }),
		column(versions, func(v row) int64 { return int64(v.Time) }),
		column(versions, func(v row) string { return string(v.Operation) }),
		column(versions, func(v row) string { return v.ContentType }),
		column(versions, func(v row) string { return v.Author }),
		column(versions, func(v row) int64 { return int64(v.Expires) }),
		column(versions, func(v row) bool { return v.Destroyed }),
		column(versions, func(v row) int64 { return v.Checksums }),
		column(versions, func(v row) []byte { return v.Bytes() }),
	}
}

func idArrays(ids []database.VersionID) []any {
	type row = *database.VersionID
	return []any{
		column(ids, func(id row) int64 { return id.Key }),
		column(ids, func(id row) int64 { return id.Version }),
	}
}
