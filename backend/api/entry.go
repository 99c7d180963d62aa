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
//	@Description
//	@Description	A JSON body is an object with the member `value`, and is accepted as `application/json`, without a content type, and as
//	@Description	the `application/x-www-form-urlencoded` that a bare `curl -d` sends. The value comes back as it went in: numbers keep
//	@Description	every digit, members their order, text its characters.
//	@Description
//	@Description	A body of any other content type (`application/ld+json` and `multipart/form-data` too) is a raw value: its bytes
//	@Description	are kept as they are, and the content type as it was sent; `GET /get/{key}?raw=true` gives them back. A raw value
//	@Description	may be empty, and the answer has its `content_type` and `size`. `Content-Encoding` and `Content-Range` are refused, since
//	@Description	the value would be kept as something else.
//	@Description
//	@Description		With `ttl` the key counts as deleted after that time, unless another version is written before; an older version
//	@Description		does not come back. The answer has `expires_at` then.
//	@ID					putEntry
//	@Tags				entries
//	@Accept				json,octet-stream
//	@Produce			json
//	@Param				body			body		putRequest	true	"The value: any JSON value, null included, or a raw value, up to 1 MiB (KV_MAX_VALUE_BYTES)"
//	@Param				ttl				query		string		false	"How long the key exists: a Go duration from 1ms to 876000h"															example(90s)
//	@Param				If-Match		header		string		false	"Write only if the latest version is one of these entity tags, or, for `*`, if the key exists"							example("3")
//	@Param				If-None-Match	header		string		false	"Write only if the key does not exist or is deleted, for `*`, or if the latest version is none of these entity tags"	example(*)
//	@Success			200				{object}	putAnswer
//	@Header				200				{string}	ETag			"The version that was written, in quotes"
//	@Failure			400				{object}	problem.Problem	"The body is not JSON, or a part of a value (code malformed_json, partial_put)"
//	@Failure			413				{object}	problem.Problem	"The value is over the limit (code value_too_large)"
//	@Failure			415				{object}	problem.Problem	"The content type is not one (code unsupported_media_type)"
//	@Failure			422				{object}	problem.Problem	"The body has no member value, or two, or one that belongs elsewhere, or the ttl is not one (code missing_value, repeated_member, misplaced_member, invalid_ttl)"
//	@x-body-examples	{"application/json":{"value":{"host":"db1","port":5432}}}
//	@Router				/put/{key} [put]
//	@Router				/put/{key} [post]
func (a *API) putEntry(c *gin.Context, q query) error {
	change, err := changeOf(c, kv.OpPut) // before the body: it may be large
	if err != nil {
		return err
	}
	if change.TTL, err = q.ttl(); err != nil {
		return err
	}
	change.Value, change.ContentType, err = readSent(c, a.store.MaxValueBytes())
	if err != nil {
		return err
	}
	written, err := a.store.Write(c.Request.Context(), change)
	if err != nil {
		return err
	}
	return writeWritten(c, written)
}

// getEntry reads a version of a key, the latest unless one is named, by its number or a
// time.
//
//	@Summary		Read a key
//	@Description	Returns the latest version, the one that `version` names, or the one that was the latest `at` a time: the last
//	@Description	whose timestamp is not later. A time to come is like now. `source` says where the value really came from.
//	@Description	A raw value is in base64, and `encoding` and `content_type` say so.
//	@Description
//	@Description	With `raw=true` the answer is the value alone, with its content type; a JSON value is `application/json`. Such an answer
//	@Description	has the headers `X-KV-Version`, `X-KV-Revision` and, when the version was written with a ttl, `X-KV-Expires-At` (Unix
//	@Description	seconds). `Range` (of bytes, up to 32) and `If-Range` are understood, and a browser runs nothing of it
//	@Description	(`Content-Security-Policy: sandbox`).
//	@ID				getEntry
//	@Tags			entries
//	@Produce		json
//	@Param			version			query		int		false	"The version to read: a positive integer"																													minimum(1)	example(1)
//	@Param			at				query		string	false	"Read what was the latest version at this time: RFC 3339, or Unix seconds with a fraction, from the year 0000 to 9999; finer than a microsecond is cut off, and a leap second is the second after it. Not together with version"	example(2025-11-24T16:00:00.123456Z)
//	@Param			raw				query		bool	false	"Answer with the value alone"																																default(false)
//	@Param			If-None-Match	header		string	false	"Answer 304 if the version is one of these entity tags"																										example("3")
//	@Param			If-Match		header		string	false	"Answer 412 unless the version is one of these entity tags"																									example("3")
//	@Param			Range			header		string	false	"With raw=true: which bytes of the value"																													example(bytes=0-99)
//	@Success		200				{object}	entryAnswer
//	@Success		206				"The bytes of a raw value that Range names"
//	@Success		304				"The version is one that the client has"
//	@Header			200,206,304		{string}	ETag			"The version, in quotes; the same for the JSON and the raw answer"
//	@Header			200,206			{integer}	X-KV-Version	"With raw=true: the version"
//	@Header			200,206			{integer}	X-KV-Revision	"With raw=true: its revision"
//	@Header			200,206			{number}	X-KV-Expires-At	"With raw=true, when the version was written with a ttl: when the key ends, in Unix seconds"
//	@Failure		404				{object}	problem.Problem	"There is no such key or version, or it was deleted or had expired (code key_not_found, version_not_found, key_deleted)"
//	@Failure		410				{object}	problem.Problem	"The version was removed by retention, or destroyed (code version_gone)"
//	@Failure		412				{object}	problem.Problem	"If-Match does not name the version (code precondition_failed)"
//	@Failure		416				{object}	problem.Problem	"The range is malformed, or not within the raw value (code invalid_range)"
//	@Failure		422				{object}	problem.Problem	"version is not a positive integer, at is no time, or raw no boolean (code invalid_version, invalid_at, invalid_raw)"
//	@Router			/get/{key} [get]
func (a *API) getEntry(c *gin.Context, q query) error {
	key := keyOf(c)
	raw, err := q.boolean("raw")
	if err != nil {
		return err
	}
	entry, source, err := a.readEntry(c.Request.Context(), key, q)
	if err != nil {
		return err
	}
	if answered, err := unmodified(c, entry); answered || err != nil {
		return err
	}
	if raw {
		return writeRaw(c, entry)
	}
	return writeEntry(c, entry, source)
}

// changeOf begins the change that a write asks for, with its key and its conditions.
func changeOf(c *gin.Context, operation kv.Operation) (store.Change, error) {
	change := store.Change{Operation: operation, Key: keyOf(c)}
	err := kv.CheckKey(change.Key)
	if err != nil {
		return change, err
	}
	if change.Author, err = authorOf(c); err != nil {
		return change, err
	}
	change.If, err = conditionOf(c.Request.Header)
	return change, err
}

// keyOf returns what follows the verb in the decoded path.
func keyOf(c *gin.Context) string { return strings.TrimPrefix(c.Param("key"), "/") }
