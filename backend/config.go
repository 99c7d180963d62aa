package main

import (
	"io"
	"math"
	"time"

	"kvstore/backend/database"
	"kvstore/internal/settings"
)

// config is the configuration of the backend. API answers name these settings, so
// a change of a name is a change of the API.
type config struct {
	addr          string
	databaseURL   string
	cacheMaxKeys  int
	cacheMaxBytes int64
	maxValueBytes int64
	maxVersions   int
	maxVersionAge time.Duration
	maxWatchers   int
	metricsAddr   string
	maxRequests   int
	maxWrites     int
	maxBytes      int64
	logLevel      string
	logFormat     string
	version       bool
}

const (
	maxCacheKeys  = 100_000_000
	maxCacheBytes = 1 << 40
	maxWatchers   = 1_000_000
	maxQueue      = 1_000_000 // requests, and writes among them
	maxQueueBytes = 1 << 40
)

const usage = `backend keeps every version of every key in SQLite and answers HTTP.

Usage:
  backend [flags]                 serve until SIGINT or SIGTERM
  backend backup FILE [flags]     write a consistent copy of the database and verify it; the service may run
  backend restore FILE [flags]    verify a copy and put it in the place of the database; the service must be stopped
  backend check [FILE] [flags]    read the whole database, or a backup, and check it; the service may run
  backend compact [flags]         give the free space of the database file back to the disk; the service may run
  backend import FILE [flags]     read the database of the Python predecessor; the service must be stopped
  backend healthcheck [flags]     exit with 0 when the server at --backend-addr can serve
  backend prepare --owner UID:GID make the directory of the database and give it to that user (needs root)`

func (c *config) define(set *settings.Set) {
	set.Address(&c.addr, "backend-addr", "127.0.0.1:8080")
	set.String(&c.databaseURL, "database-url", "url", "sqlite:data/kv_store.db", "the database, as sqlite:PATH", func(text string) error {
		_, err := database.ParseURL(text)
		return err
	})
	set.Int(&c.cacheMaxKeys, "cache-max-keys", "keys", 100, 1, maxCacheKeys, "most keys in the cache")
	set.Size(&c.cacheMaxBytes, "cache-max-bytes", "64MiB", 1, maxCacheBytes, "most bytes of keys and values in the cache")
	set.MaxValueBytes(&c.maxValueBytes)
	set.Int(&c.maxVersions, "max-versions", "versions", 0, 0, math.MaxInt32, "newest versions of each key that are kept; 0 keeps all")
	set.Duration(&c.maxVersionAge, "max-version-age", "0", 0, math.MaxInt64, "how long a version is kept, the latest always unless the key is deleted; 0 keeps all")
	set.Int(&c.maxWatchers, "max-watchers", "watchers", 10_000, 1, maxWatchers, "most streams of /watch at once")
	set.Metrics(&c.metricsAddr)
	set.Check(func() []error {
		return settings.Apart(settings.Address{Setting: "KV_BACKEND_ADDR", Text: c.addr}, settings.Address{Setting: "KV_METRICS_ADDR", Text: c.metricsAddr})
	})
	set.Int(&c.maxRequests, "max-requests", "requests", 8192, 1, maxQueue,
		"most requests under way at once, /watch not counted; more get 503")
	set.Int(&c.maxWrites, "max-queued-writes", "writes", 4096, 1, maxQueue, "most writes that wait for the disk; more get 503")
	set.Size(&c.maxBytes, "max-queued-bytes", "128MiB", 1, maxQueueBytes,
		"most bytes of values that wait for the disk, of large bodies on their way in, and of large answers on their way out, each; more get 503")
	set.Logging(&c.logLevel, &c.logFormat)
	set.Bool(&c.version, "version", "print the version and exit")
}

// parseConfig reads the settings and returns what stands beside the flags: a
// command and its arguments. A command may add settings of its own.
func parseConfig(args []string, getenv func(string) string, out io.Writer, more func(*settings.Set)) (config, []string, error) {
	var c config
	set := settings.New("backend", usage, out)
	c.define(set)
	more(set)
	rest, err := set.Parse(args, getenv)
	return c, rest, err
}
