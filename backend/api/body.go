package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"kvstore/backend/jsondoc"
	"kvstore/backend/kv"
	"kvstore/internal/problem"
	"kvstore/internal/settings"
)

// readValue returns the JSON text of the body's member value, as it was sent. Other
// members are ignored, as the predecessor did, but for those that somebody would believe.
func readValue(c *gin.Context, maxValueBytes int64) ([]byte, error) {
	body, err := readUpTo(c, settings.LimitOfBody(maxValueBytes).Bytes, kv.ValueTooLarge(maxValueBytes))
	if err != nil {
		return nil, err
	}
	if err := checkJSON(body); err != nil {
		return nil, untyped(c, err)
	}
	members, _ := jsondoc.Members(body)
	var value []byte
	for _, m := range members {
		switch {
		case misplaced[m.Name] != "":
			return nil, problem.New(http.StatusUnprocessableEntity, "misplaced_member", "body."+m.Name+": "+misplaced[m.Name])
		case m.Name != "value":
		case value != nil:
			return nil, problem.New(http.StatusUnprocessableEntity, "repeated_member", "body.value: is given twice")
		default:
			value = m.Value
		}
	}
	if value == nil {
		return nil, untyped(c, problem.New(http.StatusUnprocessableEntity, "missing_value", `body: must be an object with the member "value"`))
	}
	return value, nil
}

// misplaced says of members of the body of a put where they belong.
var misplaced = map[string]string{
	"ttl":        "belongs in the query, not in the body: ?ttl=90s",
	"if_version": `belongs in the header, not in the body: If-Match: "3", or If-None-Match: * for a key that does not exist`,
}

const untypedRule = "; a body without a Content-Type, as curl -T sends it, is taken for JSON: name its type to keep it as it is"

// untyped tells a client that named no type, as curl -T does, what its body was taken for.
func untyped(c *gin.Context, err error) error {
	var p *problem.Problem
	if c.GetHeader("Content-Type") == "" && errors.As(err, &p) {
		p.Detail += untypedRule
	}
	return err
}

// checkJSON returns why a body is not one JSON text in UTF-8.
func checkJSON(body []byte) error {
	switch {
	case bytes.HasPrefix(body, []byte("\xef\xbb\xbf")):
		return malformed("begins with a byte order mark (EF BB BF), which is not JSON; send it without")
	case bytes.HasPrefix(body, []byte("\xff\xfe")), bytes.HasPrefix(body, []byte("\xfe\xff")):
		return malformed("begins with a byte order mark of UTF-16; send it as UTF-8, without one")
	case !utf8.Valid(body):
		return malformed("is not valid UTF-8")
	}
	if json.Valid(body) {
		return nil
	}
	return malformed(json.Unmarshal(body, &struct{}{}).Error()) // Valid does not tell why
}

// readText returns a body that is one JSON text in UTF-8 and within the limit.
func readText(c *gin.Context, limit settings.BodyLimit) ([]byte, error) {
	body, err := readUpTo(c, limit.Bytes, problem.New(http.StatusRequestEntityTooLarge, "value_too_large", limit.Exceeded()))
	if err != nil {
		return nil, err
	}
	return body, checkJSON(body)
}

// readUpTo returns the body, or tooLarge when it has more than limit bytes, or
// kv.ErrOverloaded.
func readUpTo(c *gin.Context, limit int64, tooLarge error) ([]byte, error) {
	if c.Request.ContentLength > limit {
		return nil, tooLarge
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, limit))
	var exceeded *http.MaxBytesError
	switch {
	case errors.As(err, &exceeded):
		return nil, tooLarge
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
