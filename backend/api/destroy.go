package api

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	"kvstore/backend/kv"
	"kvstore/backend/store"
)

// maxDestroyed is how many versions one request may destroy. One transaction erases them,
// and other writes wait for it.
const maxDestroyed = 1000

// destroyAnswer is the answer to destroying.
type destroyAnswer struct {
	Operation string `json:"operation" enums:"destroy" example:"destroy"`
	Key       string `json:"key" example:"app/db/host"`
	// the versions whose values are erased now; null when all are
	Versions []int64 `json:"versions" extensions:"x-nullable" example:"1,2"`
	// the key and its whole history are erased
	All bool `json:"all" example:"false"`
	// versions of the key that are still readable in history
	TotalVersions int64 `json:"total_versions" example:"1"`
	// "logical" on PostgreSQL: unreadable at once, and gone from the disk when the server says. Absent on SQLite,
	// where the bytes are gone from the disk too
	Erased string `json:"erased,omitempty" enums:"logical" example:"logical"`
} //	@name	DestroyAnswer

// destroyEntry erases values for good.
//
//	@Summary		Erase versions, or a key with its history
//	@Description	Erases the values of those versions for good, from the database file, its free pages and its write-ahead log too. The
//	@Description	numbers stay in the history, and reading them is 410. It makes no version. To destroy a version again is no error.
//	@Description	On PostgreSQL the answer has `"erased":"logical"`: nothing reads the values any more, but the server keeps the bytes
//	@Description	until VACUUM, and in its write-ahead log, standbys and backups for longer.
//	@Description	A key whose latest version is destroyed still exists, without a value that can be read.
//	@Description
//	@Description	With `all=true` the key and its whole history are erased; reading it is 404 afterwards. A key that is written under
//	@Description	that name later goes on counting, so that no version is used twice.
//	@ID				destroyEntry
//	@Tags			versions
//	@Produce		json
//	@Param			versions		query		string	false	"The versions to erase: 1 to 1000 positive integers, separated by commas; either this or all=true"		example(1,2)
//	@Param			all				query		bool	false	"Erase the key and its history"																			default(false)
//	@Param			If-Match		header		string	false	"Destroy only if the latest version is one of these entity tags, or, for `*`, if the key exists"		example("3")
//	@Param			If-None-Match	header		string	false	"Destroy only if the key is deleted, for `*`, or if the latest version is none of these entity tags"	example(*)
//	@Success		200				{object}	destroyAnswer
//	@Failure		404				{object}	problem.Problem	"There is no such key or version, or a version is a tombstone; nothing was erased (code key_not_found, version_not_found, key_deleted)"
//	@Failure		410				{object}	problem.Problem	"A version was removed by retention; nothing was erased (code version_gone)"
//	@Failure		422				{object}	problem.Problem	"versions is not a list of 1 to 1000 positive integers, or not exactly one of versions and all is given (code invalid_versions, invalid_all)"
//	@Failure		503				{object}	problem.Problem	"A backup that is being made still needs the bytes; repeat the request (code store_unavailable)"
//	@Router			/destroy/{key} [post]
func (a *API) destroyEntry(c *gin.Context, q query) error {
	change, err := changeOf(c, kv.OpDestroy)
	if err != nil {
		return err
	}
	all, err := q.boolean("all", false)
	if err != nil {
		return err
	}
	if all == q.Has("versions") {
		return invalid("versions", "either versions=1,2 or all=true must be given")
	}
	answer := destroyAnswer{Operation: string(kv.OpDestroy), Key: change.Key, All: all}
	var destroyed store.Destroyed
	if all {
		destroyed, err = a.Store.DestroyAll(c.Request.Context(), change.Key, change.Author, change.If)
	} else if answer.Versions, err = q.versions(); err == nil {
		destroyed, err = a.Store.Destroy(c.Request.Context(), change.Key, answer.Versions, change.If)
	}
	if err != nil {
		return err
	}
	answer.TotalVersions = destroyed.TotalVersions
	if !destroyed.Gone {
		answer.Erased = "logical"
	}
	return writeJSON(c, answer)
}

// versions returns the parameter versions, each version once, in the order given.
func (q query) versions() ([]int64, error) {
	elements := strings.SplitN(q.Text("versions"), ",", maxDestroyed+1)
	versions := make([]int64, 0, len(elements))
	seen := make(map[int64]bool, len(elements))
	for _, element := range elements {
		version, err := strconv.ParseInt(element, 10, 64)
		if err != nil || version < 1 || len(elements) > maxDestroyed {
			return nil, invalid("versions", fmt.Sprintf("must be 1 to %d positive integers, separated by commas", maxDestroyed))
		}
		if !seen[version] {
			seen[version] = true
			versions = append(versions, version)
		}
	}
	return versions, nil
}
