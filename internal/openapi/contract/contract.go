// Package contract checks answers of the service against its OpenAPI document.
package contract

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"kvstore/internal/problem"
)

// An Exchange is a request and what was answered.
type Exchange struct {
	Method string
	// Target is that of the request line.
	Target string
	Status int
	Header http.Header
	Body   []byte
}

// A Contract is a document to check against.
type Contract struct{ document *openapi3.T }

// New returns the contract of an OpenAPI 3 document, which must be valid.
func New(document []byte) (*Contract, error) {
	parsed, err := openapi3.NewLoader().LoadFromData(document)
	if err == nil {
		err = parsed.Validate(context.Background(), openapi3.EnableExamplesValidation())
	}
	if err != nil {
		return nil, fmt.Errorf("the OpenAPI document is not valid: %w", err)
	}
	for _, schema := range parsed.Components.Schemas {
		allowNull(schema)
		forbidUnknown(schema.Value)
	}
	return &Contract{parsed}, nil
}

// forbidUnknown makes a member that the document does not name a violation, unless the
// document says that there may be any.
func forbidUnknown(schema *openapi3.Schema) {
	if others := schema.AdditionalProperties; others.Has == nil && others.Schema == nil && len(schema.Properties) > 0 {
		schema.AdditionalProperties.Has = new(bool)
	}
}

// allowNull lets a schema without a type be null, as OpenAPI says. The validator asks for
// nullable, which OpenAPI allows only beside a type.
func allowNull(ref *openapi3.SchemaRef) {
	if ref == nil || ref.Ref != "" {
		return
	}
	ref.Value.Nullable = ref.Value.Nullable || ref.Value.Type == nil
	allowNull(ref.Value.Items)
	for _, member := range ref.Value.Properties {
		allowNull(member)
	}
}

// Check returns an error if the document does not allow the status, the media type, the
// headers or the body of the answer. An answer to a path or a method that the document does
// not have must be the problem that says so.
func (c *Contract) Check(e Exchange) error {
	if err := c.check(e); err != nil {
		return fmt.Errorf("%s %s = %d %s: %w", e.Method, e.Target, e.Status, e.Header.Get("Content-Type"), err)
	}
	return nil
}

func (c *Contract) check(e Exchange) error {
	path, item := c.find(e.Target)
	if item == nil {
		return unknown(e, http.StatusNotFound)
	}
	method := e.Method
	if method == http.MethodHead { // which the document only describes in words
		method = http.MethodGet
	}
	operation := item.Operations()[method]
	if operation == nil {
		return unknown(e, http.StatusMethodNotAllowed)
	}
	if e.Method == http.MethodHead && len(e.Body) > 0 {
		return errors.New("the answer to HEAD has a body")
	}
	response := operation.Responses.Status(e.Status)
	if response == nil {
		return fmt.Errorf("the document has no status %d for it", e.Status)
	}
	if err := checkType(e, response.Value); err != nil {
		return err
	}
	route := &routers.Route{Spec: c.document, Path: path, PathItem: item, Method: method, Operation: operation}
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{
			Request: &http.Request{Method: method, URL: &url.URL{Path: path}}, Route: route,
		},
		Status: e.Status, Header: e.Header, Body: io.NopCloser(bytes.NewReader(moderate(e.Body))),
		Options: &openapi3filter.Options{IncludeResponseStatus: true, ExcludeResponseBody: !hasJSON(e)},
	}
	return openapi3filter.ValidateResponse(context.Background(), input)
}

// find returns the path of the document that a target belongs to: the same, or one whose
// parameter is the rest of the target, slashes included.
func (c *Contract) find(target string) (string, *openapi3.PathItem) {
	path, _, _ := strings.Cut(target, "?")
	if item := c.document.Paths.Value(path); item != nil {
		return path, item
	}
	for template, item := range c.document.Paths.Map() {
		prefix, _, found := strings.Cut(template, "{")
		if found && strings.HasPrefix(path, prefix) {
			return template, item
		}
	}
	return "", nil
}

// unknown accepts only the problem of an unknown path or method.
func unknown(e Exchange, status int) error {
	refused := []int{status, http.StatusNotFound, http.StatusBadRequest, http.StatusUnauthorized, http.StatusRequestHeaderFieldsTooLarge, http.StatusServiceUnavailable}
	if !slices.Contains(refused, e.Status) || mediaType(e) != problem.ContentType && e.Method != http.MethodHead {
		return fmt.Errorf("the document does not have it, so a problem of status %d was expected", status)
	}
	return nil
}

// checkType checks the media type. A raw value has any type, and headers that tell its
// version and forbid browsers to guess the type. An answer without content in the document
// is a raw value or a file.
func checkType(e Exchange, response *openapi3.Response) error {
	switch {
	case isRaw(e):
		if e.Header.Get("X-Kv-Version") == "" || e.Header.Get("X-Content-Type-Options") != "nosniff" {
			return errors.New("a raw value needs X-KV-Version and nosniff")
		}
	case len(e.Body) > 0 && len(response.Content) > 0 && response.Content.Get(mediaType(e)) == nil:
		return errors.New("the document has no such media type for it")
	}
	return nil
}

// isRaw reports whether the answer is a raw value.
func isRaw(e Exchange) bool {
	return strings.HasPrefix(e.Target, "/get/") && strings.Contains(e.Target, "raw=true") &&
		(e.Status == http.StatusOK || e.Status == http.StatusPartialContent)
}

func mediaType(e Exchange) string {
	kind, _, err := mime.ParseMediaType(e.Header.Get("Content-Type"))
	if err != nil {
		return e.Header.Get("Content-Type")
	}
	return kind
}

// hasJSON reports whether there is a JSON body to check.
func hasJSON(e Exchange) bool {
	kind := mediaType(e)
	return len(e.Body) > 0 && !isRaw(e) && (kind == "application/json" || strings.HasSuffix(kind, "+json"))
}

// moderate replaces numbers that JSON allows and float64 does not, such as 1e400, which the
// validator refuses.
func moderate(body []byte) []byte {
	var value any
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	if decoder.Decode(&value) != nil {
		return body
	}
	moderated, err := json.Marshal(moderated(value))
	if err != nil {
		return body
	}
	return moderated
}

func moderated(value any) any {
	switch value := value.(type) {
	case json.Number:
		if _, err := value.Float64(); err != nil {
			return 0
		}
	case []any:
		for i := range value {
			value[i] = moderated(value[i])
		}
	case map[string]any:
		for name := range value {
			value[name] = moderated(value[name])
		}
	}
	return value
}
