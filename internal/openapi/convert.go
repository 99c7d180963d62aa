package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/getkin/kin-openapi/openapi2"
	"github.com/getkin/kin-openapi/openapi2conv"
	"github.com/getkin/kin-openapi/openapi3"

	"kvstore/internal/problem"
)

// convert turns the Swagger 2 document that swag generates into OpenAPI 3. It adds
// what Swagger 2 has no words for: that errors are of another media type than
// answers, that a member may be null (x-nullable), that one may be any JSON value
// (x-any), and the examples of parameters; and what all operations have in common.
func convert(in io.Reader, out io.Writer) error {
	text, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	swagger, err := parse(text)
	if err != nil {
		return fmt.Errorf("read the Swagger document: %w", err)
	}
	document, err := openapi2conv.ToV3(swagger)
	if err != nil {
		return fmt.Errorf("convert: %w", err)
	}
	for _, item := range document.Paths.Map() {
		for method, operation := range item.Operations() {
			typeProblems(operation)
			giveExamples(operation)
			giveBodies(operation)
			nameSecond(item, method, operation)
		}
	}
	addCommon(document)
	giveTypes(document)
	document.Servers = openapi3.Servers{{URL: "/"}}
	if err := document.Validate(context.Background()); err != nil {
		return fmt.Errorf("the converted document is not valid: %w", err)
	}
	return write(out, document)
}

func write(out io.Writer, document *openapi3.T) error {
	text, err := document.MarshalJSON()
	if err != nil {
		return err
	}
	if text, err = inOrder(text); err != nil {
		return err
	}
	var answer bytes.Buffer
	encoder := json.NewEncoder(&answer)
	encoder.SetIndent("", "    ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(json.RawMessage(text)); err != nil {
		return err
	}
	_, err = answer.WriteTo(out)
	return err
}

// nameSecond gives the POST that does what a PUT does an id of its own.
func nameSecond(item *openapi3.PathItem, method string, operation *openapi3.Operation) {
	if method == http.MethodPost && item.Put != nil {
		operation.OperationID = "post" + strings.TrimPrefix(operation.OperationID, "put")
	}
}

// parse reads the document. The example of a parameter is none of Swagger 2, and is
// kept as an extension.
func parse(text []byte) (*openapi2.T, error) {
	var raw struct {
		Paths map[string]map[string]struct{ Parameters []struct{ Example any } }
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, err
	}
	var swagger openapi2.T
	if err := json.Unmarshal(text, &swagger); err != nil {
		return nil, err
	}
	for path, item := range swagger.Paths {
		for method, operation := range item.Operations() {
			from := raw.Paths[path][strings.ToLower(method)].Parameters
			for i, parameter := range operation.Parameters {
				if example := from[i].Example; example != nil && parameter.In != "body" {
					parameter.Extensions = map[string]any{exampleExtension: example}
				}
			}
		}
	}
	return &swagger, nil
}

// The extensions in which examples pass through Swagger 2: that of a parameter, and
// those of a body by their media types.
const (
	exampleExtension = "x-example"
	bodiesExtension  = "x-body-examples"
)

// giveExamples makes the extensions examples again, for parameters that must be
// there. A page that tries operations would send those of the others too, all at
// once; they go into the descriptions.
func giveExamples(operation *openapi3.Operation) {
	for _, ref := range operation.Parameters {
		parameter := ref.Value
		example, found := parameter.Extensions[exampleExtension]
		switch {
		case !found:
			continue
		case parameter.Required:
			parameter.Example = example
		default:
			parameter.Description += fmt.Sprintf("; for example %v", example)
		}
		delete(parameter.Extensions, exampleExtension)
	}
}

// giveBodies gives a body the example of each of its types, and the shape that goes
// with it: Swagger 2 has one for all types.
func giveBodies(operation *openapi3.Operation) {
	if operation.RequestBody == nil {
		return
	}
	examples, _ := operation.Extensions[bodiesExtension].(map[string]any)
	delete(operation.Extensions, bodiesExtension)
	delete(operation.RequestBody.Value.Extensions, "x-originalParamName")
	for kind, media := range operation.RequestBody.Value.Content {
		media.Example = examples[kind]
		if !strings.HasSuffix(kind, "json") {
			media.Schema = openapi3.NewStringSchema().WithFormat("binary").NewRef()
		} else if _, list := media.Example.([]any); list {
			media.Schema = openapi3.NewArraySchema().WithItems(openapi3.NewObjectSchema()).NewRef()
		}
	}
}

// typeProblems gives every answer that is a problem the media type of problems.
func typeProblems(operation *openapi3.Operation) {
	for _, response := range operation.Responses.Map() {
		for _, media := range response.Value.Content {
			if media.Schema != nil && media.Schema.Ref == "#/components/schemas/Problem" {
				response.Value.Content = openapi3.Content{problem.ContentType: media}
				break
			}
		}
	}
}
