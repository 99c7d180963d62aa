package api

import (
	"math"

	"github.com/gin-gonic/gin"
)

type cacheStatsAnswer struct {
	// keys in the cache
	CurrentSize int `json:"current_size" example:"2"`
	// the most keys it may hold (KV_CACHE_MAX_KEYS)
	MaxSize int  `json:"max_size" example:"100"`
	IsFull  bool `json:"is_full" example:"false"`
	// reads of entries that the cache answered, since the start
	Hits   uint64 `json:"hits" example:"9"`
	Misses uint64 `json:"misses" example:"1"`
	// hits as a share of all reads, 0 before the first
	HitRatio float64 `json:"hit_ratio" example:"0.9"`
	// keys that had to leave for others
	Evictions uint64 `json:"evictions" example:"0"`
	// bytes of the keys and values in the cache
	Bytes int64 `json:"bytes" example:"1204"`
	// the most bytes it may hold (KV_CACHE_MAX_BYTES)
	MaxBytes int64 `json:"max_bytes" example:"67108864"`
} //	@name	CacheStats

// cacheStats describes the cache.
//
//	@Summary	Statistics of the cache
//	@ID			getCacheStats
//	@Tags		statistics
//	@Produce	json
//	@Success	200	{object}	cacheStatsAnswer
//	@Router		/cache/stats [get]
func (a *API) cacheStats(c *gin.Context, _ query) error {
	stats := a.Store.Stats().Cache
	return writeJSON(c, cacheStatsAnswer{
		CurrentSize: stats.Keys,
		MaxSize:     stats.MaxKeys,
		IsFull:      stats.Keys >= stats.MaxKeys,
		Hits:        stats.Hits,
		Misses:      stats.Misses,
		HitRatio:    ratio(stats.Hits, stats.Hits+stats.Misses),
		Evictions:   stats.Evictions,
		Bytes:       stats.Bytes,
		MaxBytes:    stats.MaxBytes,
	})
}

// ratio returns part of whole with four decimals.
func ratio(part, whole uint64) float64 {
	const decimals = 1e4
	if whole == 0 {
		return 0
	}
	return math.Round(float64(part)/float64(whole)*decimals) / decimals
}

type databaseStatsAnswer struct {
	TotalKeys int64 `json:"total_keys" example:"3"`
	// versions that can be read, over all keys
	TotalVersions int64 `json:"total_versions" example:"7"`
	// size of the database file
	DatabaseSizeBytes int64 `json:"database_size_bytes" example:"40960"`
	// revision of the last write
	Revision int64 `json:"revision" example:"7"`
} //	@name	DatabaseStats

// databaseStats describes the database.
//
//	@Summary		Statistics of the database
//	@Description	Takes the same time however large the store is.
//	@ID				getDatabaseStats
//	@Tags			statistics
//	@Produce		json
//	@Success		200	{object}	databaseStatsAnswer
//	@Router			/db/stats [get]
func (a *API) databaseStats(c *gin.Context, _ query) error {
	stats, err := a.Store.DatabaseStats(c.Request.Context())
	if err != nil {
		return err
	}
	return writeJSON(c, databaseStatsAnswer{
		TotalKeys:         stats.Keys,
		TotalVersions:     stats.Versions,
		DatabaseSizeBytes: stats.Bytes,
		Revision:          stats.Revision,
	})
}
