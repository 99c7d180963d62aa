package api

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	"kvstore/internal/problem"
)

// maxRanges is how many ranges a request may name: each is sent with a head of its own.
const maxRanges = 32

// setRanges reads Range and If-Range for a value of that size, and leaves a Range that
// http.ServeContent does what it says. What RFC 9110, section 14, lets a server ignore or
// refuse is refused, but for a unit that is not bytes, which it must ignore. An empty
// value has no bytes to choose from, and is sent whole.
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
		return badRange(fmt.Sprintf("must be such as bytes=0-99, bytes=100- or bytes=-5, and may have %d of them separated by commas", maxRanges))
	case size == 0:
		return nil
	case len(ranges) == 0:
		c.Header("Content-Range", fmt.Sprintf("bytes */%d", size))
		return badRange(fmt.Sprintf("must be within the %d bytes of the value", size))
	}
	header.Set("Range", "bytes="+strings.Join(ranges, ","))
	return nil
}

func badRange(rule string) error {
	return problem.New(http.StatusRequestedRangeNotSatisfiable, "invalid_range", "Range: "+rule)
}

// parseRanges returns those of a set of ranges that have a byte of a value of that size,
// each as first-last, and whether the set is well-formed.
func parseRanges(set string, size int64) (within []string, ok bool) {
	count := 0
	for element := range strings.SplitSeq(set, ",") {
		if element = strings.Trim(element, " \t"); element == "" {
			continue // as a list may have
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

// saturated is a number, or the largest there is in the place of a larger one.
func saturated(digits string) int64 {
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return math.MaxInt64
	}
	return n
}
