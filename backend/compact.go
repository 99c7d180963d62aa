package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"kvstore/backend/database/sqlite"
	"kvstore/backend/kv"
)

const (
	// compactStepTimeout bounds one step by a running service.
	compactStepTimeout = time.Minute
	// compactReport is the number of bytes between two progress reports.
	compactReport = 64 << 20
)

// compact returns the free space of the database file to the disk. A running service owns
// the file, so it asks the service; otherwise it opens the file itself.
func (c command) compact(ctx context.Context, _ []string) error {
	db, err := sqlite.Open(ctx, sqlite.Config{URL: c.config.databaseURL, Logger: slog.New(slog.DiscardHandler)})
	switch {
	case errors.Is(err, sqlite.ErrInUse):
		if err := c.printf("asking the service at %s, which has the database open", c.config.addr); err != nil {
			return err
		}
		return c.compactBy(func() (kv.Compaction, error) { return c.askCompact(ctx) })
	case err != nil:
		return err
	}
	err = c.compactBy(func() (kv.Compaction, error) { return db.Compact(ctx) })
	return errors.Join(err, db.Close())
}

// compactBy calls step until nothing is free.
func (c command) compactBy(step func() (kv.Compaction, error)) error {
	var freed, reported int64
	for {
		done, err := step()
		switch {
		case errors.Is(err, context.Canceled):
			return fmt.Errorf("compact: interrupted after %d bytes were returned to the disk", freed)
		case err != nil:
			return fmt.Errorf("compact: after %d bytes were returned to the disk: %w", freed, err)
		}
		freed += done.Freed
		if done.Free == 0 || done.Freed == 0 {
			return c.printf("%d bytes were returned to the disk; the database has %d bytes", freed, done.Bytes)
		}
		if freed-reported >= compactReport {
			reported = freed
			if err := c.printf("%d bytes returned, %d left", freed, done.Free); err != nil {
				return err
			}
		}
	}
}

// askCompact asks the running service for one step.
func (c command) askCompact(ctx context.Context) (kv.Compaction, error) {
	ctx, cancel := context.WithTimeout(ctx, compactStepTimeout)
	defer cancel()
	request, err := c.serviceRequest(ctx, http.MethodPost, "/db/compact")
	if err != nil {
		return kv.Compaction{}, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return kv.Compaction{}, fmt.Errorf("the service at %s (KV_BACKEND_ADDR): %w", c.config.addr, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return kv.Compaction{}, refusal(response)
	}
	var answer struct {
		Freed int64 `json:"freed_bytes"`
		Free  int64 `json:"free_bytes"`
		Bytes int64 `json:"database_size_bytes"`
	}
	err = json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(&answer)
	return kv.Compaction{Freed: answer.Freed, Free: answer.Free, Bytes: answer.Bytes}, err
}
