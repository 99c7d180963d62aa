package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"kvstore/backend/database"
	"kvstore/backend/importer"
)

// importFile imports the predecessor's database. No service may have ours open.
func (c command) importFile(ctx context.Context, args []string) (err error) {
	db, err := database.Open(ctx, database.Config{URL: c.config.databaseURL, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var unsaid error
	sum, err := importer.Run(ctx, importer.Config{
		Source: args[0], Database: db, MaxValueBytes: c.config.maxValueBytes, DryRun: c.dryRun, Now: time.Now(),
		Logf: func(format string, args ...any) { unsaid = errors.Join(unsaid, c.say(format, args...)) },
	})
	if err != nil {
		return err
	}
	imported := "imported"
	if c.dryRun {
		imported = "would be imported (dry run)"
	}
	return errors.Join(unsaid, c.say("%d versions of %d keys %s; %d keys were imported before; skipped: %d keys, %d versions of others; %d times changed",
		sum.Versions, sum.Keys, imported, sum.AlreadyKeys, sum.SkippedKeys, sum.SkippedVersions, sum.Clamped))
}
