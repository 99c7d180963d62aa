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

	"kvstore/backend/database"
)

// source is the database of the predecessor, read as it is at one moment.
type source struct {
	db *sql.DB
	tx *sql.Tx
	// one reads a value by the id of its row.
	one *sql.Stmt
}

// A row is a version without its value.
type row struct {
	id        int64
	key       string
	keyIsText bool
	version   float64 // a number that may be none of ours
	time      float64 // in seconds, NaN when it is no number
}

// openSource opens the file read only and checks that it has the tables.
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
		s.one, err = s.tx.PrepareContext(ctx, `SELECT +value FROM "values" WHERE id = ?`)
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

// refusal says of a file that is no source what it is, as far as that is known.
func (s *source) refusal(ctx context.Context, err error) error {
	if s.tx != nil {
		if ours := database.RefuseDevelopment(ctx, s.tx); errors.Is(ours, database.ErrDevelopment) {
			return ours
		}
	}
	return fmt.Errorf("it is not a database of the predecessor, or cannot be read: %w", err)
}

// openMode returns the options that open the file without changing it or leaving
// anything beside it.
func openMode(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	const walVersion, offset = 2, 18
	header := make([]byte, 100)
	if _, err := io.ReadFull(file, header); err != nil {
		return "", errors.New("it is not an SQLite database")
	}
	if info, err := os.Stat(path + "-journal"); err == nil && info.Size() > 0 {
		return "", errors.New("a write of it was not finished (there is a -journal file): open it once with its own program")
	}
	if header[offset] == walVersion {
		if info, err := os.Stat(path + "-wal"); err != nil || info.Size() == 0 {
			// All is in the file. Read in the usual way it would get a log beside it.
			return "mode=ro&immutable=1", nil
		}
	}
	return "mode=ro", nil
}

func (s *source) close() {
	if s.one != nil {
		_ = s.one.Close()
	}
	if s.tx != nil {
		_ = s.tx.Rollback()
	}
	_ = s.db.Close() // it was only read
}

// rows calls fn with every version, in the order of keys and numbers. The unary plus
// keeps the driver from converting a column by its declared type.
func (s *source) rows(ctx context.Context, fn func(row) error) error {
	found, err := s.tx.QueryContext(ctx, `SELECT id, CAST(key AS TEXT), typeof(key) = 'text',
			CASE WHEN typeof(version) IN ('integer', 'real') THEN version + 0.0 ELSE -1.0 END,
			CASE WHEN typeof(timestamp) IN ('integer', 'real') THEN timestamp + 0.0 END
		FROM "values" ORDER BY key, version, id`)
	if err != nil {
		return err
	}
	defer func() { _ = found.Close() }() // found.Err has told of it
	for found.Next() {
		var r row
		var key sql.NullString
		var seconds sql.NullFloat64
		if err := found.Scan(&r.id, &key, &r.keyIsText, &r.version, &seconds); err != nil {
			return err
		}
		if r.key, r.time = key.String, seconds.Float64; !seconds.Valid {
			r.time = math.NaN()
		}
		if err := fn(r); err != nil {
			return err
		}
	}
	return found.Err()
}

// values calls fn with every value, or with what is wrong with it.
func (s *source) values(ctx context.Context, fn func(id int64, value []byte, problem string)) error {
	found, err := s.tx.QueryContext(ctx, `SELECT id, +value FROM "values"`)
	if err != nil {
		return err
	}
	defer func() { _ = found.Close() }() // found.Err has told of it
	for found.Next() {
		var id int64
		var stored any
		if err := found.Scan(&id, &stored); err != nil {
			return err
		}
		value, problem := jsonOf(stored)
		fn(id, value, problem)
	}
	return found.Err()
}

// value returns the value of one row, which values has found to be good.
func (s *source) value(ctx context.Context, id int64) ([]byte, error) {
	var stored any
	if err := s.one.QueryRowContext(ctx, id).Scan(&stored); err != nil {
		return nil, fmt.Errorf("read row %d: %w", id, err)
	}
	value, problem := jsonOf(stored)
	if problem != "" {
		return nil, fmt.Errorf("row %d has changed: %s", id, problem)
	}
	return value, nil
}

// jsonOf returns the JSON text of what is stored. SQLite keeps a number as a number
// where the column is declared as JSON, and NULL is how the predecessor's library may
// keep None.
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
		const most = 40
		shown := value
		if len(shown) > most {
			shown = shown[:most]
		}
		return nil, fmt.Sprintf("its value is not JSON: %q", shown)
	}
	return value, ""
}

// emptyKeys calls fn with every key that has no version.
func (s *source) emptyKeys(ctx context.Context, fn func(string)) error {
	found, err := s.tx.QueryContext(ctx, `SELECT CAST(key AS TEXT) FROM keys
		WHERE key NOT IN (SELECT key FROM "values" WHERE key IS NOT NULL) ORDER BY key`)
	if err != nil {
		return err
	}
	defer func() { _ = found.Close() }() // found.Err has told of it
	for found.Next() {
		var key sql.NullString
		if err := found.Scan(&key); err != nil {
			return err
		}
		fn(key.String)
	}
	return found.Err()
}
