package api

import (
	"context"
	"strconv"
	"strings"

	"kvstore/backend/kv"
	"kvstore/backend/store"
	"kvstore/internal/rfc3339"
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
		"or Unix seconds such as 1764000000.123456, from the year 0000 to 9999"
	micros     = 1_000_000
	minSeconds = -62167219200 // the first second of the year 0000
	maxSeconds = 253402300799 // the last second of the year 9999
)

// time returns a time to the microsecond, the last that is not later. No float is on
// the way, so a timestamp that an answer tells names that very time.
func (q query) time(name string) (kv.Timestamp, error) {
	text := q.Text(name)
	if at, ok := parseSeconds(text); ok {
		return at, nil
	}
	const offset = len("+00:00")
	if i := len(text) - offset; i > 0 && text[i] == ' ' { // a plus that was not escaped
		text = text[:i] + "+" + text[i+1:]
	}
	if at, ok := rfc3339.Parse(text); ok {
		return kv.NewTimestamp(at), nil
	}
	return 0, invalid(name, timeRule)
}

// parseSeconds parses decimal digits, and perhaps a minus before and a point and more
// digits behind them.
func parseSeconds(text string) (kv.Timestamp, bool) {
	text, negative := strings.CutPrefix(text, "-")
	whole, fraction, pointed := strings.Cut(text, ".")
	if !digits(whole) || pointed && !digits(fraction) {
		return 0, false
	}
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || seconds > maxSeconds {
		return 0, false
	}
	const places = len("000000")
	padded := fraction + "000000"
	part, err := strconv.ParseInt(padded[:places], 10, 64)
	at := seconds*micros + part
	if negative {
		if at = -at; strings.Trim(padded[places:], "0") != "" {
			at--
		}
	}
	return kv.Timestamp(at), err == nil && at >= minSeconds*micros
}

func digits(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}
