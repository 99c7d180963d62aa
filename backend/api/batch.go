package api

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"kvstore/backend/kv"
	"kvstore/backend/store"
	"kvstore/internal/problem"
	"kvstore/internal/settings"
)

// batchAnswer documents what batch writes.
type batchAnswer struct { //nolint:unused // for the annotations
	// of the store after the batch
	Revision int64 `json:"revision" example:"42"`
	// one for each operation, in their order
	Results []batchResult `json:"results"`
} //	@name	BatchAnswer

// batchResult has the members of the answer to a put, or of that to a get.
type batchResult struct { //nolint:unused // for the annotations
	Op string `json:"op" enums:"put,delete,get,revert" example:"get"`
	// get: false when there is nothing to read
	Found bool   `json:"found,omitempty" example:"true"`
	Key   string `json:"key" example:"app/db/host"`
	// get: the JSON value as it was written, or base64
	Value any `json:"value,omitempty" swaggertype:"string" extensions:"x-any" example:"hello world"`
	// get: base64 when the value is bytes
	Encoding string `json:"encoding,omitempty" enums:"base64"`
	// of bytes, read or written: their type
	ContentType string `json:"content_type,omitempty" example:"image/png"`
	// a write of bytes: how many
	Size      *int         `json:"size,omitempty" example:"13"`
	Version   int64        `json:"version,omitempty" example:"2"`
	Timestamp kv.Timestamp `json:"timestamp,omitempty" swaggertype:"number" example:"1764000000.123456"`
	Revision  int64        `json:"revision,omitempty" example:"42"`
	// a write: what a put answers
	Operation       string `json:"operation,omitempty" enums:"create,update,delete,revert" example:"update"`
	NewVersion      *int64 `json:"new_version,omitempty" extensions:"x-nullable" example:"2"`
	PreviousVersion *int64 `json:"previous_version,omitempty" extensions:"x-nullable" example:"1"`
	TotalVersions   int64  `json:"total_versions,omitempty" example:"2"`
	// when the key ends, if it does
	ExpiresAt kv.Timestamp `json:"expires_at,omitempty" swaggertype:"number" example:"1764000090.123456"`
	// get: always the database
	Source string `json:"source,omitempty" enums:"cache,database" example:"database"`
	// get that finds nothing: why, as a problem has it
	Status int    `json:"status,omitempty" example:"404"`
	Code   string `json:"code,omitempty" example:"key_not_found"`
	Detail string `json:"detail,omitempty" example:"Key 'k' not found"`
} //	@name	BatchResult

// batch makes operations on several keys in one transaction.
//
//	@Summary			Several operations, all or nothing
//	@Description		Makes up to 128 operations in one transaction, in their order, or none of them. Each sees what those before it
//	@Description		did; a key may come more than once. `conditions` are of the state before the first operation, `if_version` of that
//	@Description		at its operation; version 0 says that the key does not exist or is deleted. A get of a key that does not exist
//	@Description		does not fail the batch: its result says so. Nobody writes between the operations of a batch, so one of gets alone
//	@Description		reads several keys as they were at one revision. What gets and reverts read may come to 8 MiB, or to one value.
//	@Description		A member that is not known, or is given twice, is refused.
//	@ID					runBatch
//	@Tags				entries
//	@Accept				json
//	@Produce			json
//	@Param				body	body		batchRequest	true	"Conditions and operations; the body may have four of the largest values (KV_MAX_VALUE_BYTES) in base64, and 1 MiB more"
//	@Success			200		{object}	batchAnswer
//	@Failure			400		{object}	problem.Problem	"The body is not JSON, or a key is invalid (code malformed_json, invalid_key)"
//	@Failure			404		{object}	problem.Problem	"There is nothing to delete or to go back to; operation is its index (code key_not_found, key_deleted, version_not_found)"
//	@Failure			410		{object}	problem.Problem	"The version to go back to was removed; operation is its index (code version_gone)"
//	@Failure			412		{object}	problem.Problem	"A condition does not hold: condition or operation is its index, beside key and current_version (code precondition_failed)"
//	@Failure			413		{object}	problem.Problem	"The body, a value, or what the batch reads is over the limit (code value_too_large, batch_too_large)"
//	@Failure			415		{object}	problem.Problem	"The body is of another type than JSON (code unsupported_media_type)"
//	@Failure			422		{object}	problem.Problem	"The body is no batch; detail names operations[i].field (code invalid_batch), or a revert must name a version (code invalid_version)"
//	@x-body-examples	{"application/json":{"conditions":[{"key":"stock/7","version":0}],"operations":[{"op":"put","key":"stock/7","value":{"left":10}},{"op":"put","key":"cart/ann","value":[7],"ttl":"30m"},{"op":"get","key":"cart/bob"}]}}
//	@Router				/batch [post]
func (a *API) batch(c *gin.Context, _ query) error {
	if kind := c.GetHeader("Content-Type"); kind != "" && !isJSONType(kind) {
		return problem.New(http.StatusUnsupportedMediaType, "unsupported_media_type",
			fmt.Sprintf("Content-Type: %q is not accepted; send the body as application/json", kind))
	}
	body, err := readJSON(c, settings.LimitOfBatch(a.Store.MaxValueBytes()))
	if err != nil {
		return err
	}
	requirements, changes, err := parseBatch(body)
	if err != nil {
		return err
	}
	if err := authorizeBatch(c, requirements, changes); err != nil {
		return err
	}
	done, err := a.Store.Batch(c.Request.Context(), requirements, changes)
	if err != nil {
		return err
	}
	return writeBatch(c, changes, done)
}

