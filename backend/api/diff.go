package api

import (
	"context"

	"github.com/gin-gonic/gin"

	"kvstore/backend/jsondoc"
	"kvstore/backend/kv"
)

// patchOperation documents one operation of a JSON patch.
type patchOperation struct { //nolint:unused // for the annotations
	Op    string `json:"op" enums:"add,remove,replace" example:"replace"`
	Path  string `json:"path" example:"/limits/cpu"`
	Value any    `json:"value,omitempty" swaggertype:"string" extensions:"x-any" example:"2"`
} //	@name	PatchOperation

// getDiff compares two versions of a key.
//
//	@Summary		Compare two versions
//	@Description	Returns the JSON patch (RFC 6902) that makes version `to` of version `from`, `[]` when they are the same value.
//	@Description	It names each member and element that changed; elements have the index that they have in `from`.
//	@Description	Numbers differ when their texts do; the order of members does not count. It has at most 1000 operations. Where the
//	@Description	versions differ in more, or are not both objects or both arrays, it replaces the whole value.
//	@ID				getDiff
//	@Tags			versions
//	@Produce		application/json-patch+json
//	@Param			from	query		int	false	"The version to start from; without, the one before `to`"					minimum(1)	example(1)
//	@Param			to		query		int	false	"The version to arrive at, which may be the older one; without, the latest"	minimum(1)	example(2)
//	@Success		200		{array}		patchOperation
//	@Failure		404		{object}	problem.Problem	"There is no such key or version, or it is a tombstone (code key_not_found, key_deleted, version_not_found)"
//	@Failure		409		{object}	problem.Problem	"One of the values is not JSON (code not_json)"
//	@Failure		410		{object}	problem.Problem	"One of the versions was removed (code version_gone)"
//	@Failure		422		{object}	problem.Problem	"from or to is not a positive integer, or from must be given since to is the first version (code invalid_from, invalid_to)"
//	@Router			/diff/{key} [get]
func (a *API) getDiff(c *gin.Context, q query) error {
	key := keyOf(c)
	from, err := q.positive("from")
	if err != nil {
		return err
	}
	to, err := q.positive("to")
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	after, err := a.versionOf(ctx, key, to)
	if err != nil {
		return err
	}
	if from == 0 {
		if from = after.Version - 1; from == 0 {
			return invalid("from", "must be given, since version 1 has none before it")
		}
	}
	before, err := a.versionOf(ctx, key, from)
	if err != nil {
		return err
	}
	patch, err := a.diff(ctx, before, after)
	if err != nil {
		return err
	}
	writeTagged(c, jsonPatchType, append(patch, '\n'), 0)
	return nil
}

// versionOf returns a version of a key, the latest for 0.
func (a *API) versionOf(ctx context.Context, key string, version int64) (kv.Entry, error) {
	if version == 0 {
		entry, _, err := a.store.Get(ctx, key)
		return entry, err
	}
	entry, _, err := a.store.GetVersion(ctx, key, version)
	return entry, err
}

func (a *API) diff(ctx context.Context, from, to kv.Entry) ([]byte, error) {
	for _, e := range []kv.Entry{from, to} {
		if e.ContentType != "" {
			return nil, notJSON(e)
		}
	}
	end, err := a.workers.begin(ctx, len(from.Value)+len(to.Value))
	if err != nil {
		return nil, err
	}
	defer end()
	return jsondoc.Diff(from.Value, to.Value)
}
