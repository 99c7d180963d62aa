// Package rfc3339 parses times more strictly than package time, which accepts an offset of
// 24 hours, and with leap seconds, which it refuses.
package rfc3339

import (
	"regexp"
	"strings"
	"time"
)

var form = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

// Parse parses a time of RFC 3339 in the years 0000 to 9999 of UTC, and reports whether it is
// valid. A leap second, 23:59:60 UTC on any day, is the second after it, as in Unix time.
func Parse(text string) (time.Time, bool) {
	const seconds, end = len("2006-01-02T15:04:"), len("2006-01-02T15:04:05")
	text = strings.ToUpper(text)
	if !form.MatchString(text) {
		return time.Time{}, false
	}
	leap := text[seconds:end] == "60"
	if leap {
		text = text[:seconds] + "59" + text[end:]
	}
	t, err := time.Parse(time.RFC3339, text)
	if leap {
		if utc := t.UTC(); utc.Hour() != 23 || utc.Minute() != 59 {
			return time.Time{}, false
		}
		t = t.Add(time.Second)
	}
	year := t.UTC().Year()
	return t, err == nil && year >= 0 && year <= 9999
}