func writeBatch(c *gin.Context, changes []store.Change, done store.BatchResult) error {
	b := []byte(`{"revision":`)
	b = strconv.AppendInt(b, done.Revision, 10)
	b = append(b, `,"results":[`...)
	for i, result := range done.Results {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = appendResult(b, changes[i], result); err != nil {
			return err
		}
	}
	writeAnswer(c, jsonType, append(b, "]}\n"...), 0)
	return nil
}

func appendResult(b []byte, c store.Change, r store.Result) ([]byte, error) {
	switch {
	case c.Operation != store.OpGet:
		return appendJSON(b, struct {
			Op kv.Operation `json:"op"`
			putAnswer
		}{c.Operation, newPutAnswer(r.Written)})
	case r.Err != nil:
		p := problemOf(r.Err)
		return appendJSON(b, struct {
			Op     kv.Operation `json:"op"`
			Found  bool         `json:"found"`
			Key    string       `json:"key"`
			Status int          `json:"status"`
			Code   string       `json:"code"`
			Detail string       `json:"detail"`
		}{c.Operation, false, c.Key, p.Status, p.Code, p.Detail})
	default:
		b = appendEntry(append(b, `{"op":"get","found":true,`...), r.Entry)
		return append(b, `,"source":"database"}`...), nil // the writer reads in its transaction
	}
}

// authorizeBatch returns a problem for the first condition or operation that the bearer
// has no right to, and makes the bearer the author of every change. A condition needs the
// right to read, since its answer tells the version of a key.
func authorizeBatch(c *gin.Context, requirements []store.Requirement, changes []store.Change) error {
	author, err := authorOf(c)
	if err != nil {
		return err
	}
	read, err := prefixesOf(c, readPrefixesHeader)
	if err != nil {
		return err
	}
	write, err := prefixesOf(c, writePrefixesHeader)
	if err != nil {
		return err
	}
	refuse := func(right, key, item string, index int) error {
		p := forbidden(c, right, fmt.Sprintf("the key '%s'", key))
		p.Detail = fmt.Sprintf("%ss[%d]: %s", item, index, p.Detail)
		return p.With(item, index)
	}
	for i, r := range requirements {
		if !read.Has(r.Key) {
			return refuse("read", r.Key, "condition", i)
		}
	}
	for i := range changes {
		changes[i].Author = author
		keys, right := write, "write"
		if changes[i].Operation == store.OpGet {
			keys, right = read, "read"
		}
		if !keys.Has(changes[i].Key) {
			return refuse(right, changes[i].Key, "operation", i)
		}
	}
	return nil
}
