package api

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"kvstore/backend/kv"
	"kvstore/internal/problem"
)

// etag is the entity tag of a version, that of its raw value too: the tag names the
// version, so that it can be given back as a condition wherever it was read.
func etag(version int64) string { return string(appendETag(nil, version)) }

func appendETag(b []byte, version int64) []byte {
	return append(strconv.AppendInt(append(b, '"'), version, 10), '"')
}

// conditionOf reads If-Match and If-None-Match of a write, as RFC 9110, section
// 13.1, says. A tag that no version can have matches nothing; what is no list of
// tags is 400.
func conditionOf(header http.Header) (kv.Condition, error) {
	var condition kv.Condition
	if fields := header.Values("If-Match"); len(fields) > 0 {
		tags, err := parseTags("If-Match", fields)
		if err != nil {
			return kv.Condition{}, err
		}
		if tags.any {
			condition.Exists = true
		} else {
			condition.OneOf = tags.strong
		}
	}
	if fields := header.Values("If-None-Match"); len(fields) > 0 {
		tags, err := parseTags("If-None-Match", fields)
		if err != nil {
			return kv.Condition{}, err
		}
		condition.Absent = tags.any
		condition.NoneOf = slices.Concat(tags.strong, tags.weak) // compared weakly
	}
	return condition, nil
}

// tags are the versions that a list of entity tags names.
type tags struct {
	any          bool // the list is *
	strong, weak []int64
}

// parseTags parses the fields of one header, which together are one list.
func parseTags(name string, fields []string) (tags, error) {
	found := tags{strong: []int64{}}
	rest := strings.Trim(strings.Join(fields, ","), " \t") // TrimSpace takes a no-break space away too
	if rest == "*" {
		found.any = true
		return found, nil
	}
	for empty := true; ; {
		rest = strings.TrimLeft(rest, " \t,")
		if rest == "" {
			if empty {
				return tags{}, malformedTags(name)
			}
			return found, nil
		}
		opaque, weak, after, ok := cutTag(rest)
		if !ok {
			return tags{}, malformedTags(name)
		}
		empty, rest = false, after
		version, err := strconv.ParseInt(opaque, 10, 64)
		switch {
		case err != nil || version < 1 || strconv.FormatInt(version, 10) != opaque: // of no version
		case weak:
			found.weak = append(found.weak, version)
		default:
			found.strong = append(found.strong, version)
		}
	}
}

// explainWeak says of an If-Match that did not hold why a weak tag in it could not.
func explainWeak(p *problem.Problem, header http.Header) {
	if tags, err := parseTags("If-Match", header["If-Match"]); err == nil && len(tags.weak) > 0 {
		p.Detail += fmt.Sprintf("; If-Match compares strongly, so a weak tag such as W/%[1]s never matches: send %[1]s", etag(tags.weak[0]))
	}
}

// cutTag cuts one entity tag off the front of list; a comma or nothing must follow.
func cutTag(list string) (opaque string, weak bool, rest string, ok bool) {
	list, weak = strings.CutPrefix(list, "W/")
	list, quoted := strings.CutPrefix(list, `"`)
	opaque, rest, closed := strings.Cut(list, `"`)
	if !quoted || !closed || strings.ContainsFunc(opaque, notInTag) {
		return "", false, "", false
	}
	rest = strings.TrimLeft(rest, " \t")
	return opaque, weak, rest, rest == "" || rest[0] == ','
}

// notInTag reports a character that no entity tag has.
func notInTag(r rune) bool { return r <= ' ' || r == 0x7f }

func malformedTags(name string) error {
	return problem.New(http.StatusBadRequest, "malformed_condition",
		fmt.Sprintf("%s: must be * or a list of entity tags such as %s", name, etag(3)))
}
