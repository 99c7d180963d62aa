package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"kvstore/backend/database"
	"kvstore/backend/kv"
)

const (
	// compactStepTimeout bounds one step of a running service.
	compactStepTimeout = time.Minute
	// compactReport is how many bytes are given back between two lines of progress.
	compactReport = 64 << 20
	compactPages  = 256
)

// compact gives the free space of the database file back to the disk: through the
// running service, which owns the file, or by itself when the service is stopped.
func (c command) compact(ctx context.Context, _ []string) error {
	db, err := database.Open(ctx, database.Config{URL: c.config.databaseURL, Logger: slog.New(slog.DiscardHandler)})
	switch {
	case errors.Is(err, database.ErrInUse):
		if err := c.say("the service has the database open: it is asked at %s", c.config.addr); err != nil {
			return err
		}
		return c.compactBy(func() (kv.Compaction, error) { return c.askCompact(ctx) })
	case err != nil:
		return err
	}
	err = c.compactBy(func() (kv.Compaction, error) { return db.Compact(ctx, compactPages) })
	return errors.Join(err, db.Close())
}

// compactBy makes steps until nothing is free.
func (c command) compactBy(step func() (kv.Compaction, error)) error {
	var freed, reported int64
	for {
		done, err := step()
		switch {
		case errors.Is(err, context.Canceled):
			return fmt.Errorf("compact: interrupted; %d bytes were given back", freed)
		case err != nil:
			return fmt.Errorf("compact: %d bytes were given back, then: %w", freed, err)
		}
		freed += done.Freed
		if done.Free == 0 || done.Freed == 0 {
			return c.say("%d bytes were given back to the disk; the database has %d bytes", freed, done.Bytes)
		}
		if freed-reported >= compactReport {
			reported = freed
			if err := c.say("%d bytes given back, %d to go", freed, done.Free); err != nil {
				return err
			}
		}
	}
}

// askCompact has the running service make one step.
func (c command) askCompact(ctx context.Context) (kv.Compaction, error) {
	ctx, cancel := context.WithTimeout(ctx, compactStepTimeout)
	defer cancel()
	address, err := dialable(c.config.addr)
	if err != nil {
		return kv.Compaction{}, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/db/compact", http.NoBody)
	if err != nil {
		return kv.Compaction{}, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return kv.Compaction{}, fmt.Errorf("the service at %s (KV_BACKEND_ADDR): %w", c.config.addr, err)
	}
	defer response.Body.Close()
	var answer struct {
		Freed  int64  `json:"freed_bytes"`
		Free   int64  `json:"free_bytes"`
		Bytes  int64  `json:"database_size_bytes"`
		Detail string `json:"detail"` // of a problem
	}
	const most = 64 << 10
	err = json.NewDecoder(io.LimitReader(response.Body, most)).Decode(&answer)
	if response.StatusCode != http.StatusOK {
		return kv.Compaction{}, fmt.Errorf("%s answers %s: %s", request.URL, response.Status, answer.Detail)
	}
	return kv.Compaction{Freed: answer.Freed, Free: answer.Free, Bytes: answer.Bytes}, err
}

// dialable is the address at which a server that listens on address is reached from
// the same machine.
func dialable(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port), nil
}
