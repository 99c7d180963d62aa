package api

import (
	"encoding/json"

	"github.com/gin-gonic/gin"

	"kvstore/backend/kv"
)

// historyAnswer documents what writeHistory writes.
type historyAnswer struct { //nolint:unused // for the annotations
	Key string `json:"key" example:"app/db/host"`
	// the newest first
	Versions []historyVersion `json:"versions"`
	// the before of the next, older page; null when there is none
	NextBefore *int64 `json:"next_before" extensions:"x-nullable" example:"2"`
	// the after of the previous, newer page; null when there is none
	PreviousAfter *int64 `json:"previous_after" extensions:"x-nullable" example:"3"`
	// versions in the whole history that are not destroyed
	TotalVersions int64 `json:"total_versions" example:"3"`
} //	@name	History

// historyVersion is one version in a history.
type historyVersion struct {
	Version   int64        `json:"version" example:"3"`
	Revision  int64        `json:"revision" example:"42"`
	Timestamp kv.Timestamp `json:"timestamp" swaggertype:"number" example:"1764000000.123456"`
	Operation kv.Operation `json:"operation" swaggertype:"string" enums:"put,patch,revert,delete,expire,destroy" example:"put"`
	// bytes of the value
	Size int64 `json:"size" example:"13"`
	// null for a version that says that the key was deleted
	ContentType *string `json:"content_type" extensions:"x-nullable" example:"application/json"`
	// who made the version; null when that is not known
	Author    *string `json:"author" extensions:"x-nullable" example:"alice"`
	Destroyed bool    `json:"destroyed" example:"false"`
	// when the key ends unless it is written again; absent for never
	ExpiresAt kv.Timestamp `json:"expires_at,omitempty" swaggertype:"number" example:"1764000090.123456"`
	// with values=true: as it was written, or base64; absent when the version has none
	Value json.RawMessage `json:"value,omitempty" swaggertype:"string" extensions:"x-any" example:"hello world"`
	// base64 when value is that
	Encoding string `json:"encoding,omitempty" enums:"base64" example:"base64"`
} //	@name	HistoryVersion

// getHistory returns a page of the versions of a key.
//
//	@Summary		The versions of a key
//	@Description	The newest first. A key that is deleted has a history too.
//	@Description	For the next, older page repeat the request with `before` = `next_before`; to go back, with `after` = `previous_after`
//	@Description	and without `before`. A page takes the same time wherever in the history it lies, and stays what it is while
//	@Description	new versions are written. It ends early when the values in it have 4 MiB; `next_before` tells that there is more.
//	@ID				getHistory
//	@Tags			versions
//	@Produce		json
//	@Param			limit			query		int		false	"The most versions of a page"																	minimum(1)	maximum(1000)	default(100)
//	@Param			before			query		int		false	"Only versions below this one"																	minimum(1)	example(2)
//	@Param			after			query		int		false	"Only versions above this one, and without before those next to it"								minimum(0)	example(3)
//	@Param			values			query		bool	false	"Add the values"																				default(false)
//	@Param			min_revision	query		int		false	"The answer knows every write up to this revision; one that the store has not reached is refused"	minimum(0)	example(42)
//	@Param			Cache-Control	header		string	false	"max-age=N: the answer may be N seconds old, and its header Age says how old it is"				example(max-age=5)
//	@Success		200				{object}	historyAnswer
//	@Header			200				{integer}	Age				"With max-age in Cache-Control: how many seconds old the answer may be"
//	@Failure		404				{object}	problem.Problem	"There is no such key, or it was destroyed with its history (code key_not_found)"
//	@Failure		422				{object}	problem.Problem	"A parameter is invalid (code invalid_limit, invalid_before, invalid_after, invalid_values, invalid_min_revision)"
//	@Failure		504				{object}	problem.Problem	"The database did not tell in time whether it has min_revision (code revision_not_reached)"
//	@Router			/history/{key} [get]
func (a *API) getHistory(c *gin.Context, q query) error {
	key := keyOf(c)
	if err := kv.CheckKey(key); err != nil {
		return err
	}
	request, err := historyRequest(q)
	if err != nil {
		return err
	}
	page, err := a.Store.History(c.Request.Context(), key, request)
	if err != nil {
		return err
	}
	return writeHistory(c, page, request.Values)
}

func historyRequest(q query) (r kv.HistoryRequest, err error) {
	if r.Limit, err = q.limit(); err != nil {
		return r, err
	}
	if r.Before, err = q.positive("before"); err != nil {
		return r, err
	}
	if q.Text("after") != "0" { // 0 is behind nothing; a client that pages back may arrive there
		if r.After, err = q.positive("after"); err != nil {
			return r, err
		}
	}
	r.Oldest = q.Has("after") && !q.Has("before")
	r.Values, err = q.boolean("values", false)
	return r, err
}

// writeHistory answers 200 with a page. The values do not pass through an encoder, which
// would rewrite them.
func writeHistory(c *gin.Context, page kv.History, values bool) error {
	size := 256
	for _, item := range page.Versions {
		size += 256 + len(item.Value)*4/3
	}
	b := make([]byte, 0, size)
	b = append(b, `{"key":`...)
	b = appendString(b, page.Key)
	b = append(b, `,"versions":[`...)
	for i, item := range page.Versions {
		if i > 0 {
			b = append(b, ',')
		}
		version, err := json.Marshal(newHistoryVersion(item))
		if err != nil {
			return err
		}
		b = append(b, version[:len(version)-1]...)
		if values && item.Readable() == nil {
			b = appendValue(append(b, `,"value":`...), item.Entry)
		}
		b = append(b, '}')
	}
	tail, err := json.Marshal(struct {
		NextBefore    *int64 `json:"next_before"`
		PreviousAfter *int64 `json:"previous_after"`
		TotalVersions int64  `json:"total_versions"`
	}{positiveOrNull(page.NextBefore), page.PreviousAfter, page.TotalVersions})
	if err != nil {
		return err
	}
	b = append(b, "],"...)
	b = append(b, tail[1:]...)
	writeAnswer(c, jsonType, append(b, '\n'), 0)
	return nil
}

func newHistoryVersion(item kv.HistoryItem) historyVersion {
	version := historyVersion{
		Version: item.Version, Revision: item.Revision, Timestamp: item.Time, Operation: item.Operation,
		Size: item.Bytes, ContentType: contentTypeOf(item.Entry), Destroyed: item.Destroyed, ExpiresAt: item.Expires,
	}
	if item.Author != "" {
		version.Author = &item.Author
	}
	return version
}

// positiveOrNull returns null for 0.
func positiveOrNull(n int64) *int64 {
	if n == 0 {
		return nil
	}
	return &n
}
