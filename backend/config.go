package main

import (
	"io"
	"math"
	"time"

	"kvstore/internal/settings"
)

// config is the configuration of the backend. API answers contain the names of these
// settings, so renaming one changes the API.
type config struct {
	addr                string
	databaseURL         string
	databaseConnections int
	cacheMaxKeys        int
	cacheMaxBytes       int64
	maxValueBytes       int64
	maxVersions         int
	maxVersionAge       time.Duration
	maxWatchers         int
	metricsAddr         string
	maxRequests         int
	maxWrites           int
	maxBytes            int64
	logLevel            string
	logFormat           string
	version             bool
}

const (
	maxConnections = 1000
	maxCacheKeys   = 100_000_000
	maxCacheBytes  = 1 << 40
	maxWatchers    = 1_000_000
	maxQueue       = 1_000_000 // of requests, and of writes
	maxQueueBytes  = 1 << 40
)

const usage = `backend stores every version of every key in SQLite or on PostgreSQL and answers HTTP.

Usage:
  backend [flags]                 serve until SIGINT or SIGTERM
  backend backup FILE [flags]     write a consistent copy of the database and verify it; the service may run
  backend restore FILE [flags]    verify a backup and replace the database with it, or fill an empty one on PostgreSQL;
                                  the service must be stopped
  backend move URL [flags]        copy the database to an empty one, as postgres://USER:PASSWORD@HOST/DATABASE or
                                  sqlite:PATH, and compare every row; the service must be stopped
  backend check [FILE] [flags]    read and check the whole database, or a backup; the service may run
  backend compact [flags]         return the free space of the database file to the disk; the service may run
  backend import FILE [flags]     import the database of the Python predecessor; the service must be stopped
  backend healthcheck [flags]     exit with 0 if the server at --backend-addr is ready
  backend prepare --owner UID:GID create the directory of the database and change its owner (needs root)

The commands compact, import and prepare are for SQLite.`

func (c *config) define(set *settings.Set) {
	set.Address(&c.addr, "backend-addr", "127.0.0.1:8080")
	set.Secret(&c.databaseURL, "database-url", "url", "sqlite:data/kv_store.db",
		"the database: a file of SQLite, as sqlite:PATH, or a PostgreSQL server (14 or later), as "+
			"postgres://USER:PASSWORD@HOST/DATABASE", checkDatabaseURL)
	set.Int(&c.databaseConnections, "database-connections", "connections", 8, 1, maxConnections,
		"connections to a PostgreSQL server that read, beside four others; not used with SQLite")
	set.Int(&c.cacheMaxKeys, "cache-max-keys", "keys", 100, 1, maxCacheKeys, "maximum keys in the cache")
	set.Size(&c.cacheMaxBytes, "cache-max-bytes", "64MiB", 1, maxCacheBytes,
		"maximum bytes of keys and values in the cache")
	set.MaxValueBytes(&c.maxValueBytes)
	set.Int(&c.maxVersions, "max-versions", "versions", 0, 0, math.MaxInt32,
		"how many versions of each key to keep, the newest ones; 0 keeps all")
	set.Duration(&c.maxVersionAge, "max-version-age", "0", 0, math.MaxInt64,
		"how long to keep a version; the latest is always kept, unless the key is deleted; 0 keeps all")
	set.Int(&c.maxWatchers, "max-watchers", "watchers", 10_000, 1, maxWatchers, "maximum streams of /watch at once")
	set.Metrics(&c.metricsAddr)
	set.Check(func() []error {
		return settings.Apart(
			settings.Address{Setting: "KV_BACKEND_ADDR", Text: c.addr},
			settings.Address{Setting: "KV_METRICS_ADDR", Text: c.metricsAddr})
	})
	set.Int(&c.maxRequests, "max-requests", "requests", 8192, 1, maxQueue,
		"maximum requests at once, not counting /watch; more get 503")
	set.Int(&c.maxWrites, "max-queued-writes", "writes", 4096, 1, maxQueue,
		"maximum writes that wait for the disk; more get 503")
	set.Size(&c.maxBytes, "max-queued-bytes", "128MiB", 1, maxQueueBytes,
		"maximum bytes of values that wait for the disk, of large bodies being received, and of large answers being sent, "+
			"each; more get 503")
	set.Logging(&c.logLevel, &c.logFormat)
	set.Bool(&c.version, "version", "print the version and exit")
}

// parseConfig reads the settings and returns the remaining arguments: a command and its
// arguments. more adds the settings of commands.
func parseConfig(
	args []string, getenv func(string) string, out io.Writer, more func(*settings.Set),
) (config, []string, error) {
	var c config
	set := settings.New("backend", usage, out)
	c.define(set)
	more(set)
	rest, err := set.Parse(args, getenv)
	return c, rest, err
}
