package access

import (
	"bytes"
	"net/url"
	"strings"
)

// A Kind says who answers the requests of a route, and how.
type Kind uint8

// The kinds. The first four are answered by a backend.
const (
	Forwarded Kind = iota
	Batched        // the body may be that of many writes
	Streamed       // the answer may begin late and never ends
	Guarded        // the answer may begin late; hidden unless there is access control
	Hidden         // of the backend, and not for the outside
	Alive          // whether the gateway runs
	Health         // how the gateway and its backends are
	Insecure       // where Traefik sends what has a token and came without TLS
)

// A scope is which keys a route is about.
type scope uint8

const (
	nothing  scope = iota // for nobody
	open                  // none that need a token
	ofKey                 // the key that follows in the path
	ofAll                 // the whole store
	filtered              // those that the backend finds to be allowed
)

// A Route is a path that the gateway knows, or all that begin with a verb. It decides by itself,
// whatever the method: one that does not go with it is the backend's 405.
type Route struct {
	// Label is the path in the OpenAPI document, "" for those that it does not have.
	Label  string
	Kind   Kind
	scope  scope
	rights Rights // all of them, for filtered one of them
}

// routes are all that the gateway knows. With access control no other path is forwarded.
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

// other is the route of all other paths. Without access control it is for the backend to say
// that there is none.
var other = &Route{}

// whole has the routes of one path each, verbs the others by what stands before the second slash.
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

// Labels are those of all routes that have one.
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

// Find returns the route of a path as the client spelt it. The path is decoded first, as the
// backend does it: /%72eadyz must not reach what /readyz must not.
func Find(path []byte) Match {
	if bytes.IndexByte(path, '%') >= 0 {
		decoded, err := url.PathUnescape(string(path))
		if err != nil { // wire refuses those
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
