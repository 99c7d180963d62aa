package api

import (
	"bytes"
	"cmp"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"kvstore/backend/kv"
	"kvstore/internal/problem"
)

// maxContentType is the length of the longest content type that is kept.
const maxContentType = 255

// readSent returns the value that a put sends: the member value of a JSON body with
// no type, or else the body as it is, with its content type as it was sent.
func readSent(c *gin.Context, maxValueBytes int64) (value []byte, contentType string, err error) {
	switch contentType = c.GetHeader("Content-Type"); {
	case contentType == "" || isJSONType(contentType):
		value, err = readValue(c, maxValueBytes)
		return value, "", err
	case !isContentType(contentType):
		return nil, "", problem.New(http.StatusUnsupportedMediaType, "unsupported_media_type", "Content-Type: "+contentTypeRule)
	default:
		value, err = readUpTo(c, maxValueBytes, kv.ValueTooLarge(maxValueBytes))
		return value, contentType, err
	}
}

// mediaTypeOf returns the media type of a content type, without its parameters.
func mediaTypeOf(contentType string) string {
	kind, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(kind))
}

// isJSONType reports whether a body of that type is JSON. One is what a bare curl -d
// sends.
func isJSONType(contentType string) bool {
	kind := mediaTypeOf(contentType)
	return kind == "application/json" || kind == "application/x-www-form-urlencoded"
}

var contentTypeRule = fmt.Sprintf("must be a type such as image/png in at most %d printable ASCII characters", maxContentType)

// isContentType reports whether a raw value may have that type.
func isContentType(contentType string) bool {
	main, sub, ok := strings.Cut(mediaTypeOf(contentType), "/")
	return ok && main != "" && sub != "" && !strings.ContainsFunc(main+sub, notInType) &&
		len(contentType) <= maxContentType && !strings.ContainsFunc(contentType, notPrintable)
}

// notInType reports a character that is in no token of HTTP (RFC 9110, section 5.6.2),
// and the *, which stands for many types.
func notInType(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}*`, r)
}

func notPrintable(r rune) bool { return r < ' ' || r >= 0x7f }

// writeRaw answers with the value alone. A page of somebody else's value must not
// act in the name of this origin, nor may a browser take it for another type.
// There is no Last-Modified: its seconds are too coarse to tell versions apart.
func writeRaw(c *gin.Context, e kv.Entry) error {
	header := c.Writer.Header()
	header.Set("Content-Type", cmp.Or(e.ContentType, "application/json"))
	header.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-cache")
	header.Set("X-KV-Version", strconv.FormatInt(e.Version, 10))
	header.Set("X-KV-Revision", strconv.FormatInt(e.Revision, 10))
	if e.Expires != 0 {
		header.Set("X-KV-Expires-At", string(e.Expires.AppendJSON(nil)))
	}
	setETag(c, e.Version)

	if err := setRanges(c, e.Version, int64(len(e.Value))); err != nil {
		return err
	}
	request := c.Request.Header
	request.Del("If-Match") // both were evaluated, and ServeContent sees the first field alone
	request.Del("If-None-Match")
	http.ServeContent(c.Writer, c.Request, "", time.Time{}, bytes.NewReader(e.Value))
	return nil
}
