package api

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"kvstore/backend/kv"
	"kvstore/internal/problem"
)

// writeRaw answers with the value alone. A browser must neither run a value in the name
// of this origin nor take it for another type. There is no Last-Modified: its seconds are
// too coarse to tell versions apart.
func writeRaw(c *gin.Context, e kv.Entry) error {
	header := c.Writer.Header()
	header.Set("Content-Type", cmp.Or(e.ContentType, jsonType))
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
	request.Del("If-Match") // both were evaluated, and ServeContent reads only the first field
	request.Del("If-None-Match")
	http.ServeContent(c.Writer, c.Request, "", time.Time{}, bytes.NewReader(e.Value))
	return nil
}

// maxRanges is how many ranges a request may name: each is sent with its own header.
const maxRanges = 32

// setRanges replaces Range and If-Range of a request for a value of that size by a Range
// that http.ServeContent serves exactly. It refuses what RFC 9110, section 14, lets a
// server ignore or refuse, except a unit other than bytes, which a server must ignore. An
// empty value is sent whole.
func setRanges(c *gin.Context, version, size int64) error {
	header := c.Request.Header
	fields, validator := header["Range"], header["If-Range"]
	header.Del("Range")
	header.Del("If-Range")
	unit, set, _ := strings.Cut(strings.Join(fields, ","), "=")
	switch {
	case c.Request.Method != http.MethodGet, !strings.EqualFold(unit, "bytes"):
		return nil
	case len(validator) > 0 && (len(validator) > 1 || validator[0] != etag(version)):
		return nil
	}
	ranges, ok := parseRanges(set, size)
	switch {
	case !ok:
		return invalidRange(fmt.Sprintf("must be such as bytes=0-99, bytes=100- or bytes=-5, and may have %d of them separated by commas", maxRanges))
	case size == 0:
		return nil
	case len(ranges) == 0:
		c.Header("Content-Range", fmt.Sprintf("bytes */%d", size))
		return invalidRange(fmt.Sprintf("must be within the %d bytes of the value", size))
	}
	header.Set("Range", "bytes="+strings.Join(ranges, ","))
	return nil
}

func invalidRange(rule string) error {
	return problem.New(http.StatusRequestedRangeNotSatisfiable, "invalid_range", "Range: "+rule)
}

// parseRanges returns the ranges of a set that overlap a value of that size, each as
// first-last, and whether the set is well-formed.
func parseRanges(set string, size int64) (within []string, ok bool) {
	count := 0
	for element := range strings.SplitSeq(set, ",") {
		if element = strings.Trim(element, " \t"); element == "" {
			continue // a list may have empty elements
		}
		first, last, ok := parseRange(element, size)
		if count++; !ok || count > maxRanges {
			return nil, false
		}
		if first < size && first <= last {
			within = append(within, fmt.Sprintf("%d-%d", first, min(last, size-1)))
		}
	}
	return within, count > 0
}

// parseRange parses first-last, first- or -length.
func parseRange(text string, size int64) (first, last int64, ok bool) {
	before, after, dashed := strings.Cut(text, "-")
	switch {
	case !dashed, before == "" && after == "", before != "" && !digits(before), after != "" && !digits(after):
		return 0, 0, false
	case before == "":
		length := min(saturated(after), size)
		return size - length, size - 1, true
	case after == "":
		return saturated(before), size - 1, true
	default:
		first, last = saturated(before), saturated(after)
		return first, last, first <= last
	}
}

// saturated returns a number, math.MaxInt64 for one that is larger.
func saturated(digits string) int64 {
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return math.MaxInt64
	}
	return n
}
