package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"

	"kvstore/backend/kv"
	"kvstore/backend/store"
	"kvstore/internal/problem"
	"kvstore/internal/telemetry"
)

// statuses is the one table from errors to answers.
var statuses = []struct {
	err    error
	status int
	code   string // with "" it is invalid_ and the field of the error
	detail string // what the client reads when the error has no words for it
}{
	{kv.ErrInvalidKey, http.StatusBadRequest, "invalid_key", ""},
	{kv.ErrKeyNotFound, http.StatusNotFound, "key_not_found", ""},
	{kv.ErrKeyDeleted, http.StatusNotFound, "key_deleted", ""},
	{kv.ErrVersionRequired, http.StatusUnprocessableEntity, "invalid_version", ""},
	{kv.ErrVersionNotFound, http.StatusNotFound, "version_not_found", ""},
	{kv.ErrVersionGone, http.StatusGone, "version_gone", ""},
	{kv.ErrPreconditionFailed, http.StatusPreconditionFailed, "precondition_failed", ""},
	{kv.ErrValueTooLarge, http.StatusRequestEntityTooLarge, "value_too_large", ""},
	{kv.ErrBatchTooLarge, http.StatusRequestEntityTooLarge, "batch_too_large", ""},
	{kv.ErrStorageFull, http.StatusInsufficientStorage, "storage_full", "The disk is full; nothing was written"},
	{kv.ErrDiskFailed, http.StatusServiceUnavailable, "disk_failed", "The disk reports an error; nothing was written, and what it does not give back is not served"},
	{kv.ErrOutcomeUnknown, http.StatusInternalServerError, "outcome_unknown", "The disk or the database failed when the write was to be made " +
		"safe. It may be there now, or after a restart of the service: read before you repeat it"},
	{kv.ErrFutureRevision, http.StatusUnprocessableEntity, "", ""},
	{kv.ErrNotReached, http.StatusGatewayTimeout, "revision_not_reached", ""},
	{kv.ErrUnsupported, http.StatusNotImplemented, "unsupported", ""},
	{kv.ErrTooManyWatchers, http.StatusServiceUnavailable, "too_many_watchers", ""},
	{kv.ErrOverloaded, http.StatusServiceUnavailable, "overloaded", ""},
	{kv.ErrCopying, http.StatusServiceUnavailable, "backup_running", ""},
	{kv.ErrUnavailable, http.StatusServiceUnavailable, "store_unavailable", "The store cannot serve the request now"},
	{kv.ErrCorrupt, http.StatusInternalServerError, "store_damaged", "The database is damaged, or its disk does not give it back; nothing of it is served, and nothing was written"},
	{context.DeadlineExceeded, http.StatusServiceUnavailable, "store_unavailable", "The store did not answer in time"},
	{context.Canceled, statusClientClosedRequest, "client_closed_request", "The client went away"},
}

// statusClientClosedRequest is for the log: nobody reads the answer.
const statusClientClosedRequest = 499

// writeError answers with the problem that err is. The cause of a failure goes to the log,
// with the request id, and not to the client.
func (a *API) writeError(c *gin.Context, err error) {
	p := problemOf(err)
	a.damage.note(err)
	if p.Status == http.StatusPreconditionFailed {
		explainWeak(p, c.Request.Header)
	}
	switch {
	case errors.Is(err, kv.ErrOverloaded), errors.Is(err, kv.ErrStorageFull), errors.Is(err, kv.ErrDiskFailed):
		// A line for each would add work when there is too much already, or go to a log on the
		// disk that fails. The writer logs the cause.
		telemetry.Quiet(c.Writer)
		a.Metrics.Refused()
		a.overloads.note(c.Request.Context(), a.Logger, err)
	case p.Status >= http.StatusInternalServerError:
		a.Logger.ErrorContext(c.Request.Context(), "request failed", "status", p.Status, "error", err)
	}
	if p.Status == http.StatusServiceUnavailable {
		c.Header("Retry-After", "1")
	}
	p.Write(c.Writer)
}

func problemOf(err error) *problem.Problem {
	var p *problem.Problem
	if errors.As(err, &p) {
		return p
	}
	for _, row := range statuses {
		if errors.Is(err, row.err) {
			return withMembers(problem.New(row.status, codeOf(err, row.code), detailOf(err, row.detail)), err)
		}
	}
	return problem.New(http.StatusInternalServerError, "internal", "Internal error; the log has the request id")
}

// withMembers adds what a program can act on: the version that a condition found, and the
// index of the condition or operation of a batch that failed.
func withMembers(p *problem.Problem, err error) *problem.Problem {
	var precondition *kv.PreconditionError
	if errors.As(err, &precondition) {
		p.Detail = precondition.Error()
		p = p.With("key", precondition.Key).With("current_version", precondition.Current)
		if precondition.Index >= 0 {
			p = p.With("condition", precondition.Index)
		}
	}
	var operation *store.OperationError
	if errors.As(err, &operation) {
		p.Detail = fmt.Sprintf("operations[%d]: %s", operation.Index, p.Detail)
		p = p.With("operation", operation.Index)
	}
	return p
}

func codeOf(err error, code string) string {
	var known *kv.Error
	if code == "" && errors.As(err, &known) {
		return "invalid_" + known.Field
	}
	return code
}

func detailOf(err error, fallback string) string {
	var known *kv.Error
	if errors.As(err, &known) {
		return known.Error()
	}
	return fallback
}

// explainWeak says of an If-Match that does not hold why a weak tag in it could not.
func explainWeak(p *problem.Problem, header http.Header) {
	if tags, err := parseTags("If-Match", header["If-Match"]); err == nil && len(tags.weak) > 0 {
		p.Detail += fmt.Sprintf("; If-Match compares strongly, so a weak tag such as W/%[1]s never matches: send %[1]s", etag(tags.weak[0]))
	}
}
