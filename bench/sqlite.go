package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"kvstore/bench/generator"
)

const sqliteSchema = `CREATE TABLE IF NOT EXISTS entries (
	revision INTEGER PRIMARY KEY,
	key TEXT NOT NULL,
	version INTEGER NOT NULL,
	value BLOB NOT NULL,
	created INTEGER NOT NULL,
	UNIQUE (key, version)
)`

// sqliteDB has one connection for writes, and one per core for reads, like the backend.
type sqliteDB struct {
	writer, reader *sql.DB
	read           *sql.Stmt
	inserts        map[int]*sql.Stmt // by number of rows
	loads          map[string]*sqliteLoad
}

// sqliteLoad holds the keys of a load. It counts versions instead of looking them up.
type sqliteLoad struct {
	generator.Load
	names    []string
	versions []int64
	sequence uint64
}

func openSQLite(ctx context.Context, path string) (*sqliteDB, error) {
	const pragmas = "?_journal_mode=WAL&_synchronous=FULL&_busy_timeout=5000"
	d := &sqliteDB{loads: map[string]*sqliteLoad{}, inserts: map[int]*sql.Stmt{}}
	var err error
	if d.writer, err = sql.Open("sqlite3", "file:"+path+pragmas+"&_txlock=immediate"); err != nil {
		return nil, err
	}
	d.writer.SetMaxOpenConns(1)
	if _, err := d.writer.ExecContext(ctx, sqliteSchema); err != nil {
		return nil, err
	}
	if d.reader, err = sql.Open("sqlite3", "file:"+path+pragmas+"&_query_only=1"); err != nil {
		return nil, err
	}
	d.reader.SetMaxOpenConns(runtime.NumCPU())
	d.reader.SetMaxIdleConns(runtime.NumCPU())
	d.read, err = d.reader.PrepareContext(ctx,
		"SELECT version, value FROM entries WHERE key = ? ORDER BY version DESC LIMIT 1")
	return d, err
}

func (d *sqliteDB) close() {
	_ = d.read.Close()
	_ = d.reader.Close()
	_ = d.writer.Close()
}

func (d *sqliteDB) do(ctx context.Context, o order) (generator.Result, error) {
	load, err := d.load(o.Load)
	if err != nil {
		return generator.Result{}, err
	}
	switch {
	case o.Fill:
		next := 0
		return d.write(ctx, load, o.Connections, func() (int, bool) {
			next++
			return next - 1, next <= load.Keys
		})
	case load.PutShare == 1:
		end, pick := time.Now().Add(o.Duration), load.NewPicker(uint64(o.Connections))
		return d.write(ctx, load, o.Connections, func() (int, bool) {
			key, _ := pick()
			return key, time.Now().Before(end)
		})
	default:
		return d.readAll(ctx, load, min(o.Connections, runtime.NumCPU()), o.Duration)
	}
}

func (d *sqliteDB) load(name string) (*sqliteLoad, error) {
	if known := d.loads[name]; known != nil {
		return known, nil
	}
	for _, load := range generator.Loads {
		if load.Name == name {
			made := &sqliteLoad{Load: load, versions: make([]int64, load.Keys), sequence: uint64(load.Keys)}
			for i := range load.Keys {
				made.names = append(made.names, load.Key(i))
			}
			d.loads[name] = made
			return made, nil
		}
	}
	return nil, fmt.Errorf("no load %q", name)
}

// write writes in transactions of that many rows, each a multi-row insert, until next has no more
// keys. The last transaction may be smaller.
func (d *sqliteDB) write(ctx context.Context, load *sqliteLoad, rows int, next func() (int, bool)) (generator.Result, error) {
	var result generator.Result
	start := time.Now()
	for more := true; more; {
		var keys []int
		for len(keys) < rows && more {
			var key int
			if key, more = next(); more {
				keys = append(keys, key)
			}
		}
		if len(keys) == 0 {
			break
		}
		began := time.Now()
		if err := d.insert(ctx, load, keys); err != nil {
			return result, err
		}
		took := time.Since(began)
		for range keys {
			result.Latency.Add(took)
		}
		result.Requests += uint64(len(keys))
	}
	result.Elapsed = time.Since(start)
	return result, nil
}

// insert makes one transaction.
func (d *sqliteDB) insert(ctx context.Context, load *sqliteLoad, keys []int) error {
	statement, err := d.prepared(ctx, len(keys)) //nolint:sqlclosecheck // it is kept, and closed with the writer
	if err != nil {
		return err
	}
	now := time.Now().UnixMicro()
	args := make([]any, 0, 4*len(keys))
	for _, key := range keys {
		load.versions[key]++
		sequence := uint64(key)
		if load.versions[key] > 1 {
			load.sequence++
			sequence = load.sequence
		}
		args = append(args, load.names[key], load.versions[key], generator.AppendValue(nil, load.names[key], sequence), now)
	}
	done, err := statement.ExecContext(ctx, args...)
	if err != nil {
		return err
	}
	rows, err := done.RowsAffected()
	if err == nil && rows != int64(len(keys)) {
		err = fmt.Errorf("%d of %d rows were inserted", rows, len(keys))
	}
	return err
}

// prepared returns the statement that inserts that many rows.
func (d *sqliteDB) prepared(ctx context.Context, rows int) (*sql.Stmt, error) {
	if known := d.inserts[rows]; known != nil {
		return known, nil
	}
	text := "INSERT INTO entries (key, version, value, created) VALUES (?,?,?,?)" + strings.Repeat(",(?,?,?,?)", rows-1) //nolint:gosec // no input is part of it
	statement, err := d.writer.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	d.inserts[rows] = statement
	return statement, nil
}

// readAll reads with that many concurrent readers.
func (d *sqliteDB) readAll(ctx context.Context, load *sqliteLoad, readers int, duration time.Duration) (generator.Result, error) {
	results := make([]generator.Result, readers)
	errs := make([]error, readers)
	start := time.Now()
	var group sync.WaitGroup
	for i := range readers {
		group.Go(func() {
			errs[i] = d.readFor(ctx, load, load.NewPicker(uint64(i)), start.Add(duration), &results[i])
		})
	}
	group.Wait()
	var total generator.Result
	for i := range results {
		total.Merge(&results[i])
	}
	total.Elapsed = time.Since(start)
	return total, errors.Join(errs...)
}

func (d *sqliteDB) readFor(ctx context.Context, load *sqliteLoad, pick generator.Picker, end time.Time, result *generator.Result) error {
	for now := time.Now(); now.Before(end); {
		key, _ := pick()
		var version int64
		var value []byte
		if err := d.read.QueryRowContext(ctx, load.names[key]).Scan(&version, &value); err != nil {
			return err
		}
		after := time.Now()
		sequence, ok := generator.Sequence(value, load.names[key])
		if !ok || sequence != uint64(key) || version != load.versions[key] {
			result.Errors++
			result.Error = fmt.Sprintf("%s: version %d is %q", load.names[key], version, value)
		} else {
			result.Requests++
			result.Latency.Add(after.Sub(now))
		}
		now = after
	}
	return nil
}
