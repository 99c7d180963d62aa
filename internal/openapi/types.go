package main

import (
	"github.com/getkin/kin-openapi/openapi3"
)

// giveTypes gives every number in the document a format, so that generators do not choose a
// smaller one, and replaces the extensions of schemas by what they mean.
func giveTypes(document *openapi3.T) {
	extendProblem(document.Components.Schemas)
	for _, schema := range document.Components.Schemas {
		giveType(schema)
	}
	for _, header := range document.Components.Headers {
		giveType(header.Value.Schema)
	}
	for _, item := range document.Paths.Map() {
		for _, operation := range item.Operations() {
			for _, parameter := range operation.Parameters {
				giveType(parameter.Value.Schema)
			}
			if body := operation.RequestBody; body != nil {
				giveContentTypes(body.Value.Content)
			}
			for _, response := range operation.Responses.Map() {
				giveContentTypes(response.Value.Content)
				for _, header := range response.Value.Headers {
					giveType(header.Value.Schema)
				}
			}
		}
	}
}

func giveContentTypes(content openapi3.Content) {
	for _, media := range content {
		giveType(media.Schema)
	}
}

func giveType(ref *openapi3.SchemaRef) {
	if ref == nil || ref.Ref != "" {
		return
	}
	schema := ref.Value
	switch {
	case schema.Type.Is(openapi3.TypeInteger):
		schema.Format = "int64"
	case schema.Type.Is(openapi3.TypeNumber):
		schema.Format = "double"
	case schema.Type.Is(openapi3.TypeObject) && len(schema.Properties) == 0:
		schema.WithAnyAdditionalProperties() // else TypeScript takes it for one without members
	}
	if _, found := schema.Extensions["x-any"]; found {
		// No type is any type, null included. Go clients of oapi-codegen keep the text and
		// so every digit.
		schema.Type = nil
		schema.Extensions = map[string]any{"x-go-type": "json.RawMessage"}
	}
	if _, found := schema.Extensions["x-nullable"]; found {
		schema.Nullable = true
		delete(schema.Extensions, "x-nullable")
	}
	giveType(schema.Items)
	for _, member := range schema.Properties {
		giveType(member)
	}
}

// extendProblem adds the members that only some problems have.
func extendProblem(schemas openapi3.Schemas) {
	problem := schemas["Problem"].Value
	for name, text := range map[string]string{
		"current_version": "precondition_failed: the latest version, 0 if the key does not exist",
		"condition":       "of a batch: the index of the condition that does not hold",
		"operation":       "of a batch or a patch: the index of the operation that failed",
	} {
		problem.Properties[name] = openapi3.NewInt64Schema().NewRef()
		problem.Properties[name].Value.Description = text
	}
	for name, text := range map[string]string{
		"key":     "precondition_failed: the key",
		"pointer": "patch_conflict: where in the value",
		"right":   "forbidden: the right that the access token lacks",
	} {
		problem.Properties[name] = openapi3.NewStringSchema().NewRef()
		problem.Properties[name].Value.Description = text
	}
	for _, name := range []string{"gateway", "backend", "database"} { // unhealthy
		problem.Properties[name] = openapi3.NewSchemaRef("#/components/schemas/Part", schemas["Part"].Value)
	}
	problem.WithAnyAdditionalProperties()
}
