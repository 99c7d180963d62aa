package api

import (
	"github.com/gin-gonic/gin"

	"kvstore/backend/kv"
)

// deleteEntry writes a tombstone.
//
//	@Summary		Delete a key
//	@Description	Makes a tombstone the next version of the key: reading the key is 404 afterwards. The versions before stay in the
//	@Description	history and are read by `version`; `POST /revert/{key}` brings the last one back. `POST /destroy/{key}` erases.
//	@ID				deleteEntry
//	@Tags			entries
//	@Produce		json
//	@Param			If-Match		header		string	false	"Delete only if the latest version is one of these entity tags, or, for `*`, if the key exists"	example("3")
//	@Param			If-None-Match	header		string	false	"Delete only if the latest version is none of these entity tags"								example("3")
//	@Success		200				{object}	putAnswer
//	@Failure		404				{object}	problem.Problem	"There is no such key, or it is deleted (code key_not_found, key_deleted)"
//	@Router			/delete/{key} [delete]
func (a *API) deleteEntry(c *gin.Context, _ query) error {
	change, err := changeOf(c, kv.OpDelete)
	if err != nil {
		return err
	}
	written, err := a.store.Write(c.Request.Context(), change)
	if err != nil {
		return err
	}
	return writeJSON(c, newPutAnswer(written)) // a tombstone has no tag that a condition would accept
}

// revertEntry writes an old value anew.
//
//	@Summary		Go back to a version
//	@Description	Makes the value of an old version, with its content type, the next version of the key. The versions in between stay
//	@Description	in the history. Without `version` it brings a deleted or expired key back, with the last value that it had. The new
//	@Description	version does not expire.
//	@ID				revertEntry
//	@Tags			versions
//	@Produce		json
//	@Param			version			query		int		false	"The version to go back to: a positive integer; needed unless the key is deleted"					minimum(1)	example(1)
//	@Param			If-Match		header		string	false	"Write only if the latest version is one of these entity tags, or, for `*`, if the key exists"		example("3")
//	@Param			If-None-Match	header		string	false	"Write only if the key is deleted, for `*`, or if the latest version is none of these entity tags"	example(*)
//	@Success		200				{object}	putAnswer
//	@Header			200				{string}	ETag			"The version that was written, in quotes"
//	@Failure		404				{object}	problem.Problem	"There is no such key or version, or the version is a tombstone (code key_not_found, version_not_found, key_deleted)"
//	@Failure		410				{object}	problem.Problem	"The version was removed by retention, or destroyed (code version_gone)"
//	@Failure		422				{object}	problem.Problem	"version is not a positive integer, or is not given for a key that is not deleted (code invalid_version)"
//	@Router			/revert/{key} [post]
func (a *API) revertEntry(c *gin.Context, q query) error {
	change, err := changeOf(c, kv.OpRevert)
	if err != nil {
		return err
	}
	if change.Version, err = q.positive("version"); err != nil {
		return err
	}
	written, err := a.store.Write(c.Request.Context(), change)
	if err != nil {
		return err
	}
	return writeWritten(c, written)
}
