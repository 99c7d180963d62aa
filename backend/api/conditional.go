package api

import (
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"

	"kvstore/backend/kv"
	"kvstore/internal/problem"
)

// setETag names the version that an answer is about.
func setETag(c *gin.Context, version int64) { c.Writer.Header()["Etag"] = []string{etag(version)} }

// unmodified evaluates If-Match and If-None-Match of a read for the version that it
// found. It reports whether the client has that version already, and has answered
// 304 then. A false If-Match is an error.
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
