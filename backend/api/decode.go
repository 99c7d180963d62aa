package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"kvstore/backend/jsondoc"
	"kvstore/backend/kv"
	"kvstore/backend/store"
	"kvstore/internal/problem"
	"kvstore/internal/settings"
)

// keyOf returns what follows the verb in the decoded path.
func keyOf(c *gin.Context) string { return strings.TrimPrefix(c.Param("key"), "/") }

// changeOf returns the change that a write asks for, without its value: the key, the
// author and the conditions.
func changeOf(c *gin.Context, operation kv.Operation) (store.Change, error) {
	change := store.Change{Operation: operation, Key: keyOf(c)}
	err := kv.CheckKey(change.Key)
	if err != nil {
		return change, err
	}
	if change.Author, err = authorOf(c); err != nil {
		return change, err
	}
	change.If, err = conditionOf(c.Request.Header)
	return change, err
}

const maxAuthorBytes = 128

// authorOf returns the name of the bearer, "" if it is not known.
func authorOf(c *gin.Context) (string, error) {
	values := c.Request.Header[authorHeader]
	if len(values) == 0 {
		return "", nil
	}
	author := values[0]
	notVisible := func(r rune) bool { return r <= ' ' || r > '~' }
	if len(values) > 1 || len(author) > maxAuthorBytes || strings.ContainsFunc(author, notVisible) {
		return "", malformedHeader(authorHeader, fmt.Sprintf("must be at most %d visible characters of ASCII", maxAuthorBytes))
	}
	return author, nil
}

// conditionOf parses If-Match and If-None-Match as RFC 9110, section 13.1, says. A tag
// that no version can have matches nothing.
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
	rest := strings.Trim(strings.Join(fields, ","), " \t") // TrimSpace would cut a no-break space too
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

// cutTag cuts one entity tag off the front of list; a comma or nothing must follow.
func cutTag(list string) (opaque string, weak bool, rest string, ok bool) {
	list, weak = strings.CutPrefix(list, "W/")
	list, quoted := strings.CutPrefix(list, `"`)
	opaque, rest, closed := strings.Cut(list, `"`)
	notInTag := func(r rune) bool { return r <= ' ' || r == 0x7f }
	if !quoted || !closed || strings.ContainsFunc(opaque, notInTag) {
		return "", false, "", false
	}
	rest = strings.TrimLeft(rest, " \t")
	return opaque, weak, rest, rest == "" || rest[0] == ','
}

func malformedTags(name string) error {
	return problem.New(http.StatusBadRequest, "malformed_condition",
		fmt.Sprintf("%s: must be * or a list of entity tags such as %s", name, etag(3)))
}

// The bounds of a time to live. The upper one is 100 years, far below what a
// timestamp can hold.
const (
	minTTL = time.Millisecond
	maxTTL = 876_000 * time.Hour
)

const ttlRule = "must be a duration such as 90s or 1h30m, from 1ms to 876000h"

// ttl returns the time to live, 0 if none is given.
func (q query) ttl() (time.Duration, error) {
	if !q.Has("ttl") {
		return 0, nil
	}
	ttl, ok := parseTTL(q.Text("ttl"))
	if !ok {
		return 0, invalid("ttl", ttlRule)
	}
	return ttl, nil
}

// parseTTL parses a time to live and reports whether it is within the bounds.
func parseTTL(text string) (time.Duration, bool) {
	ttl, err := time.ParseDuration(text)
	return ttl, err == nil && ttl >= minTTL && ttl <= maxTTL
}

// readValue returns the value that a put sends: the member value of a JSON body, without
// a content type, or a body of any other type as it is, with its type as it was sent.
func readValue(c *gin.Context, maxValueBytes int64) (value []byte, contentType string, err error) {
	switch contentType = c.GetHeader("Content-Type"); {
	case contentType == "" || isJSONType(contentType):
		value, err = readJSONValue(c, maxValueBytes)
		return value, "", err
	case !isContentType(contentType):
		return nil, "", problem.New(http.StatusUnsupportedMediaType, "unsupported_media_type", "Content-Type: "+contentTypeRule)
	default:
		value, err = readBody(c, maxValueBytes, kv.ValueTooLarge(maxValueBytes))
		return value, contentType, err
	}
}

