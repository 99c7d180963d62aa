package main

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

const documentFile = "../../backend/docs/openapi.json"

func document(t *testing.T) *openapi3.T {
	t.Helper()
	document, err := openapi3.NewLoader().LoadFromFile(documentFile)
	if err != nil {
		t.Fatal(err)
	}
	return document
}

// TestDocumentForGenerators tests what generators of clients need, and what redocly asks for
// (task check:openapi), also where there is no npm.
func TestDocumentForGenerators(t *testing.T) {
	d := document(t)
	if d.Info.License.URL == "" {
		t.Error("the licence has no address")
	}
	ids := map[string]bool{}
	for path, item := range d.Paths.Map() {
		for method, operation := range item.Operations() {
			name := method + " " + path
			if operation.OperationID == "" || ids[operation.OperationID] {
				t.Errorf("%s has the id %q, which must be its own", name, operation.OperationID)
			}
			ids[operation.OperationID] = true
			if len(operation.Tags) != 1 || d.Tags.Get(operation.Tags[0]) == nil {
				t.Errorf("%s has the tags %v", name, operation.Tags)
			}
			if needs := operation.Security == nil; needs == slices.Contains(open, path) {
				t.Errorf("%s needs a token: %t", name, needs)
			}
			for _, parameter := range operation.Parameters {
				checkTyped(t, name+" "+parameter.Value.Name, parameter.Value.Schema)
			}
			for status, response := range operation.Responses.Map() {
				if len(response.Value.Content) > 1 {
					t.Errorf("%s %s is answered in several content types", name, status)
				}
				if response.Value.Headers["X-Request-Id"] == nil {
					t.Errorf("%s %s has no X-Request-Id", name, status)
				}
			}
		}
	}
	for name, schema := range d.Components.Schemas {
		if len(schema.Value.Required) == 0 {
			t.Errorf("no member of %s must be there", name)
		}
		checkTyped(t, name, schema)
	}
}

// checkTyped checks that numbers have 64 bits, and that only what has a type may be null.
func checkTyped(t *testing.T, name string, ref *openapi3.SchemaRef) {
	t.Helper()
	if ref == nil || ref.Ref != "" {
		return
	}
	s := ref.Value
	switch {
	case s.Type.Is("integer") && s.Format != "int64", s.Type.Is("number") && s.Format != "double":
		t.Errorf("%s is %v with the format %q", name, s.Type, s.Format)
	case s.Nullable && s.Type == nil:
		t.Errorf("%s is nullable without a type", name)
	}
	checkTyped(t, name, s.Items)
	for member, schema := range s.Properties {
		checkTyped(t, name+"."+member, schema)
	}
}

// TestDocumentOrder tests that the document has the write before the read, both before the
// rest, and no HEAD besides each GET.
func TestDocumentOrder(t *testing.T) {
	text, err := os.ReadFile(documentFile)
	if err != nil {
		t.Fatal(err)
	}
	var paths struct{ Paths json.RawMessage }
	if err := json.Unmarshal(text, &paths); err != nil {
		t.Fatal(err)
	}
	last := 0
	for _, name := range []string{`"/put/{key}"`, `"put"`, `"post"`, `"/get/{key}"`, `"/delete/{key}"`, `"/history/{key}"`, `"/keys"`, `"/watch"`, `"/cache/stats"`, `"/health"`} {
		at := strings.Index(string(paths.Paths), name+": {")
		if at <= last {
			t.Errorf("%s stands at %d, before what should come before it", name, at)
		}
		last = max(last, at)
	}
	if strings.Contains(string(text), `"head": {`) {
		t.Error("HEAD is an operation")
	}
}
