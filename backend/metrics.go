package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kvstore/backend/database"
	"kvstore/backend/store"
	"kvstore/internal/telemetry"
)

// statsTimeout bounds how long a scrape waits for the database.
const statsTimeout = 2 * time.Second

// storeStatistics collects the metrics of a store and its database.
type storeStatistics struct {
	store    *store.Store
	database *database.DB
	logger   *slog.Logger
}

var (
	cacheHits      = telemetry.Describe("kv_cache_hits_total", "Reads that the cache answered.")
	cacheMisses    = telemetry.Describe("kv_cache_misses_total", "Reads that the cache could not answer.")
	cacheEvictions = telemetry.Describe("kv_cache_evictions_total",
		"Keys that were evicted from the cache to make room for others.")
	cacheKeys     = telemetry.Describe("kv_cache_keys", "Keys in the cache.")
	cacheMaxKeys  = telemetry.Describe("kv_cache_max_keys", "Maximum keys in the cache (KV_CACHE_MAX_KEYS).")
	cacheBytes    = telemetry.Describe("kv_cache_size_bytes", "Bytes of keys and values in the cache.")
	cacheMaxBytes = telemetry.Describe("kv_cache_max_size_bytes", "Maximum bytes in the cache (KV_CACHE_MAX_BYTES).")

	queueLength   = telemetry.Describe("kv_writer_queue_length", "Writes that were accepted but not answered yet.")
	queueCapacity = telemetry.Describe("kv_writer_queue_capacity",
		"Maximum of kv_writer_queue_length; more writes are refused (KV_MAX_QUEUED_WRITES).")
	queueBytes    = telemetry.Describe("kv_writer_queue_size_bytes", "Bytes of the values of the writes in the queue.")
	queueMaxBytes = telemetry.Describe("kv_writer_queue_max_size_bytes",
		"Maximum of kv_writer_queue_size_bytes; more writes are refused (KV_MAX_QUEUED_BYTES).")
	written = telemetry.Describe("kv_versions_written_total", "Versions written, by operation.", "operation")
	pruned  = telemetry.Describe("kv_retention_pruned_versions_total", "Versions that retention has deleted.")

	watchers      = telemetry.Describe("kv_watchers", "Open streams of /watch.")
	watchersMax   = telemetry.Describe("kv_watchers_max", "Maximum streams of /watch at once (KV_MAX_WATCHERS).")
	watcherEvents = telemetry.Describe("kv_watcher_events_total", "Events that were delivered to watchers.")
	watchersCut   = telemetry.Describe("kv_watchers_cut_total",
		"Watchers that were disconnected because they read too slowly.")

	databaseDamage = telemetry.Describe("kv_database_damage_total",
		"Damaged rows and pages that reads, writes and the start have found; they are not served.")
	databaseUp    = telemetry.Describe("kv_database_up", "1 if the database answered this scrape, otherwise 0.")
	databaseBytes = telemetry.Describe("kv_database_size_bytes",
		"Size of the database file, without its write-ahead log.")
	databaseLog = telemetry.Describe("kv_database_wal_size_bytes", "Size of the write-ahead log.")
	diskFree    = telemetry.Describe("kv_database_disk_free_bytes",
		"Free bytes of the file system with the database.")
	diskSize         = telemetry.Describe("kv_database_disk_size_bytes", "Size of the file system with the database.")
	databaseKeys     = telemetry.Describe("kv_database_keys", "Keys that exist.")
	databaseVersions = telemetry.Describe("kv_database_versions", "Versions of all keys that can be read.")
	databaseRevision = telemetry.Describe("kv_database_revision", "Revision of the last write.")

	sharedCommit = telemetry.Describe("kv_shared_commit",
		"Number of the last commit of the shared database that this backend has applied.")
	sharedRevision = telemetry.Describe("kv_shared_revision", "Revision up to which this backend knows the shared database.")
	sharedLag      = telemetry.Describe("kv_shared_lag_seconds",
		"For how long this backend has not made sure that it knows every commit.")
	sharedLease = telemetry.Describe("kv_shared_lease_held",
		"1 if this backend ends keys and applies retention for all backends, otherwise 0.")
	sharedQuestions = telemetry.Describe("kv_shared_index_queries_total", "Questions for the last commit, which reads share.")
	sharedWaiting   = telemetry.Describe("kv_shared_index_waiting_reads", "Reads that wait for the last commit.")
	sharedRewritten = telemetry.Describe("kv_shared_histories_rewritten_total",
		"How often the database had lost acknowledged commits; the cache was emptied and watches ended.")
	sharedConflicts = telemetry.Describe("kv_shared_conflicts_total",
		"Commits that were staged again, because another backend was first.")
	sharedRetries = telemetry.Describe("kv_shared_retries_total",
		"Transactions that the database server has refused or lost, and that were run again.")
	sharedAnswers = telemetry.Describe("kv_shared_lost_answers_total",
		"Commits whose answer did not arrive, by what was found out (result: made, not_made or unknown).", "result")
	sharedStandbys = telemetry.Describe("kv_database_synchronous_standbys",
		"Synchronous standbys that are connected to the database server; absent when replication is not synchronous.")
	staleReads = telemetry.Describe("kv_stale_reads_total", "Reads that max-age or min_revision let answer from what was known.")
	staleAge   = telemetry.Describe("kv_stale_reads_age_seconds_total", "Sum of the ages of what stale reads were answered from.")

	poolConnections = telemetry.Describe("kv_database_connections", "Open connections to the database server, by pool.", "pool")
	poolInUse       = telemetry.Describe("kv_database_connections_in_use", "Connections that are in use, by pool.", "pool")
	poolWaits       = telemetry.Describe("kv_database_connection_waits_total", "How often something waited for a connection, by pool.", "pool")
)

