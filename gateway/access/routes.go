package access

import (
	"bytes"
	"net/url"
	"strings"
)

// A Kind says who answers the requests for a route, and how.
type Kind uint8

// The kinds. The first four are answered by a backend.
const (
	Forwarded Kind = iota
	Batched        // the body may be that of many writes
	Streamed       // the answer may begin late and never ends
	Guarded        // the answer may begin late; hidden without access control
	Hidden         // the backend has it, but not for the outside
	Alive          // whether the gateway runs
	Health         // how the gateway and its backends are
	Insecure       // where Traefik sends requests that brought a token without TLS
)

// A scope says which keys a route is about.
type scope uint8

const (
	nothing  scope = iota // nobody may use it
	open                  // none; no token is needed
	ofKey                 // the key in the path
	ofAll                 // the whole store
	filtered              // those that the token allows; the backend filters
)

// A Route is a path that the gateway knows, or all paths that begin with a verb. The method does
// not matter: a wrong one is the backend's 405.
type Route struct {
	// Label is the path in the OpenAPI document, "" if it is not there.
	Label  string
	Kind   Kind
	scope  scope
	rights Rights // all of them are needed; for filtered, one of them
}

// routes is the one table of routes. With access control no other path is forwarded.
var routes = []Route{
	{"/get/{key}", Forwarded, ofKey, Read},
	{"/history/{key}", Forwarded, ofKey, Read},
	{"/diff/{key}", Forwarded, ofKey, Read},
	{"/put/{key}", Forwarded, ofKey, Write},
	{"/delete/{key}", Forwarded, ofKey, Write},
	{"/revert/{key}", Forwarded, ofKey, Write},
	{"/patch/{key}", Forwarded, ofKey, Read | Write}, // a JSON patch can test what the value is
	{"/destroy/{key}", Forwarded, ofKey, Admin},
	{"/keys", Forwarded, filtered, Read},
	{"/watch", Streamed, filtered, Read},
	{"/batch", Batched, filtered, Read | Write},
	{"/cache/stats", Forwarded, ofAll, Read}, // they count all keys
	{"/db/stats", Forwarded, ofAll, Read},
	{"/db/backup", Guarded, ofAll, Admin},
	{"/docs", Forwarded, open, 0},
	{"/docs/{any}", Forwarded, open, 0},
	{"/openapi.json", Forwarded, open, 0},
	{"/healthz", Alive, open, 0},
	{"/health", Health, open, 0},
	{"/readyz", Hidden, nothing, 0},
	{"/metrics", Hidden, nothing, 0},
	{"/db/compact", Hidden, nothing, 0},
	{"/tls-required", Insecure, nothing, 0},
}

// other is the route of all other paths. Without access control they are forwarded, and the
// backend answers 404.
var other = &Route{}

// whole has the routes of a single path. verbs has the others, by what precedes the second slash.
var whole, verbs = func() (whole, verbs map[string]*Route) {
	whole, verbs = map[string]*Route{}, map[string]*Route{}
	for i := range routes {
		route := &routes[i]
		path := route.Label
		if verb, _, found := strings.Cut(path, "/{"); found {
			verbs[verb] = route
		} else {
			whole[path] = route
		}
		if route.scope == nothing {
			route.Label = ""
		}
	}
	return whole, verbs
}()

// Labels returns the labels of all routes that have one.
func Labels() (labels []string) {
	for i := range routes {
		if routes[i].Label != "" {
			labels = append(labels, routes[i].Label)
		}
	}
	return labels
}

// A Match is the route of a request, and the key that its path names.
type Match struct {
	*Route

	key []byte
}

// Find returns the route of a path as the client spelled it. It decodes the path first, as the
// backend does: /%72eadyz must not reach what /readyz must not.
func Find(path []byte) Match {
	if bytes.IndexByte(path, '%') >= 0 {
		decoded, err := url.PathUnescape(string(path))
		if err != nil { // h1 refuses those
			return Match{Route: other}
		}
		path = []byte(decoded)
	}
	if route := whole[string(path)]; route != nil {
		return Match{Route: route}
	}
	if len(path) > 1 {
		if slash := bytes.IndexByte(path[1:], '/') + 1; slash > 0 {
			if route := verbs[string(path[:slash])]; route != nil {
				return Match{route, path[slash+1:]}
			}
		}
	}
	return Match{Route: other}
}
