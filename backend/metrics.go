package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kvstore/backend/store"
)

// statsTimeout bounds how long a scrape waits for the database.
const statsTimeout = 2 * time.Second

// storeCollector reads the store's statistics at each scrape; between scrapes it costs
// nothing.
type storeCollector struct {
	store  *store.Store
	logger *slog.Logger
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	cacheHits      = describe("kv_cache_hits_total", "Reads that the cache answered.")
	cacheMisses    = describe("kv_cache_misses_total", "Reads that the cache could not answer.")
	cacheEvictions = describe("kv_cache_evictions_total", "Keys that left the cache to make room for others.")
	cacheKeys      = describe("kv_cache_keys", "Keys in the cache.")
	cacheMaxKeys   = describe("kv_cache_max_keys", "Most keys in the cache (KV_CACHE_MAX_KEYS).")
	cacheBytes     = describe("kv_cache_size_bytes", "Bytes of keys and values in the cache.")
	cacheMaxBytes  = describe("kv_cache_max_size_bytes", "Most bytes in the cache (KV_CACHE_MAX_BYTES).")

	queueLength   = describe("kv_writer_queue_length", "Writes that wait for the writer.")
	queueCapacity = describe("kv_writer_queue_capacity", "Writes that may wait in the queue; more wait in front of it.")
	written       = describe("kv_versions_written_total", "Versions written, by operation.", "operation")
	pruned        = describe("kv_retention_pruned_versions_total", "Versions that retention has deleted.")

	watchers      = describe("kv_watchers", "Streams of /watch that are open.")
	watchersMax   = describe("kv_watchers_max", "Most streams of /watch at once (KV_MAX_WATCHERS).")
	watcherEvents = describe("kv_watcher_events_total", "Events that were delivered to watchers.")
	watchersCut   = describe("kv_watchers_cut_total", "Watchers that were cut since they read too slowly.")

	databaseUp       = describe("kv_database_up", "1 when the database answered this scrape, else 0.")
	databaseBytes    = describe("kv_database_size_bytes", "Size of the database file, without its write-ahead log.")
	databaseLog      = describe("kv_database_wal_size_bytes", "Size of the write-ahead log.")
	databaseKeys     = describe("kv_database_keys", "Keys that exist.")
	databaseVersions = describe("kv_database_versions", "Versions that can be read, over all keys.")
	databaseRevision = describe("kv_database_revision", "Revision of the last write.")
)

// Describe names no metric, which makes the registry check each scrape instead.
func (c *storeCollector) Describe(chan<- *prometheus.Desc) {}

// Collect reads the statistics.
func (c *storeCollector) Collect(to chan<- prometheus.Metric) {
	send := func(desc *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, kind, value, labels...)
	}
	const counter, gauge = prometheus.CounterValue, prometheus.GaugeValue
	cached := c.store.CacheStats()
	send(cacheHits, counter, float64(cached.Hits))
	send(cacheMisses, counter, float64(cached.Misses))
	send(cacheEvictions, counter, float64(cached.Evictions))
	send(cacheKeys, gauge, float64(cached.Keys))
	send(cacheMaxKeys, gauge, float64(cached.MaxKeys))
	send(cacheBytes, gauge, float64(cached.Bytes))
	send(cacheMaxBytes, gauge, float64(cached.MaxBytes))

	stats := c.store.Stats()
	send(queueLength, gauge, float64(stats.QueueLength))
	send(queueCapacity, gauge, float64(stats.QueueCapacity))
	for operation, n := range stats.Written {
		send(written, counter, float64(n), string(operation))
	}
	send(pruned, counter, float64(stats.Pruned))
	send(watchers, gauge, float64(stats.Watchers))
	send(watchersMax, gauge, float64(stats.MaxWatchers))
	send(watcherEvents, counter, float64(stats.Events))
	send(watchersCut, counter, float64(stats.Cut))

	c.collectDatabase(func(desc *prometheus.Desc, value float64) { send(desc, gauge, value) })
}

// collectDatabase leaves out what the database does not tell.
func (c *storeCollector) collectDatabase(send func(*prometheus.Desc, float64)) {
	ctx, cancel := context.WithTimeout(context.Background(), statsTimeout)
	defer cancel()
	stats, err := c.store.DatabaseStats(ctx)
	if err != nil {
		c.logger.Warn("the database does not tell its statistics", "error", err)
		send(databaseUp, 0)
		return
	}
	send(databaseUp, 1)
	send(databaseBytes, float64(stats.Bytes))
	send(databaseKeys, float64(stats.Keys))
	send(databaseVersions, float64(stats.Versions))
	send(databaseRevision, float64(stats.Revision))
	if log, err := c.store.LogBytes(); err == nil {
		send(databaseLog, float64(log))
	}
}
