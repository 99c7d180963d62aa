// Package grown makes databases with many versions, with the backend's own package database: they are
// as if the backend had made the writes.
package grown

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"syscall"
	"time"

	"kvstore/backend/database"
	"kvstore/backend/database/sqlite"
	"kvstore/backend/kv"
	"kvstore/bench/generator"
)

// VersionsPerKey is the number of versions of each key.
const VersionsPerKey = 10

// batchKeys is the number of keys, with all their versions, in a transaction. It is large, to wait for
// the disk rarely.
const batchKeys = 1600

// Config describes a database to make.
type Config struct {
	Path string // of the database file, which does not exist yet
	// Load has the keys. Each gets VersionsPerKey versions with the value that
	// generator.Keys.Filled expects.
	Load generator.Load
	// Progress is called regularly with the number of versions so far.
	Progress func(versions int64)
	Logs     io.Writer // for problems
}

// Fill makes the database and closes it.
func Fill(ctx context.Context, cfg Config) (err error) {
	logger := slog.New(slog.NewTextHandler(cfg.Logs, &slog.HandlerOptions{Level: slog.LevelWarn}))
	db, err := sqlite.Open(ctx, sqlite.Config{URL: "sqlite:" + cfg.Path, Readers: 1, Logger: logger})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	batches := make(chan batch, 2)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // make the next batch while one is written
		defer close(batches)
		for first := 0; first < cfg.Load.Keys; first += batchKeys {
			made := makeBatch(cfg.Load, first, min(batchKeys, cfg.Load.Keys-first), kv.NewTimestamp(time.Now()))
			select {
			case batches <- made:
			case <-ctx.Done():
				return
			}
		}
	}()
	var versions int64
	for b := range batches {
		if err := b.write(ctx, db); err != nil {
			return fmt.Errorf("write versions after the first %d: %w", versions, err)
		}
		versions += int64(len(b.entries))
		if cfg.Progress != nil {
			cfg.Progress(versions)
		}
	}
	return ctx.Err()
}

// A batch is one transaction.
type batch struct {
	keys    []string
	entries []kv.Entry
}

func makeBatch(load generator.Load, first, keys int, now kv.Timestamp) batch {
	b := batch{keys: make([]string, 0, keys), entries: make([]kv.Entry, 0, keys*VersionsPerKey)}
	for number := first; number < first+keys; number++ {
		name := load.Key(number)
		value := generator.AppendValue(nil, name, uint64(number))
		b.keys = append(b.keys, name)
		for range VersionsPerKey {
			b.entries = append(b.entries, kv.Entry{Key: name, Value: value, Time: now, Operation: kv.OpPut})
		}
	}
	return b
}

func (b batch) write(ctx context.Context, db *database.DB) error {
	return db.Update(ctx, func(tx *database.Tx) error {
		if err := tx.Load(b.keys...); err != nil {
			return err
		}
		for _, e := range b.entries {
			tx.Append(e)
		}
		return nil
	})
}

// BytesPerVersion is a little more than the size of a version on disk, including its share of the key
// and of the indexes.
const BytesPerVersion = 200

// CheckDisk returns an error if the disk of dir has no room for that many versions and for the writes of
// the measurements.
func CheckDisk(dir string, versions int64) error {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(dir, &stat); err != nil {
		return fmt.Errorf("free space in %s: %w", dir, err)
	}
	const reserve = 1 << 30
	need, free := versions*BytesPerVersion+reserve, int64(stat.Bavail)*stat.Bsize
	if free < need {
		return fmt.Errorf("%s has %d MB free, but %d versions need %d MB: choose a larger disk with --dir, or smaller --sizes",
			dir, free>>20, versions, need>>20)
	}
	return nil
}
