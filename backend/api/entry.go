package api

import (
	"strings"

	"github.com/gin-gonic/gin"

	"kvstore/backend/kv"
	"kvstore/backend/store"
)

// putEntry writes the next version of a key.
//
//	@Summary		Write a key
//	@Description	Makes the value the next version of the key. It is on disk when the answer comes.
//	@Description	The value comes back as it went in: numbers keep every digit, members their order, text its characters.
//	@Description	The body is accepted as `application/json`, without a content type, and as the
//	@Description	`application/x-www-form-urlencoded` that a bare `curl -d` sends.
//	@Tags			entries
//	@Accept			json
//	@Produce		json
//	@Param			key		path		string		true	"The key: 1 to 512 bytes of UTF-8 after percent-decoding; slashes belong to it, control characters do not"	example(app/db/host)
//	@Param			body	body		putRequest	true	"The value: any JSON value, null included, up to 1 MiB (KV_MAX_VALUE_BYTES)"
//	@Success		200		{object}	putAnswer
//	@Header			200		{string}	X-Request-Id	"The id of the request, the same at every hop"
//	@Failure		400		{object}	problem.Problem	"The key is invalid, or the body is not JSON (code invalid_key, malformed_json)"
//	@Failure		413		{object}	problem.Problem	"The value is over the limit (code value_too_large)"
//	@Failure		415		{object}	problem.Problem	"The body is of another type than JSON (code unsupported_media_type)"
//	@Failure		422		{object}	problem.Problem	"The body has no member value (code missing_value)"
//	@Failure		503		{object}	problem.Problem	"The backend or the database cannot be reached (code backend_unavailable, store_unavailable)"
//	@Failure		504		{object}	problem.Problem	"The backend did not answer in time; whether the write was made is not known (code backend_timeout)"
//	@Failure		507		{object}	problem.Problem	"The disk is full; nothing was written (code storage_full)"
//	@Router			/put/{key} [put]
//	@Router			/put/{key} [post]
func (a *API) putEntry(c *gin.Context) error {
	key := keyOf(c)
	if err := kv.CheckKey(key); err != nil { // before the body: it may be large
		return err
	}
	value, err := readValue(c, a.store.MaxValueBytes())
	if err != nil {
		return err
	}
	written, err := a.store.Write(c.Request.Context(), store.Change{Operation: kv.OpPut, Key: key, Value: value})
	if err != nil {
		return err
	}
	return writeJSON(c, newPutAnswer(written))
}

// getEntry reads a version of a key, the latest unless one is named, by its number or a
// time.
//
//	@Summary		Read a key
//	@Description	Returns the latest version, the one that `version` names, or the one that was the latest `at` a time: the last
//	@Description	whose timestamp is not later. A time to come is like now. `source` says where the value really came from.
//	@Tags			entries
//	@Produce		json
//	@Param			key		path		string	true	"The key: 1 to 512 bytes of UTF-8 after percent-decoding; slashes belong to it"	example(app/db/host)
//	@Param			version	query		int		false	"The version to read: a positive integer"	minimum(1)	example(1)
//	@Param			at		query		string	false	"Read what was the latest version at this time: RFC 3339, or Unix seconds with a fraction; finer than a microsecond is cut off. Not together with version"	example(2025-11-24T16:00:00.123456Z)
//	@Success		200		{object}	entryAnswer
//	@Header			200		{string}	X-Request-Id	"The id of the request, the same at every hop"
//	@Failure		400		{object}	problem.Problem	"The key or the query is invalid (code invalid_key, malformed_query)"
//	@Failure		404		{object}	problem.Problem	"There is no such key or version, or it was deleted or had expired (code key_not_found, version_not_found, key_deleted)"
//	@Failure		410		{object}	problem.Problem	"The version was destroyed, or retention has removed it (code version_gone)"
//	@Failure		422		{object}	problem.Problem	"version is not a positive integer, or at is no time (code invalid_version, invalid_at)"
//	@Failure		503		{object}	problem.Problem	"The backend or the database cannot be reached (code backend_unavailable, store_unavailable)"
//	@Failure		504		{object}	problem.Problem	"The backend did not answer in time (code backend_timeout)"
//	@Router			/get/{key} [get]
//	@Router			/get/{key} [head]
func (a *API) getEntry(c *gin.Context) error {
	key := keyOf(c)
	q, err := queryOf(c)
	if err != nil {
		return err
	}
	entry, source, err := a.readEntry(c.Request.Context(), key, q)
	if err != nil {
		return err
	}
	return writeEntry(c, entry, source)
}

// keyOf returns what follows the verb in the decoded path.
func keyOf(c *gin.Context) string { return strings.TrimPrefix(c.Param("key"), "/") }
