// Package docs holds the document of the HTTP API. Both JSON files are generated
// from the annotations in package api (task docs): swagger.json by swag, and
// openapi.json from it by internal/openapi.
package docs

import _ "embed"

// OpenAPI is the OpenAPI 3 document.
//
//go:embed openapi.json
var OpenAPI []byte
