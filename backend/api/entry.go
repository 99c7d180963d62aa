package api

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"

	"kvstore/backend/kv"
	"kvstore/backend/store"
	"kvstore/internal/problem"
)

// putRequest is the body of a write.
type putRequest struct { //nolint:unused // for the annotations
	// any JSON value, null included
	Value any `json:"value" binding:"required" swaggertype:"string" extensions:"x-any" example:"hello world"`
} //	@name	PutRequest

// putAnswer is the answer to a write of one key.
type putAnswer struct {
	Operation       string       `json:"operation" enums:"create,update,delete,revert,patch" example:"update"`
	Key             string       `json:"key" example:"app/db/host"`
	Version         int64        `json:"version" example:"2"`
	NewVersion      *int64       `json:"new_version" extensions:"x-nullable" example:"2"`
	PreviousVersion *int64       `json:"previous_version" extensions:"x-nullable" example:"1"`
	TotalVersions   int64        `json:"total_versions" example:"2"`
	Timestamp       kv.Timestamp `json:"timestamp" swaggertype:"number" example:"1764000000.123456"`
	Revision        int64        `json:"revision" example:"42"`
	// when the key ends; only with a ttl
	ExpiresAt kv.Timestamp `json:"expires_at,omitempty" swaggertype:"number" example:"1764000090.123456"`
	// only of a raw value: the type that it was written with
	ContentType string `json:"content_type,omitempty" example:"image/png"`
	// only of a raw value: its bytes
	Size *int `json:"size,omitempty" example:"13"`
} //	@name	PutAnswer

func newPutAnswer(w kv.Written) putAnswer {
	answer := putAnswer{
		Operation:     operationOf(w),
		Key:           w.Entry.Key,
		Version:       w.Entry.Version,
		TotalVersions: w.TotalVersions,
		Timestamp:     w.Entry.Time,
		Revision:      w.Entry.Revision,
		ExpiresAt:     w.Entry.Expires,
	}
	if w.Entry.ContentType != "" {
		size := len(w.Entry.Value)
		answer.ContentType, answer.Size = w.Entry.ContentType, &size
	}
	if !w.Created() {
		answer.NewVersion, answer.PreviousVersion = &w.Entry.Version, &w.Previous
	}
	return answer
}

// operationOf returns the name of a write in an answer: a put is a create or an update.
func operationOf(w kv.Written) string {
	switch {
	case w.Entry.Operation != kv.OpPut:
		return string(w.Entry.Operation)
	case w.Created():
		return "create"
	default:
		return "update"
	}
}

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
	change.Value, change.ContentType, err = readValue(c, a.Store.MaxValueBytes())
	if err != nil {
		return err
	}
	return a.write(c, change)
}

// write makes a change and answers with what was written.
func (a *API) write(c *gin.Context, change store.Change) error {
	written, err := a.Store.Write(c.Request.Context(), change)
	if err != nil {
		return err
	}
	return writeWritten(c, written)
}

// writeWritten answers 200 with what a write did and the entity tag of the version
// that it made. A tombstone has none, since no condition would accept it.
func writeWritten(c *gin.Context, w kv.Written) error {
	if !w.Entry.Operation.Tombstone() {
		setETag(c, w.Entry.Version)
	}
	return writeJSON(c, newPutAnswer(w))
}

// entryAnswer documents what writeEntry writes.
type entryAnswer struct { //nolint:unused // for the annotations
	Key string `json:"key" example:"app/db/host"`
	// the JSON value, as it was written, or the bytes of a raw value in base64
	Value any `json:"value" swaggertype:"string" extensions:"x-any" example:"hello world"`
	// only of a raw value
	Encoding string `json:"encoding,omitempty" enums:"base64" example:"base64"`
	// only of a raw value
	ContentType string       `json:"content_type,omitempty" example:"image/png"`
	Version     int64        `json:"version" example:"2"`
	Timestamp   kv.Timestamp `json:"timestamp" swaggertype:"number" example:"1764000000.123456"`
	Revision    int64        `json:"revision" example:"42"`
	// when the key ends; only when the version was written with a ttl
	ExpiresAt kv.Timestamp `json:"expires_at,omitempty" swaggertype:"number" example:"1764000090.123456"`
	Source    string       `json:"source" enums:"cache,database" example:"cache"`
} //	@name	Entry