func (c storeStatistics) collect(send telemetry.Send) {
	const counter, gauge = prometheus.CounterValue, prometheus.GaugeValue
	stats := c.store.Stats()
	send(cacheHits, counter, float64(stats.Cache.Hits))
	send(cacheMisses, counter, float64(stats.Cache.Misses))
	send(cacheEvictions, counter, float64(stats.Cache.Evictions))
	send(cacheKeys, gauge, float64(stats.Cache.Keys))
	send(cacheMaxKeys, gauge, float64(stats.Cache.MaxKeys))
	send(cacheBytes, gauge, float64(stats.Cache.Bytes))
	send(cacheMaxBytes, gauge, float64(stats.Cache.MaxBytes))

	send(queueLength, gauge, float64(stats.QueuedWrites))
	send(queueCapacity, gauge, float64(stats.MaxQueuedWrites))
	send(queueBytes, gauge, float64(stats.QueuedBytes))
	send(queueMaxBytes, gauge, float64(stats.MaxQueuedBytes))
	for operation, n := range stats.Written {
		send(written, counter, float64(n), string(operation))
	}
	send(pruned, counter, float64(stats.Pruned))
	send(databaseDamage, counter, float64(stats.Damage))
	send(watchers, gauge, float64(stats.Watchers))
	send(watchersMax, gauge, float64(stats.MaxWatchers))
	send(watcherEvents, counter, float64(stats.Events))
	send(watchersCut, counter, float64(stats.Cut))

	if sharing, shared := c.store.Sharing(); shared {
		c.collectSharing(send, sharing)
		c.collectPools(send)
	}
	c.collectDatabase(func(desc *prometheus.Desc, value float64) { send(desc, gauge, value) })
}

func (c storeStatistics) collectSharing(send telemetry.Send, s store.Sharing) {
	const counter, gauge = prometheus.CounterValue, prometheus.GaugeValue
	held := 0.0
	if s.Leads {
		held = 1
	}
	send(sharedCommit, gauge, float64(s.Commit))
	send(sharedRevision, gauge, float64(s.Revision))
	send(sharedLag, gauge, s.Age.Seconds())
	send(sharedLease, gauge, held)
	send(sharedQuestions, counter, float64(s.Rounds))
	send(sharedWaiting, gauge, float64(s.Waiting))
	send(sharedRewritten, counter, float64(s.Rewritten))
	chain := c.database.Chain()
	send(sharedConflicts, counter, float64(chain.Conflicts))
	send(sharedRetries, counter, float64(chain.Retries))
	send(sharedAnswers, counter, float64(chain.Made), "made")
	send(sharedAnswers, counter, float64(chain.Lost), "not_made")
	send(sharedAnswers, counter, float64(chain.Unknown), "unknown")
	send(staleReads, counter, float64(s.Stale))
	send(staleAge, counter, s.StaleAge.Seconds())
}

func (c storeStatistics) collectPools(send telemetry.Send) {
	for pool, stats := range c.database.PoolStats() {
		send(poolConnections, prometheus.GaugeValue, float64(stats.OpenConnections), pool)
		send(poolInUse, prometheus.GaugeValue, float64(stats.InUse), pool)
		send(poolWaits, prometheus.CounterValue, float64(stats.WaitCount), pool)
	}
}

// collectDatabase omits the metrics that cannot be read.
func (c storeStatistics) collectDatabase(send func(*prometheus.Desc, float64)) {
	if free, size, known := c.database.DiskBytes(); known {
		send(diskFree, float64(free))
		send(diskSize, float64(size))
	}
	if log, err := c.database.LogBytes(); err == nil {
		send(databaseLog, float64(log))
	}
	ctx, cancel := context.WithTimeout(context.Background(), statsTimeout)
	defer cancel()
	stats, err := c.database.Stats(ctx)
	if err != nil {
		c.logger.Warn("cannot read the statistics of the database", "error", err)
		send(databaseUp, 0)
		return
	}
	if server, shared, err := c.store.Describe(ctx); shared && err == nil && server.Synchronous && server.StandbysKnown {
		send(sharedStandbys, float64(server.Standbys))
	}
	send(databaseUp, 1)
	send(databaseBytes, float64(stats.Bytes))
	send(databaseKeys, float64(stats.Keys))
	send(databaseVersions, float64(stats.Versions))
	send(databaseRevision, float64(stats.Revision))
}
