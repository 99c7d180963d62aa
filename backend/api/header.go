package api

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"kvstore/internal/problem"
)

// checkHeader refuses what the header of a request says and the route would not do. A
// read may ignore a date, as RFC 9110, section 13.1, allows.
func checkHeader(c *gin.Context, evaluates bool) error {
	header := c.Request.Header
	if !evaluates {
		for _, name := range []string{"If-Match", "If-None-Match"} {
			if len(header[name]) > 0 {
				return noCondition(name, c.FullPath())
			}
		}
	}
	if method := c.Request.Method; method == http.MethodGet || method == http.MethodHead {
		return nil
	}
	for _, name := range []string{"If-Modified-Since", "If-Unmodified-Since"} {
		if len(header[name]) > 0 {
			return noCondition(name, c.FullPath())
		}
	}
	return checkBody(c)
}

// noCondition says what takes the place of a condition that is not evaluated.
func noCondition(name, path string) error {
	hint := ""
	switch {
	case path == batchRoute:
		hint = "; a batch has conditions and if_version in its body"
	case strings.HasSuffix(name, "-Since"):
		hint = "; If-Match with the ETag of a version is exact where a date is not"
	}
	return problem.New(http.StatusBadRequest, "unsupported_condition", name+": is not a condition of this request"+hint)
}

// checkBody refuses a body that would be taken for something else than it is: an encoded
// one, a part of one, as a resumed upload sends, or one of two types.
func checkBody(c *gin.Context) error {
	header := c.Request.Header
	for coding := range strings.SplitSeq(strings.Join(header["Content-Encoding"], ","), ",") {
		if coding = strings.TrimSpace(coding); coding != "" && !strings.EqualFold(coding, "identity") {
			c.Header("Accept-Encoding", "identity")
			return problem.New(http.StatusUnsupportedMediaType, "unsupported_media_type",
				"Content-Encoding: is not supported; send the value without an encoding, or under a Content-Type that names it")
		}
	}
	switch {
	case len(header["Content-Range"]) > 0:
		return problem.New(http.StatusBadRequest, "partial_put", "Content-Range: a value can only be written whole")
	case len(header["Content-Type"]) > 1:
		return badHeader("Content-Type", fmt.Sprintf("is given %d times; send it once", len(header["Content-Type"])))
	}
	return nil
}
