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

// convert converts the Swagger 2 document that swag generates to OpenAPI 3. It adds what
// Swagger 2 cannot express: that errors have another media type than answers, that a member
// may be null (x-nullable) or any JSON value (x-any), and the examples of parameters. It
// also adds what operations have in common.
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

// nameSecond gives a POST that does the same as a PUT its own id.
func nameSecond(item *openapi3.PathItem, method string, operation *openapi3.Operation) {
	if method == http.MethodPost && item.Put != nil {
		operation.OperationID = "post" + strings.TrimPrefix(operation.OperationID, "put")
	}
}

// parse parses the document. Swagger 2 does not have examples of parameters; parse keeps
// them as extensions.
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

// The extensions that carry examples through Swagger 2: that of a parameter, and those of a
// body by their media types.
const (
	exampleExtension = "x-example"
	bodiesExtension  = "x-body-examples"
)

// giveExamples turns the extensions of required parameters into examples. Those of optional
// ones go into the descriptions, since a page that tries an operation would send them all
// at once.
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

// giveBodies gives each media type of a body its own example and schema: Swagger 2 has one
// for all types.
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

// typeProblems sets the media type of answers that are problems.
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
