package api

import (
	"github.com/gin-gonic/gin"
)

type compactAnswer struct {
	// bytes that this call gave back to the disk, 1 MiB at most
	FreedBytes int64 `json:"freed_bytes" example:"1048576"`
	// bytes that further calls can give back
	FreeBytes int64 `json:"free_bytes" example:"0"`
	// size of the database file
	DatabaseSizeBytes int64 `json:"database_size_bytes" example:"40960"`
} //	@name	Compaction

// compact makes one step of compaction. It is for the operator, at the backend's own
// address: the command "compact" calls it until nothing is free.
//
//	@Summary		Give free space back to the disk
//	@Description	Makes the database file smaller by up to 1 MiB of its free space. `free_bytes` says whether to call again.
//	@Description	For the operator, at the address of the backend itself; the gateway does not forward it.
//	@ID				compactDatabase
//	@Tags			operation
//	@Produce		json
//	@Success		200	{object}	compactAnswer
//	@Failure		404	{object}	problem.Problem	"Asked through the gateway (code not_found)"
//	@Router			/db/compact [post]
func (a *API) compact(c *gin.Context, _ query) error {
	done, err := a.store.Compact(c.Request.Context())
	if err != nil {
		return err
	}
	return writeJSON(c, compactAnswer{FreedBytes: done.Freed, FreeBytes: done.Free, DatabaseSizeBytes: done.Bytes})
}
