package proxy

import (
	"net/http"
	"net/url"
	"strings"
)

// originForm returns the path and query of a request target, byte for byte as
// the client sent them. It reports false for a target that has no path, such as
// the host:port of CONNECT.
func originForm(target string) (string, bool) {
	if strings.HasPrefix(target, "/") || target == "*" {
		return target, true
	}
	_, rest, found := strings.Cut(target, "://") // absolute-form, which every server must take
	if !found {
		return "", false
	}
	switch i := strings.IndexAny(rest, "/?"); {
	case i < 0:
		return "/", true
	case rest[i] == '?':
		return "/" + rest[i:], true
	default:
		return rest[i:], true
	}
}

// targetURL returns a URL, without a host, that http.Transport sends as target.
// Opaque is sent as it is; Path would lose an empty query and escape characters
// that are not allowed but usual, such as raw UTF-8, { and |.
//
// An Opaque with two slashes in front would be sent with a scheme, which is an
// authority to the backend. There Path is all there is; it keeps every escape
// but escapes such a character. No endpoint begins with two slashes.
func targetURL(target string) *url.URL {
	if !strings.HasPrefix(target, "//") {
		return &url.URL{Scheme: "http", Opaque: target}
	}
	raw, query, found := strings.Cut(target, "?")
	path, err := url.PathUnescape(raw)
	if err != nil { // cannot be: the server has parsed it
		path = raw
	}
	return &url.URL{Scheme: "http", Path: path, RawPath: raw, RawQuery: query, ForceQuery: found}
}

// isStream reports whether the answer to r may begin late and never ends.
func isStream(r *http.Request) bool { return r.URL.Path == "/watch" }
