package api

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"kvstore/backend/kv"
)

// backupPiece is how much of a backup is sent with one deadline.
const backupPiece = 256 << 10

// backup sends a copy of the whole database.
//
//	@Summary		A backup of the whole store
//	@Description	A copy of the database as it was at one moment: every write that was answered before the request is in it, and each later
//	@Description	one whole or not at all. Writes go on meanwhile. It is made on a disk first, and then sent; one at a time. With SQLite that
//	@Description	is the disk of the database, which must have as much room again, and with PostgreSQL the directory for temporary files of
//	@Description	the backend (TMPDIR). `Content-Length` and `Repr-Digest` (RFC 9530) tell whether all of it has
//	@Description	arrived. `HEAD` makes no copy: its headers tell of the store as it is, without a length and a digest.
//	@Description	A client that takes none of it for 20 seconds, or less than 15 MiB in a minute, is cut off: its place is free for another.
//	@Description	Destroyed values are not in a backup made after they were destroyed; earlier backups have them still.
//	@Description	For the operator, at the address of the backend itself; the gateway does not forward it. `backend backup FILE` gets and verifies
//	@Description	one, and `backend restore FILE` puts it back.
//	@ID				getBackup
//	@Tags			operation
//	@Produce		application/vnd.sqlite3
//	@Success		200	{file}		binary				"The copy, an SQLite database"
//	@Header			200	{string}	Content-Disposition	"A name for the file, with the time and the revision"
//	@Header			200	{string}	Repr-Digest			"On a GET: the SHA-256 of the copy (RFC 9530)"
//	@Header			200	{string}	X-KV-Store			"The id of the store"
//	@Header			200	{integer}	X-KV-Revision		"The revision of the last write in it"
//	@Header			200	{integer}	X-KV-Keys			"How many keys exist in it, as total_keys of /db/stats"
//	@Header			200	{integer}	X-KV-Versions		"How many versions it has, as total_versions of /db/stats"
//	@Failure		503	{object}	problem.Problem		"Another backup is being made or sent (code backup_running)"
//	@Failure		507	{object}	problem.Problem		"The disk has no room for a copy; the detail has the numbers (code storage_full)"
//	@Router			/db/backup [get]
func (a *API) backup(c *gin.Context, _ query) error {
	if c.Request.Method == http.MethodHead {
		stats, err := a.Store.DatabaseStats(c.Request.Context())
		if err == nil {
			a.backupHead(c, stats.Totals)
			c.Writer.WriteHeaderNow()
		}
		return err
	}
	made, err := a.Store.Backup(c.Request.Context())
	if err != nil {
		return err
	}
	a.backupHead(c, made.Totals)
	c.Header("Content-Length", strconv.FormatInt(made.Bytes, 10))
	c.Header("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(made.SHA256[:])+":")
	if err := errors.Join(a.sendFile(c, made.File), made.Close()); err != nil {
		a.Logger.WarnContext(c.Request.Context(), "a backup was not sent to its end", "revision", made.Revision, "error", err)
	}
	return nil
}

func (a *API) backupHead(c *gin.Context, totals kv.Totals) {
	name := fmt.Sprintf("kv_store-%s-r%d.db", time.Now().UTC().Format("20060102T150405Z"), totals.Revision)
	c.Header("Content-Type", "application/vnd.sqlite3")
	c.Header("Content-Disposition", `attachment; filename="`+name+`"`)
	c.Header("Cache-Control", "no-store")
	c.Header("X-Content-Type-Options", "nosniff")
	c.Header("X-KV-Store", a.Store.ID())
	c.Header("X-KV-Revision", strconv.FormatInt(totals.Revision, 10))
	c.Header("X-KV-Keys", strconv.FormatInt(totals.Keys, 10))
	c.Header("X-KV-Versions", strconv.FormatInt(totals.Versions, 10))
}

// sendFile sends a file as long as the client takes some of it within every stall timeout
// and keeps the pace. There is one backup at a time, so a slow client would keep others
// from theirs.
func (a *API) sendFile(c *gin.Context, file io.Reader) error {
	control := http.NewResponseController(innermost(c.Writer))
	var end time.Time // of the window
	for left := int64(0); ; left -= backupPiece {
		now := time.Now()
		if left <= 0 {
			end, left = now.Add(a.BackupWindow), a.BackupBytes
		}
		deadline := now.Add(a.StallTimeout)
		if deadline.After(end) {
			deadline = end
		}
		_ = control.SetWriteDeadline(deadline) // a connection without deadlines has none to keep
		switch _, err := io.CopyN(c.Writer, file, backupPiece); {
		case errors.Is(err, io.EOF):
			// What net/http still buffers is small. The connection may serve another request.
			return control.SetWriteDeadline(time.Time{})
		case errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("the client is too slow: it must take some of it every %s, and %d bytes every %s: %w",
				a.StallTimeout, a.BackupBytes, a.BackupWindow, err)
		case err != nil:
			return err
		}
	}
}

type compactAnswer struct {
	// bytes that this call gave back to the disk, 1 MiB at most
	FreedBytes int64 `json:"freed_bytes" example:"1048576"`
	// bytes that further calls can give back
	FreeBytes int64 `json:"free_bytes" example:"0"`
	// size of the database file
	DatabaseSizeBytes int64 `json:"database_size_bytes" example:"40960"`
} //	@name	Compaction

// compact makes one step of compaction. The command "compact" calls it until nothing is
// free.
//
//	@Summary		Give free space back to the disk
//	@Description	Makes the database file smaller by up to 1 MiB of its free space. `free_bytes` says whether to call again.
//	@Description	For the operator, at the address of the backend itself; the gateway does not forward it.
//	@ID				compactDatabase
//	@Tags			operation
//	@Produce		json
//	@Success		200	{object}	compactAnswer
//	@Failure		501	{object}	problem.Problem	"The store is on PostgreSQL, which reuses free space by itself (code unsupported)"
//	@Router			/db/compact [post]
func (a *API) compact(c *gin.Context, _ query) error {
	done, err := a.Store.Compact(c.Request.Context())
	if err != nil {
		return err
	}
	return writeJSON(c, compactAnswer{FreedBytes: done.Freed, FreeBytes: done.Free, DatabaseSizeBytes: done.Bytes})
}
