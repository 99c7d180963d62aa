package importer

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"os"
	"strconv"
	"unicode/utf8"

	_ "github.com/mattn/go-sqlite3" // the driver

	"kvstore/backend/database/sqlite"
)

// source is the predecessor's database, read in one snapshot.
type source struct {
	db        *sql.DB
	tx        *sql.Tx
	valueByID *sql.Stmt
}

// A row is a version without its value.
type row struct {
	id        int64
	key       string
	keyIsText bool
	version   float64 // not always a whole number
	time      float64 // in seconds; NaN if it is not a number
}

// openSource opens the file read-only and checks that it has the right tables.
func openSource(ctx context.Context, path string) (*source, error) {
	mode, err := openMode(path)
	if err != nil {
		return nil, err
	}
	location := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: mode}
	db, err := sql.Open("sqlite3", location.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	s := &source{db: db}
	if s.tx, err = db.BeginTx(ctx, nil); err == nil {
		s.valueByID, err = s.tx.PrepareContext(ctx, `SELECT +value FROM "values" WHERE id = ?`)
	}
	if err == nil {
		_, err = s.tx.ExecContext(ctx, `SELECT key FROM keys LIMIT 1`)
	}
	if err == nil {
		_, err = s.tx.ExecContext(ctx, `SELECT key, version, timestamp FROM "values" LIMIT 1`)
	}
	if err != nil {
		defer s.close()
		return nil, s.refusal(ctx, err)
	}
	return s, nil
}

// refusal returns the error for a file that is not a source, with the cause err.
func (s *source) refusal(ctx context.Context, err error) error {
	if s.tx != nil {
		if ours := sqlite.RefuseDevelopment(ctx, s.tx); errors.Is(ours, sqlite.ErrDevelopment) {
			return ours
		}
	}
	return fmt.Errorf("not a database of the predecessor, or not readable: %w", err)
}

// openMode returns the options that open the file without changing it or creating
// other files next to it.
func openMode(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	const walVersion, offset = 2, 18
	header := make([]byte, 100)
	if _, err := io.ReadFull(file, header); err != nil {
		return "", errors.New("not an SQLite database")
	}
	if info, err := os.Stat(path + "-journal"); err == nil && info.Size() > 0 {
		return "", errors.New("a write was interrupted (there is a -journal file): open it once with its own program")
	}
	if header[offset] == walVersion {
		if info, err := os.Stat(path + "-wal"); err != nil || info.Size() == 0 {
			// There is no log to read. Without immutable, SQLite would create one.
			return "mode=ro&immutable=1", nil
		}
	}
	return "mode=ro", nil
}

func (s *source) close() {
	if s.valueByID != nil {
		_ = s.valueByID.Close()
	}
	if s.tx != nil {
		_ = s.tx.Rollback()
	}
	_ = s.db.Close() // nothing was written
}

// each calls scan for every row of a query.
func (s *source) each(ctx context.Context, query string, scan func(*sql.Rows) error) error {
	found, err := s.tx.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer func() { _ = found.Close() }() // found.Err reports the error
	for found.Next() {
		if err := scan(found); err != nil {
			return err
		}
	}
	return found.Err()
}

// rows calls fn with every version, in the order of keys and version numbers. Here and
// below, an expression such as +value keeps the driver from converting a column by its
// declared type.
func (s *source) rows(ctx context.Context, fn func(row)) error {
	const query = `SELECT id, CAST(key AS TEXT), typeof(key) = 'text',
			CASE WHEN typeof(version) IN ('integer', 'real') THEN version + 0.0 ELSE -1.0 END,
			CASE WHEN typeof(timestamp) IN ('integer', 'real') THEN timestamp + 0.0 END
		FROM "values" ORDER BY key, version, id`
	return s.each(ctx, query, func(found *sql.Rows) error {
		var r row
		var key sql.NullString
		var seconds sql.NullFloat64
		if err := found.Scan(&r.id, &key, &r.keyIsText, &r.version, &seconds); err != nil {
			return err
		}
		if r.key, r.time = key.String, seconds.Float64; !seconds.Valid {
			r.time = math.NaN()
		}
		fn(r)
		return nil
	})
}

// values calls fn with every value, or with the problem that it has.
func (s *source) values(ctx context.Context, fn func(id int64, value []byte, problem string)) error {
	return s.each(ctx, `SELECT id, +value FROM "values"`, func(found *sql.Rows) error {
		var id int64
		var stored any
		if err := found.Scan(&id, &stored); err != nil {
			return err
		}
		value, problem := jsonOf(stored)
		fn(id, value, problem)
		return nil
	})
}

// emptyKeys calls fn with every key that has no versions.
func (s *source) emptyKeys(ctx context.Context, fn func(string)) error {
	const query = `SELECT CAST(key AS TEXT) FROM keys
		WHERE key NOT IN (SELECT key FROM "values" WHERE key IS NOT NULL) ORDER BY key`
	return s.each(ctx, query, func(found *sql.Rows) error {
		var key sql.NullString
		if err := found.Scan(&key); err != nil {
			return err
		}
		fn(key.String)
		return nil
	})
}

// value returns the value of one row that values has reported without a problem.
func (s *source) value(ctx context.Context, id int64) ([]byte, error) {
	var stored any
	if err := s.valueByID.QueryRowContext(ctx, id).Scan(&stored); err != nil {
		return nil, fmt.Errorf("read row %d: %w", id, err)
	}
	value, problem := jsonOf(stored)
	if problem != "" {
		return nil, fmt.Errorf("row %d has changed: %s", id, problem)
	}
	return value, nil
}

// jsonOf returns a stored value as JSON text. SQLite stores a number as a number if the
// column is declared as JSON, and the predecessor's library may store None as NULL.
func jsonOf(stored any) (value []byte, problem string) {
	switch v := stored.(type) {
	case nil:
		return []byte("null"), ""
	case int64:
		return strconv.AppendInt(nil, v, 10), ""
	case float64:
		value, err := json.Marshal(v)
		if err != nil {
			return nil, "its value is not JSON: " + strconv.FormatFloat(v, 'g', -1, 64)
		}
		return value, ""
	case string:
		value = []byte(v)
	case []byte:
		value = v
	}
	if !json.Valid(value) || !utf8.Valid(value) {
		const shown = 40
		return nil, fmt.Sprintf("its value is not JSON: %q", value[:min(len(value), shown)])
	}
	return value, ""
}
