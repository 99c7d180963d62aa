package api

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"time"

	"kvstore/backend/kv"
	"kvstore/backend/store"
)

// readEntry reads the version that the query names: by its number, by the time at
// which it was the latest, or else the latest.
func (a *API) readEntry(ctx context.Context, key string, q query) (kv.Entry, store.Source, error) {
	version, err := q.positive("version")
	if err != nil {
		return kv.Entry{}, "", err
	}
	switch {
	case q.Has("at"):
		at, err := q.time("at")
		if err != nil {
			return kv.Entry{}, "", err
		}
		if version != 0 {
			return kv.Entry{}, "", invalid("at", "cannot be given together with version")
		}
		return a.store.GetAt(ctx, key, at)
	case version != 0:
		return a.store.GetVersion(ctx, key, version)
	default:
		return a.store.Get(ctx, key)
	}
}

const (
	timeRule = "must be a time of RFC 3339 such as 2025-11-24T16:00:00.123456Z, " +
		"or Unix seconds such as 1764000000.123456, from 1970 to 9999"
	micros     = 1_000_000
	maxSeconds = 253402300799 // the last second of the year 9999
)

// time returns a time to the microsecond; what is finer is cut off. No float is on
// the way, so a timestamp that an answer tells names that very time.
func (q query) time(name string) (kv.Timestamp, error) {
	text := q.Text(name)
	at, ok := parseSeconds(text)
	if !ok {
		at, ok = parseRFC3339(text)
	}
	if !ok {
		return 0, invalid(name, timeRule)
	}
	return at, nil
}

// parseSeconds parses decimal digits, and perhaps a point and more of them.
func parseSeconds(text string) (kv.Timestamp, bool) {
	whole, fraction, pointed := strings.Cut(text, ".")
	if !digits(whole) || pointed && !digits(fraction) {
		return 0, false
	}
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || seconds > maxSeconds {
		return 0, false
	}
	padded := (fraction + "000000")[:6]
	rest, err := strconv.ParseInt(padded, 10, 64)
	return kv.Timestamp(seconds*micros + rest), err == nil
}

func digits(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}

// rfc3339 is the form that package time takes too little care of.
var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

// parseRFC3339 parses strictly. A plus that was not escaped arrives as a space.
func parseRFC3339(text string) (kv.Timestamp, bool) {
	const offset = len("+00:00")
	if i := len(text) - offset; i > 0 && text[i] == ' ' {
		text = text[:i] + "+" + text[i+1:]
	}
	text = strings.ToUpper(text)
	if !rfc3339.MatchString(text) {
		return 0, false
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || t.Unix() < 0 || t.Unix() > maxSeconds {
		return 0, false
	}
	return kv.NewTimestamp(t), true
}