// getEntry reads a version of a key: the latest, or the one that the query names.
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
//	@Param			version			query		int		false	"The version to read: a positive integer"																																															minimum(1)	example(1)
//	@Param			at				query		string	false	"Read what was the latest version at this time: RFC 3339, or Unix seconds with a fraction, from the year 0000 to 9999; finer than a microsecond is cut off, and a leap second is the second after it. Not together with version"	example(2025-11-24T16:00:00.123456Z)
//	@Param			raw				query		bool	false	"Answer with the value alone"																																																		default(false)
//	@Param			min_revision	query		int		false	"The answer knows every write up to this revision; one that the store has not reached is refused"																																		minimum(0)	example(42)
//	@Param			Cache-Control	header		string	false	"max-age=N: the answer may be N seconds old, and its header Age says how old it is"																																					example(max-age=5)
//	@Param			If-None-Match	header		string	false	"Answer 304 if the version is one of these entity tags"																																												example("3")
//	@Param			If-Match		header		string	false	"Answer 412 unless the version is one of these entity tags"																																											example("3")
//	@Param			Range			header		string	false	"With raw=true: which bytes of the value"																																															example(bytes=0-99)
//	@Success		200				{object}	entryAnswer
//	@Success		206				"The bytes of a raw value that Range names"
//	@Success		304				"The version is one that the client has"
//	@Header			200,206,304		{string}	ETag			"The version, in quotes; the same for the JSON and the raw answer"
//	@Header			200,206,304		{integer}	Age				"With max-age in Cache-Control: how many seconds old the answer may be"
//	@Header			200,206			{integer}	X-KV-Version	"With raw=true: the version"
//	@Header			200,206			{integer}	X-KV-Revision	"With raw=true: its revision"
//	@Header			200,206			{number}	X-KV-Expires-At	"With raw=true, when the version was written with a ttl: when the key ends, in Unix seconds"
//	@Failure		404				{object}	problem.Problem	"There is no such key or version, or it was deleted or had expired (code key_not_found, version_not_found, key_deleted)"
//	@Failure		410				{object}	problem.Problem	"The version was removed by retention, or destroyed (code version_gone)"
//	@Failure		412				{object}	problem.Problem	"If-Match does not name the version (code precondition_failed)"
//	@Failure		416				{object}	problem.Problem	"The range is malformed, or not within the raw value (code invalid_range)"
//	@Failure		422				{object}	problem.Problem	"version is not a positive integer, at is no time, raw no boolean, or min_revision beyond the store (code invalid_version, invalid_at, invalid_raw, invalid_min_revision)"
//	@Failure		504				{object}	problem.Problem	"The database did not tell in time whether it has min_revision (code revision_not_reached)"
//	@Router			/get/{key} [get]
func (a *API) getEntry(c *gin.Context, q query) error {
	raw, err := q.boolean("raw", false)
	if err != nil {
		return err
	}
	entry, source, err := a.readEntry(c.Request.Context(), keyOf(c), q)
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

// readEntry reads the version that the query names, by its number or by the time at
// which it was the latest, else the latest.
func (a *API) readEntry(ctx context.Context, key string, q query) (kv.Entry, store.Source, error) {
	version, err := q.positive("version")
	if err != nil {
		return kv.Entry{}, "", err
	}
	if !q.Has("at") {
		return a.readVersion(ctx, key, version)
	}
	at, err := q.time("at")
	if err == nil && version != 0 {
		err = invalid("at", "cannot be given together with version")
	}
	if err != nil {
		return kv.Entry{}, "", err
	}
	return a.Store.GetAt(ctx, key, at)
}

// readVersion reads a version of a key, the latest for 0.
func (a *API) readVersion(ctx context.Context, key string, version int64) (kv.Entry, store.Source, error) {
	if version == 0 {
		return a.Store.Get(ctx, key)
	}
	return a.Store.GetVersion(ctx, key, version)
}

// unmodified evaluates If-Match and If-None-Match of a read that found e. If the client
// has that version already, it answers 304 and returns true.
func unmodified(c *gin.Context, e kv.Entry) (bool, error) {
	header := c.Request.Header
	if len(header["If-None-Match"]) == 0 && len(header["If-Match"]) == 0 {
		return false, nil
	}
	condition, err := conditionOf(header)
	if err != nil {
		return false, err
	}
	match := kv.Condition{Exists: condition.Exists, OneOf: condition.OneOf}
	switch {
	case !match.Holds(e.Version): // evaluated before If-None-Match: RFC 9110, section 13.2.2
		return false, problem.New(http.StatusPreconditionFailed, "precondition_failed",
			fmt.Sprintf("If-Match: the version that was asked for of key '%s' is %d", e.Key, e.Version)).
			With("key", e.Key).With("version", e.Version)
	case !condition.Holds(e.Version):
		setETag(c, e.Version)
		c.Writer.Header()["Cache-Control"] = []string{"no-cache"}
		c.Writer.WriteHeader(http.StatusNotModified)
		return true, nil
	default:
		return false, nil
	}
}

// writeEntry answers 200 with an entry. It does not use an encoder, which would rewrite
// the value.
func writeEntry(c *gin.Context, e kv.Entry, source store.Source) error {
	length := len(e.Value)
	if e.ContentType != "" {
		length = base64.StdEncoding.EncodedLen(length) + 2*len(e.ContentType) + 50
	}
	b := make([]byte, 0, length+2*len(e.Key)+200)
	b = append(b, '{')
	b = appendEntry(b, e)
	b = append(b, `,"source":"`...)
	b = append(b, source...)
	b = append(b, "\"}\n"...)
	writeAnswer(c, jsonType, b, e.Version)
	return nil
}

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
	return a.write(c, change)
}

// revertEntry makes an old value the next version.
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
	return a.write(c, change)
}
