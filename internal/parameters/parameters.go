// Package parameters parses the query of a request by the rule of every hop: a parameter that
// the route does not know or that is given twice is refused.
package parameters

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"kvstore/internal/problem"
)

// List marks a name in the known ones of Parse: the parameter may be given more than once, as
// parts of one list.
const List = "..."

// maxNameShown is how many bytes of an unknown name the answer repeats.
const maxNameShown = 100

// A Set has the parameters of a request.
type Set struct{ given []parameter }

type parameter struct{ name, value string }

// Parse parses the query of a URL for a route that knows these parameters. Names are
// case-sensitive, and compared after percent-decoding; one that begins with _ is ignored.
// Errors are a *problem.Problem: for a parameter that is unknown or given twice, or a
// malformed escape. A semicolon is an ordinary character, since Traefik escapes it.
func Parse(query string, known ...string) (Set, error) {
	var s Set
	for query != "" {
		var pair string
		if pair, query, _ = strings.Cut(query, "&"); pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, badName := url.QueryUnescape(name)
		value, badValue := url.QueryUnescape(value)
		if err := errors.Join(badName, badValue); err != nil {
			return Set{}, problem.New(http.StatusBadRequest, "malformed_query", "query: "+err.Error())
		}
		switch {
		case strings.HasPrefix(name, "_"): // busts caches
			continue
		case slices.Contains(known, name+List):
		case !slices.Contains(known, name), strings.HasSuffix(name, List):
			return Set{}, unknown(name, known)
		case s.Has(name):
			return Set{}, problem.New(http.StatusUnprocessableEntity, "repeated_parameter", name+": is given more than once").
				With("parameter", name)
		}
		s.given = append(s.given, parameter{name, value})
	}
	return s, nil
}

func unknown(name string, known []string) error {
	names := make([]string, len(known))
	for i := range known {
		names[i] = strings.TrimSuffix(known[i], List)
	}
	rule := "this request has none"
	if len(names) > 0 {
		rule = "the known ones are " + strings.Join(names, ", ")
	}
	name = strings.ToValidUTF8(name, "\ufffd")
	if len(name) > maxNameShown {
		name = strings.ToValidUTF8(name[:maxNameShown], "") + "…"
	}
	return problem.New(http.StatusUnprocessableEntity, "unknown_parameter", fmt.Sprintf("query: the parameter '%s' is unknown; %s", name, rule)).
		With("parameter", name).With("known", names)
}

// Has reports whether a parameter is given, even if it is empty.
func (s Set) Has(name string) bool {
	return slices.ContainsFunc(s.given, func(p parameter) bool { return p.name == name })
}

// Text returns the value of a parameter, "" if it is not given. Those of a List are joined
// by commas.
func (s Set) Text(name string) string {
	var texts []string
	for _, p := range s.given {
		if p.name == name {
			texts = append(texts, p.value)
		}
	}
	return strings.Join(texts, ",")
}
