package api

import (
	"github.com/gin-gonic/gin"

	"kvstore/backend/kv"
)

// keysAnswer is a page of the list of keys.
type keysAnswer struct {
	// in the order of their bytes
	Keys []keyAnswer `json:"keys"`
	// with delimiter: each stands for all keys that begin with it
	Prefixes []string `json:"prefixes" example:"app/db/"`
	// the after of the next page; null when this is the last
	NextAfter *string `json:"next_after" extensions:"x-nullable" example:"app/name"`
	// the last write of the store that the page shows
	Revision int64 `json:"revision" example:"42"`
} //	@name	Keys

// keyAnswer is a key in a list.
type keyAnswer struct {
	Key string `json:"key" example:"app/name"`
	// the latest version, and what it is
	Version   int64        `json:"version" example:"3"`
	Revision  int64        `json:"revision" example:"42"`
	Timestamp kv.Timestamp `json:"timestamp" swaggertype:"number" example:"1764000000.123456"`
	// bytes of the value
	Size int64 `json:"size" example:"13"`
	// null for a key that was deleted
	ContentType *string `json:"content_type" extensions:"x-nullable" example:"application/json"`
	// the key was deleted or has expired
	Deleted bool `json:"deleted" example:"false"`
	// the value of the latest version was destroyed
	Destroyed bool `json:"destroyed" example:"false"`
	// when the key ends unless it is written again; absent for never
	ExpiresAt kv.Timestamp `json:"expires_at,omitempty" swaggertype:"number" example:"1764000090.123456"`
} //	@name	Key

// listKeys returns a page of the list of keys.
//
//	@Summary		List keys
//	@Description	In the order of their bytes. For the next page repeat the request with `after` = `next_after`. Whatever is written
//	@Description	meanwhile, a key that exists from the first page to the last is on exactly one of them.
//	@Description	With `delimiter`, keys that have it behind `prefix` are folded into `prefixes`, as S3 does: each prefix, up to
//	@Description	and with the delimiter, is listed once in place of all keys that begin with it, and counts towards `limit`.
//	@Description	`after` may be such a prefix; the page then begins behind all its keys.
//	@Description	With an access token, keys that it may not read are not listed, nor are prefixes that stand for no others.
//	@Description	The page is a snapshot of the store at `revision`: a watch since that revision of the first page misses nothing.
//	@ID				listKeys
//	@Tags			keys
//	@Produce		json
//	@Param			prefix			query		string	false	"Only keys that begin with it; up to 512 bytes of UTF-8 without control characters"				example(app/)
//	@Param			delimiter		query		string	false	"Fold keys at this text; the same rules"														example(/)
//	@Param			after			query		string	false	"Only keys behind it; the same rules"															example(app/db/)
//	@Param			limit			query		int		false	"The most keys and prefixes of a page"															minimum(1)	maximum(1000)	default(100)
//	@Param			deleted			query		bool	false	"List keys that are deleted or have expired too"												default(false)
//	@Param			min_revision	query		int		false	"The answer knows every write up to this revision; one that the store has not reached is refused"	minimum(0)	example(42)
//	@Param			Cache-Control	header		string	false	"max-age=N: the answer may be N seconds old, and its header Age says how old it is"				example(max-age=5)
//	@Success		200				{object}	keysAnswer
//	@Header			200				{integer}	Age				"With max-age in Cache-Control: how many seconds old the answer may be"
//	@Failure		422				{object}	problem.Problem	"A parameter is invalid (code invalid_prefix, invalid_delimiter, invalid_after, invalid_limit, invalid_deleted, invalid_min_revision)"
//	@Failure		504				{object}	problem.Problem	"The database did not tell in time whether it has min_revision (code revision_not_reached)"
//	@Router			/keys [get]
func (a *API) listKeys(c *gin.Context, q query) error {
	request, err := keysRequest(q)
	if err != nil {
		return err
	}
	if request.Within, err = readable(c, request.Prefix); err != nil {
		return err
	}
	page, err := a.Store.Keys(c.Request.Context(), request)
	if err != nil {
		return err
	}
	return writeJSON(c, newKeysAnswer(page))
}

func keysRequest(q query) (r kv.KeysRequest, err error) {
	if r.Prefix, err = q.partOfKey("prefix"); err != nil {
		return r, err
	}
	if r.Delimiter, err = q.partOfKey("delimiter"); err != nil {
		return r, err
	}
	if r.After, err = q.partOfKey("after"); err != nil {
		return r, err
	}
	if r.Limit, err = q.limit(); err != nil {
		return r, err
	}
	r.Deleted, err = q.boolean("deleted", false)
	return r, err
}

func newKeysAnswer(page kv.KeysPage) keysAnswer {
	answer := keysAnswer{
		Keys:     make([]keyAnswer, 0, len(page.Keys)),
		Prefixes: append([]string{}, page.Prefixes...),
		Revision: page.Revision,
	}
	for _, item := range page.Keys {
		e := item.Latest
		answer.Keys = append(answer.Keys, keyAnswer{
			Key: e.Key, Version: e.Version, Revision: e.Revision, Timestamp: e.Time, Size: item.Bytes,
			ContentType: contentTypeOf(e), Deleted: item.Deleted, Destroyed: e.Destroyed, ExpiresAt: e.Expires,
		})
	}
	if page.NextAfter != "" {
		answer.NextAfter = &page.NextAfter
	}
	return answer
}
