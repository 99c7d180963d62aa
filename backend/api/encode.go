package api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"kvstore/backend/kv"
)

// jsonType is the content type of most answers, and of values that have no other.
const jsonType = "application/json"

// appendEntry appends the members of an entry that every answer has.
func appendEntry(b []byte, e kv.Entry) []byte {
	b = append(b, `"key":`...)
	b = appendString(b, e.Key)
	b = append(b, `,"value":`...)
	b = appendValue(b, e)
	if e.ContentType != "" {
		b = appendString(append(b, `,"content_type":`...), e.ContentType)
	}
	b = append(b, `,"version":`...)
	b = strconv.AppendInt(b, e.Version, 10)
	b = append(b, `,"timestamp":`...)
	b = e.Time.AppendJSON(b)
	b = append(b, `,"revision":`...)
	b = strconv.AppendInt(b, e.Revision, 10)
	if e.Expires != 0 {
		b = append(b, `,"expires_at":`...)
		b = e.Expires.AppendJSON(b)
	}
	return b
}

// appendValue appends a value as every answer has it: a JSON text as it is, the bytes of
// a raw value in base64 and a member that says so.
func appendValue(b []byte, e kv.Entry) []byte {
	if e.ContentType == "" {
		return append(b, e.Value...)
	}
	b = append(b, '"')
	b = base64.StdEncoding.AppendEncode(b, e.Value)
	return append(b, `","encoding":"base64"`...)
}

// appendString appends s, a key or a content type, as a JSON string. Both are UTF-8
// without control characters, so only two characters need an escape.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}

// contentTypeOf returns the content type of a value, null for a tombstone.
func contentTypeOf(e kv.Entry) *string {
	kind := e.ContentType
	switch {
	case e.Operation.Tombstone():
		return nil
	case kind == "":
		kind = jsonType
	}
	return &kind
}

// writeJSON answers 200 with value.
func writeJSON(c *gin.Context, value any) error {
	body, err := appendJSON(nil, value)
	if err != nil {
		return err
	}
	writeAnswer(c, jsonType, append(body, '\n'), 0)
	return nil
}

// appendJSON appends value without escaping <, > and &, which keys may contain.
func appendJSON(b []byte, value any) ([]byte, error) {
	text := bytes.NewBuffer(b)
	encoder := json.NewEncoder(text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), nil
}

// writeAnswer answers 200 with body and the entity tag of a version, 0 for none.
func writeAnswer(c *gin.Context, contentType string, body []byte, version int64) {
	header := c.Writer.Header()
	// Two allocations: one for both numbers, one for the headers.
	numbers := make([]byte, 0, 48)
	numbers = strconv.AppendInt(numbers, int64(len(body)), 10)
	length := len(numbers)
	text := string(appendETag(numbers, version))
	values := [...]string{contentType, "no-cache", text[:length], text[length:]}
	header["Content-Type"] = values[0:1:1]
	header["Cache-Control"] = values[1:2:2] // a cache must revalidate
	header["Content-Length"] = values[2:3:3]
	if version != 0 {
		header["Etag"] = values[3:4:4]
	}
	c.Writer.WriteHeader(http.StatusOK)
	_, _ = c.Writer.Write(body) // the client is gone; there is nobody to tell
}

// setETag sets the entity tag of the version that an answer is about.
func setETag(c *gin.Context, version int64) { c.Writer.Header()["Etag"] = []string{etag(version)} }

// etag returns the entity tag of a version. It is the same for the JSON and the raw
// answer, so a tag from one is a condition for the other.
func etag(version int64) string { return string(appendETag(nil, version)) }

func appendETag(b []byte, version int64) []byte {
	return append(strconv.AppendInt(append(b, '"'), version, 10), '"')
}
