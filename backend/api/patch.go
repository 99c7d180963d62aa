package api

import (
	"errors"
	"fmt"
	"mime"
	"net/http"

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
	patch, err := readPatch(c, a.store.MaxValueBytes())
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	written, err := a.store.Update(ctx, change, func(e kv.Entry) ([]byte, string, error) {
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

// A patch is the body of a request, read and checked.
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
	body, err := readText(c, settings.LimitOfBody(maxValueBytes))
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

// patchProblem is the problem of a patch that could not be applied.
func (a *API) patchProblem(err error) error {
	switch {
	case errors.Is(err, jsondoc.ErrTooLarge):
		return kv.ValueTooLarge(a.store.MaxValueBytes())
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

// notJSON is the problem of a value that is bytes, where JSON is needed.
func notJSON(e kv.Entry) error {
	return problem.New(http.StatusConflict, "not_json",
		fmt.Sprintf("Key '%s' version %d is of the type %s and not JSON", e.Key, e.Version, e.ContentType))
}
