// Package docs holds the document of the HTTP API, and what our page of it adds to
// Swagger UI. Both JSON files are generated from the annotations in package api (task
// docs): swagger.json by swag, and openapi.json from it by internal/openapi.
package docs

import _ "embed"

// OpenAPI is the OpenAPI 3 document.
//
//go:embed openapi.json
var OpenAPI []byte

// Page is the page of the document, in HTML.
//
//go:embed ui/index.html
var Page []byte

// Script starts Swagger UI on the page, and shows answers as they came.
//
//go:embed ui/swagger-initializer.js
var Script []byte
