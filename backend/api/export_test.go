package api

import (
	"strings"

	"kvstore/internal/parameters"
)

// KnownParameters returns the parameters of each route, by its method and its path in the
// OpenAPI document.
func KnownParameters() map[string][]string {
	known := map[string][]string{}
	for _, r := range (&API{}).routes() {
		for _, method := range r.methods {
			names := []string{}
			for _, name := range r.query {
				names = append(names, strings.TrimSuffix(name, parameters.List))
			}
			known[method+" "+labelOf(r.path)] = names
		}
	}
	return known
}
