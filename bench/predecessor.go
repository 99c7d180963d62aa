package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"kvstore/bench/generator"
)

// fillPredecessor writes version 1 of every key into the database of the
// predecessor, which would itself take many minutes over 100,000 keys.
func fillPredecessor(ctx context.Context, path string, load generator.Load, keys *generator.Keys) error {
	db, err := sql.Open("sqlite3", "file:"+path+"?_txlock=immediate&_busy_timeout=5000")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after the commit it does nothing
	addKey, err := tx.PrepareContext(ctx, "INSERT INTO keys (key, created_at, updated_at) VALUES (?, ?, ?)")
	if err != nil {
		return err
	}
	addValue, err := tx.PrepareContext(ctx, `INSERT INTO "values" (key, value, version, timestamp) VALUES (?, ?, 1, ?)`)
	if err != nil {
		return errors.Join(err, addKey.Close())
	}
	defer func() { _, _ = addKey.Close(), addValue.Close() }()
	now := float64(time.Now().UnixMicro()) / 1e6
	for i := range load.Keys {
		name := load.Key(i)
		_, err := addKey.ExecContext(ctx, name, now, now)
		if err == nil {
			_, err = addValue.ExecContext(ctx, name, string(generator.AppendValue(nil, name, uint64(i))), now)
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	keys.Filled(1)
	return nil
}
