package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"kvstore/backend/kv"
	"kvstore/internal/problem"
	"kvstore/internal/settings"
)

// readValue returns the JSON text of the body's member value, as it was sent.
func readValue(c *gin.Context, maxValueBytes int64) ([]byte, error) {
	body, err := readBody(c, maxValueBytes)
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(body) {
		return nil, malformed("is not valid UTF-8")
	}
	// A map and not a struct: a struct's fields match without regard to case.
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		var kind *json.UnmarshalTypeError
		if !errors.As(err, &kind) {
			return nil, malformed(err.Error())
		}
	}
	value, ok := members["value"]
	if !ok {
		return nil, problem.New(http.StatusUnprocessableEntity, "missing_value", `body: must be an object with the member "value"`)
	}
	return value, nil
}

// readBody returns the body, or kv.ErrValueTooLarge when it is longer than any
// value's envelope.
func readBody(c *gin.Context, maxValueBytes int64) ([]byte, error) {
	return readUpTo(c, maxValueBytes+settings.EnvelopeBytes, maxValueBytes)
}

// readUpTo returns the body, or kv.ErrValueTooLarge when it has more than limit
// bytes, or kv.ErrOverloaded.
func readUpTo(c *gin.Context, limit, maxValueBytes int64) ([]byte, error) {
	if c.Request.ContentLength > limit {
		return nil, kv.ValueTooLarge(maxValueBytes)
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, limit))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, kv.ValueTooLarge(maxValueBytes)
	case errors.Is(err, kv.ErrOverloaded):
		return nil, err
	case err != nil:
		return nil, malformed("could not be read to its end")
	}
	return body, nil
}

// checkContentType accepts JSON, no type, and the type that a bare curl -d sends.
func checkContentType(header string) error {
	if header == "" || isJSONType(header) {
		return nil
	}
	return problem.New(http.StatusUnsupportedMediaType, "unsupported_media_type",
		fmt.Sprintf("Content-Type: %q is not accepted; send the body as application/json", header))
}

func malformed(what string) error {
	if strings.HasSuffix(what, "exceeded max depth") { // encoding/json says no more
		what = "has more than 10000 arrays and objects in one another, which is a fixed limit"
	}
	return problem.New(http.StatusBadRequest, "malformed_json", "body: "+what)
}