// readJSONValue returns the JSON text of the body's member value, as it was sent. Other
// members are ignored, as the predecessor did, except those that a client could believe in.
func readJSONValue(c *gin.Context, maxValueBytes int64) ([]byte, error) {
	body, err := readBody(c, settings.LimitOfBody(maxValueBytes).Bytes, kv.ValueTooLarge(maxValueBytes))
	if err != nil {
		return nil, err
	}
	if err := checkJSON(body); err != nil {
		return nil, explainUntyped(c, err)
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
		return nil, explainUntyped(c, problem.New(http.StatusUnprocessableEntity, "missing_value", `body: must be an object with the member "value"`))
	}
	return value, nil
}

// misplaced says where members belong that the body of a put must not have.
var misplaced = map[string]string{
	"ttl":        "belongs in the query, not in the body: ?ttl=90s",
	"if_version": `belongs in the header, not in the body: If-Match: "3", or If-None-Match: * for a key that does not exist`,
}

const untypedHint = "; a body without a Content-Type, as curl -T sends it, is taken for JSON: name its type to keep it as it is"

// explainUntyped tells a client that named no type, as curl -T does, what its body was taken for.
func explainUntyped(c *gin.Context, err error) error {
	var p *problem.Problem
	if c.GetHeader("Content-Type") == "" && errors.As(err, &p) {
		p.Detail += untypedHint
	}
	return err
}

// checkJSON returns nil if body is one JSON text in UTF-8.
func checkJSON(body []byte) error {
	switch {
	case bytes.HasPrefix(body, []byte("\xef\xbb\xbf")):
		return malformedJSON("begins with a byte order mark (EF BB BF), which is not JSON; send it without")
	case bytes.HasPrefix(body, []byte("\xff\xfe")), bytes.HasPrefix(body, []byte("\xfe\xff")):
		return malformedJSON("begins with a byte order mark of UTF-16; send it as UTF-8, without one")
	case !utf8.Valid(body):
		return malformedJSON("is not valid UTF-8")
	}
	if json.Valid(body) {
		return nil
	}
	return malformedJSON(json.Unmarshal(body, &struct{}{}).Error()) // Valid does not say why
}

// readJSON returns a body that is one JSON text in UTF-8 and within the limit.
func readJSON(c *gin.Context, limit settings.BodyLimit) ([]byte, error) {
	body, err := readBody(c, limit.Bytes, problem.New(http.StatusRequestEntityTooLarge, "value_too_large", limit.Exceeded()))
	if err != nil {
		return nil, err
	}
	return body, checkJSON(body)
}

// readBody returns the body. It fails with tooLarge if the body has more than limit bytes,
// and with kv.ErrOverloaded.
func readBody(c *gin.Context, limit int64, tooLarge error) ([]byte, error) {
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
		return nil, malformedJSON("could not be read to its end")
	}
	return body, nil
}

func malformedJSON(what string) error {
	if strings.HasSuffix(what, "exceeded max depth") { // all that encoding/json says
		what = "has more than 10000 arrays and objects in one another, which is a fixed limit"
	}
	return problem.New(http.StatusBadRequest, "malformed_json", "body: "+what)
}

// isJSONType reports whether a body of that type is JSON. A bare curl -d sends the second
// type.
func isJSONType(contentType string) bool {
	kind := mediaTypeOf(contentType)
	return kind == "application/json" || kind == "application/x-www-form-urlencoded"
}

// mediaTypeOf returns the media type of a content type, without its parameters.
func mediaTypeOf(contentType string) string {
	kind, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(kind))
}

// maxContentType is the length of the longest content type that is kept.
const maxContentType = 255

var contentTypeRule = fmt.Sprintf("must be a type such as image/png in at most %d printable ASCII characters", maxContentType)

// isContentType reports whether a raw value may have that type.
func isContentType(contentType string) bool {
	main, sub, ok := strings.Cut(mediaTypeOf(contentType), "/")
	notPrintable := func(r rune) bool { return r < ' ' || r >= 0x7f }
	return ok && main != "" && sub != "" && !strings.ContainsFunc(main+sub, notInType) &&
		len(contentType) <= maxContentType && !strings.ContainsFunc(contentType, notPrintable)
}

// notInType reports whether no token of HTTP (RFC 9110, section 5.6.2) has the character,
// or it is the * that stands for many types.
func notInType(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}*`, r)
}
