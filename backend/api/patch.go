package api

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"runtime"

	"github.com/gin-gonic/gin"

	"kvstore/backend/jsondoc"
	"kvstore/backend/kv"
	"kvstore/internal/problem"
	"kvstore/internal/settings"
)

// The types of a patch.
const (
	mergePatchType = "application/merge-patch+json"
	jsonPatchType  = "application/json-patch+json"
)

// patchEntry changes a part of a value.
//
//	@Summary			Change a part of a value
//	@Description		Applies a merge patch (RFC 7396) or a JSON patch (RFC 6902) to the latest version and makes the result the next one, in
//	@Description		one step: no write comes in between, and of many patches at once none is lost. What the patch does not touch keeps its
//	@Description		text: every digit, the order of members. Without `ttl` the key ends when it would have ended before.
//	@Description		A JSON patch has at most 1000 operations; a pointer, and the objects of a merge patch, go at most 128 levels deep.
//	@Description		In `test`, numbers are compared by value. A member that is given twice in a patch is refused.
//	@ID					patchEntry
//	@Tags				entries
//	@Accept				application/merge-patch+json,application/json-patch+json
//	@Produce			json
//	@Param				body			body		object	true	"The patch, of the type that Content-Type names"
//	@Param				ttl				query		string	false	"How long the key exists from now on, a Go duration"				example(90s)
//	@Param				If-Match		header		string	false	"Only if one of these versions is the latest, * if the key exists"	example("3")
//	@Param				If-None-Match	header		string	false	"Only if none of these versions is the latest"
//	@Success			200				{object}	putAnswer
//	@Header				200				{string}	ETag			"The version that was written, in quotes"
//	@Failure			400				{object}	problem.Problem	"The body is not JSON (code malformed_json)"
//	@Failure			404				{object}	problem.Problem	"There is no such key (code key_not_found, key_deleted)"
//	@Failure			409				{object}	problem.Problem	"The patch does not apply to the value: operation and pointer say where (code patch_conflict); or the value is not JSON (code not_json)"
//	@Failure			410				{object}	problem.Problem	"The value of the latest version was destroyed (code version_gone)"
//	@Failure			413				{object}	problem.Problem	"The patch or the result is over the limit (code value_too_large)"
//	@Failure			415				{object}	problem.Problem	"The body is of another type; Accept-Patch has those that there are (code unsupported_media_type)"
//	@Header				415				{string}	Accept-Patch	"The types of a patch"
//	@Failure			422				{object}	problem.Problem	"The body is no patch of its type, or ttl is invalid (code invalid_patch, invalid_ttl)"
//	@x-body-examples	{"application/merge-patch+json":{"port":5433},"application/json-patch+json":[{"op":"replace","path":"/port","value":5433}]}
//	@Router				/patch/{key} [patch]
func (a *API) patchEntry(c *gin.Context, q query) error {
	change, err := changeOf(c, kv.OpPatch)
	if err != nil {
		return err
	}
	if change.TTL, err = q.ttl(); err != nil {
		return err
	}
	patch, err := readPatch(c, a.Store.MaxValueBytes())
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	written, err := a.Store.Update(ctx, change, func(e kv.Entry) ([]byte, string, error) {
		if e.ContentType != "" {
			return nil, "", notJSON(e)
		}
		end, err := a.workers.begin(ctx, len(e.Value)+patch.size)
		if err != nil {
			return nil, "", err
		}
		defer end()
		value, err := patch.apply(e.Value)
		return value, "", a.patchProblem(err)
	})
	if err != nil {
		return err
	}
	return writeWritten(c, written)
}

// A patch is one that was read from a request and checked.
type patch struct {
	size  int // of the body in bytes
	apply func(document []byte) ([]byte, error)
}

