package main

import (
	"slices"

	"github.com/getkin/kin-openapi/openapi3"

	"kvstore/internal/problem"
)

// unguarded are the paths that need no access token, and one that none opens.
var unguarded = []string{"/health", "/healthz", "/readyz", "/docs", "/docs/{file}", "/openapi.json", "/db/compact"}

// secure adds what the gateway answers for access tokens to every operation that needs
// one. It is the same for all, and so not in the annotations.
func secure(document *openapi3.T) {
	document.Components.SecuritySchemes = openapi3.SecuritySchemes{"token": {Value: &openapi3.SecurityScheme{
		Type: "http", Scheme: "bearer",
		Description: "An access token. It is needed only where the operator has set KV_TOKENS_FILE.",
	}}}
	for path, item := range document.Paths.Map() {
		for _, operation := range item.Operations() {
			if slices.Contains(unguarded, path) {
				continue
			}
			operation.Security = &openapi3.SecurityRequirements{{}, {"token": {}}} // either none or it
			operation.Responses.Set("401", refusal(document, "There is no access token, or one that is unknown, was revoked or has expired (code unauthorized, invalid_token)"))
			operation.Responses.Set("403", refusal(document, "The access token lacks a right, which detail and the member right name (code forbidden)"))
		}
	}
}

// refusal is an answer with a challenge, as RFC 6750 says.
func refusal(document *openapi3.T, description string) *openapi3.ResponseRef {
	content := openapi3.NewContentWithSchemaRef(openapi3.NewSchemaRef("#/components/schemas/Problem", document.Components.Schemas["Problem"].Value), []string{problem.ContentType})
	response := openapi3.NewResponse().WithDescription(description).WithContent(content)
	response.Headers = openapi3.Headers{"WWW-Authenticate": {Value: &openapi3.Header{Parameter: openapi3.Parameter{
		Description: "What to bring: a Bearer token, and the error",
		Schema:      openapi3.NewStringSchema().NewRef(),
	}}}}
	return &openapi3.ResponseRef{Value: response}
}
