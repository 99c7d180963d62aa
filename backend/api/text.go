package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"kvstore/backend/kv"
	"kvstore/internal/problem"
	"kvstore/internal/settings"
)

// readText returns a body that is one JSON text in UTF-8. It may be as long as that of
// a write of one value.
func readText(c *gin.Context, maxValueBytes int64) ([]byte, error) {
	body, err := readBody(c, maxValueBytes)
	switch {
	case errors.Is(err, kv.ErrValueTooLarge):
		return nil, problem.New(http.StatusRequestEntityTooLarge, "value_too_large",
			fmt.Sprintf("body: is over the limit of %d bytes (KV_MAX_VALUE_BYTES plus %d)", maxValueBytes+settings.EnvelopeBytes, settings.EnvelopeBytes))
	case err != nil:
		return nil, err
	case !utf8.Valid(body):
		return nil, malformed("is not valid UTF-8")
	}
	var text json.RawMessage
	if err := json.Unmarshal(body, &text); err != nil {
		return nil, malformed(err.Error())
	}
	return body, nil
}