func readPatch(c *gin.Context, maxValueBytes int64) (patch, error) {
	header := c.GetHeader("Content-Type")
	kind, _, err := mime.ParseMediaType(header)
	if err != nil || kind != mergePatchType && kind != jsonPatchType {
		c.Header("Accept-Patch", mergePatchType+", "+jsonPatchType)
		return patch{}, problem.New(http.StatusUnsupportedMediaType, "unsupported_media_type",
			fmt.Sprintf("Content-Type: %q is not accepted; send the patch as %s or %s", header, mergePatchType, jsonPatchType))
	}
	body, err := readJSON(c, settings.LimitOfBody(maxValueBytes))
	if err != nil {
		return patch{}, err
	}
	if kind == mergePatchType {
		if err := jsondoc.CheckMerge(body); err != nil {
			return patch{}, invalidPatch(err)
		}
		return patch{len(body), func(document []byte) ([]byte, error) { return jsondoc.Merge(document, body) }}, nil
	}
	parsed, err := jsondoc.ParsePatch(body)
	if err != nil {
		return patch{}, invalidPatch(err)
	}
	return patch{len(body), func(document []byte) ([]byte, error) { return parsed.Apply(document, maxValueBytes) }}, nil
}

func invalidPatch(err error) error {
	return withPlace(problem.New(http.StatusUnprocessableEntity, "invalid_patch", err.Error()), err)
}

// patchProblem returns the problem of a patch that cannot be applied.
func (a *API) patchProblem(err error) error {
	switch {
	case errors.Is(err, jsondoc.ErrTooLarge):
		return kv.ValueTooLarge(a.Store.MaxValueBytes())
	case errors.Is(err, jsondoc.ErrConflict):
		return withPlace(problem.New(http.StatusConflict, "patch_conflict", err.Error()), err)
	default:
		return err
	}
}

// withPlace adds which operation of a patch failed, and where.
func withPlace(p *problem.Problem, err error) error {
	var known *jsondoc.Error
	if errors.As(err, &known) {
		if known.Operation >= 0 {
			_ = p.With("operation", known.Operation)
		}
		if known.HasPointer {
			_ = p.With("pointer", known.Pointer)
		}
	}
	return p
}

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
//	@Param			from			query		int		false	"The version to start from; without, the one before `to`"										minimum(1)	example(1)
//	@Param			to				query		int		false	"The version to arrive at, which may be the older one; without, the latest"						minimum(1)	example(2)
//	@Param			min_revision	query		int		false	"The answer knows every write up to this revision; one that the store has not reached is refused"	minimum(0)	example(42)
//	@Param			Cache-Control	header		string	false	"max-age=N: the answer may be N seconds old, and its header Age says how old it is"				example(max-age=5)
//	@Success		200				{array}		patchOperation
//	@Header			200				{integer}	Age				"With max-age in Cache-Control: how many seconds old the answer may be"
//	@Failure		404				{object}	problem.Problem	"There is no such key or version, or it is a tombstone (code key_not_found, key_deleted, version_not_found)"
//	@Failure		409				{object}	problem.Problem	"One of the values is not JSON (code not_json)"
//	@Failure		410				{object}	problem.Problem	"One of the versions was removed (code version_gone)"
//	@Failure		422				{object}	problem.Problem	"from or to is not a positive integer, or from must be given since to is the first version (code invalid_from, invalid_to, invalid_min_revision)"
//	@Failure		504				{object}	problem.Problem	"The database did not tell in time whether it has min_revision (code revision_not_reached)"
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
	after, _, err := a.readVersion(ctx, key, to)
	if err != nil {
		return err
	}
	if from == 0 {
		if from = after.Version - 1; from == 0 {
			return invalid("from", "must be given, since version 1 has none before it")
		}
	}
	before, _, err := a.readVersion(ctx, key, from)
	if err != nil {
		return err
	}
	patch, err := a.diff(ctx, before, after)
	if err != nil {
		return err
	}
	writeAnswer(c, jsonPatchType, append(patch, '\n'), 0)
	return nil
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

// notJSON is the problem of a raw value where JSON is needed.
func notJSON(e kv.Entry) error {
	return problem.New(http.StatusConflict, "not_json",
		fmt.Sprintf("Key '%s' version %d is of the type %s and not JSON", e.Key, e.Version, e.ContentType))
}

// workers bound how many large texts are patched or compared at once. Each may take a
// hundred times its size in memory, and more of them than processors finish no sooner.
type workers chan struct{}

func newWorkers() workers { return make(workers, runtime.GOMAXPROCS(0)) }

// smallText is the size up to which texts do not wait.
const smallText = 64 << 10

// begin waits until work on texts of that size in bytes may begin, or ctx ends. The caller
// must call end after the work.
func (w workers) begin(ctx context.Context, size int) (end func(), err error) {
	if size <= smallText {
		return func() {}, nil
	}
	select {
	case w <- struct{}{}:
		return func() { <-w }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
