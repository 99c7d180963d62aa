package api

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"kvstore/backend/jsondoc"
	"kvstore/backend/kv"
	"kvstore/backend/store"
	"kvstore/internal/problem"
)

// maxBatchItems is how many operations a batch may have, and how many conditions.
const maxBatchItems = 128

// batchRequest is the body of a batch.
type batchRequest struct { //nolint:unused // for the annotations
	// what must hold before the first operation, at most 128
	Conditions []batchCondition `json:"conditions,omitempty"`
	// 1 to 128, in the order in which they are made
	Operations []batchOperation `json:"operations" binding:"required"`
} //	@name	BatchRequest

type batchCondition struct { //nolint:unused // for the annotations
	Key string `json:"key" binding:"required" example:"app/db/host"`
	// the version that must be the latest; 0: the key does not exist, or is deleted
	Version int64 `json:"version" binding:"required" minimum:"0" example:"3"`
} //	@name	BatchCondition

type batchOperation struct { //nolint:unused // for the annotations
	Op  string `json:"op" binding:"required" enums:"put,delete,get,revert" example:"put"`
	Key string `json:"key" binding:"required" example:"app/db/host"`
	// put: any JSON value, or base64
	Value any `json:"value,omitempty" swaggertype:"string" extensions:"x-any" example:"hello world"`
	// put: base64 says that value is the base64 of bytes
	Encoding string `json:"encoding,omitempty" enums:"base64"`
	// put: the type of the bytes; with encoding alone
	ContentType string `json:"content_type,omitempty" example:"image/png"`
	// put: how long the key exists, a Go duration
	TTL string `json:"ttl,omitempty" example:"90s"`
	// revert: the version to go back to; without, the last before the tombstone
	Version int64 `json:"version,omitempty" minimum:"1" example:"2"`
	// what must be the latest version at this point of the batch; 0: none
	IfVersion int64 `json:"if_version,omitempty" minimum:"0" example:"3"`
} //	@name	BatchOperation

// parseBatch parses the body of a batch, which is JSON. It refuses members that it does not
// know, and a member that is given twice.
func parseBatch(body []byte) ([]store.Requirement, []store.Change, error) {
	top, err := fieldsOf("body", body, "conditions", "operations")
	if err != nil {
		return nil, nil, err
	}
	conditions, err := itemsOf(top, "conditions", 0)
	if err != nil {
		return nil, nil, err
	}
	operations, err := itemsOf(top, "operations", 1)
	if err != nil {
		return nil, nil, err
	}
	requirements := make([]store.Requirement, len(conditions))
	for i, text := range conditions {
		if requirements[i], err = parseCondition(fmt.Sprintf("conditions[%d]", i), text); err != nil {
			return nil, nil, problemOf(err).With("condition", i)
		}
	}
	changes := make([]store.Change, len(operations))
	for i, text := range operations {
		if changes[i], err = parseOperation(fmt.Sprintf("operations[%d]", i), text); err != nil {
			return nil, nil, problemOf(err).With("operation", i)
		}
	}
	return requirements, changes, nil
}

// fields are the members of the object at path.
type fields struct {
	path    string
	members map[string][]byte
}

func fieldsOf(path string, text []byte, known ...string) (fields, error) {
	members, ok := jsondoc.Members(text)
	if !ok {
		return fields{}, invalidBatch(path, "must be an object")
	}
	f := fields{path, make(map[string][]byte, len(members))}
	for _, m := range members {
		switch {
		case !slices.Contains(known, m.Name):
			return fields{}, invalidBatch(path, fmt.Sprintf("the member %s is unknown; the known ones are %s", m.Text, strings.Join(known, ", ")))
		case f.members[m.Name] != nil:
			return fields{}, f.invalid(m.Name, "is given twice")
		}
		f.members[m.Name] = m.Value
	}
	return f, nil
}

func (f fields) has(name string) bool { return f.members[name] != nil }

func (f fields) invalid(name, rule string) *problem.Problem {
	return invalidBatch(f.path+"."+name, rule)
}

// itemsOf returns the elements of an array of the body. It is an error if there are fewer
// than least.
func itemsOf(body fields, name string, least int) ([][]byte, error) {
	if !body.has(name) && least == 0 {
		return nil, nil
	}
	var items [][]byte
	ok := body.has(name)
	if ok {
		items, ok = jsondoc.Elements(body.members[name])
	}
	if !ok || len(items) < least || len(items) > maxBatchItems {
		return nil, invalidBatch(name, fmt.Sprintf("must be an array of %d to %d %s", least, maxBatchItems, name))
	}
	return items, nil
}

func (f fields) key() (string, error) {
	key, ok := f.text("key")
	if !ok {
		return "", f.invalid("key", "must be there, as a string of Unicode characters")
	}
	if err := kv.CheckKey(key); err != nil {
		return "", problem.New(http.StatusBadRequest, "invalid_key", f.path+"."+err.Error())
	}
	return key, nil
}

func (f fields) text(name string) (string, bool) {
	if !f.has(name) {
		return "", false
	}
	return jsondoc.Text(f.members[name])
}

// integer returns an integer that is at least least.
func (f fields) integer(name string, least int64) (int64, error) {
	n, err := strconv.ParseInt(string(f.members[name]), 10, 64)
	if err != nil || n < least {
		return 0, f.invalid(name, fmt.Sprintf("must be an integer of at least %d", least))
	}
	return n, nil
}

// version returns the condition that a member makes: the version that must be the latest,
// or 0 for a key that must not exist.
func (f fields) version(name string) (kv.Condition, error) {
	switch n, err := f.integer(name, 0); {
	case err != nil:
		return kv.Condition{}, err
	case n == 0:
		return kv.Condition{Absent: true}, nil
	default:
		return kv.Condition{OneOf: []int64{n}}, nil
	}
}

func parseCondition(path string, text []byte) (r store.Requirement, err error) {
	f, err := fieldsOf(path, text, "key", "version")
	if err != nil {
		return r, err
	}
	if r.Key, err = f.key(); err != nil {
		return r, err
	}
	r.If, err = f.version("version")
	return r, err
}

// operationFields are the members that each operation may have besides op, key and
// if_version.
var operationFields = map[string][]string{
	"put": {"value", "encoding", "content_type", "ttl"}, "delete": nil, "get": nil, "revert": {"version"},
}

func parseOperation(path string, text []byte) (c store.Change, err error) {
	f, err := fieldsOf(path, text, "op", "key", "if_version", "value", "encoding", "content_type", "ttl", "version")
	if err != nil {
		return c, err
	}
	op, ok := f.text("op")
	own, known := operationFields[op]
	if !ok || !known {
		return c, f.invalid("op", "must be put, delete, get or revert")
	}
	for name := range f.members {
		if name != "op" && name != "key" && name != "if_version" && !slices.Contains(own, name) {
			return c, f.invalid(name, "does not belong to "+op)
		}
	}
	c.Operation = kv.Operation(op) // the words are the same, OpGet's included
	if c.Key, err = f.key(); err != nil {
		return c, err
	}
	if f.has("if_version") {
		if c.If, err = f.version("if_version"); err != nil {
			return c, err
		}
	}
	if f.has("version") {
		if c.Version, err = f.integer("version", 1); err != nil {
			return c, err
		}
	}
	if op == "put" {
		return c, f.parsePut(&c)
	}
	return c, nil
}

// parsePut parses the members of a put.
func (f fields) parsePut(c *store.Change) error {
	if !f.has("value") {
		return f.invalid("value", "must be there")
	}
	c.Value = f.members["value"]
	if f.has("ttl") {
		text, isText := f.text("ttl")
		ttl, ok := parseTTL(text)
		if !isText || !ok {
			return f.invalid("ttl", ttlRule)
		}
		c.TTL = ttl
	}
	if !f.has("encoding") && !f.has("content_type") {
		return nil
	}
	return f.parseRaw(c)
}

// parseRaw parses a value that is bytes.
func (f fields) parseRaw(c *store.Change) error {
	if encoding, _ := f.text("encoding"); encoding != "base64" {
		return f.invalid("encoding", "must be base64, with content_type; a JSON value has neither")
	}
	kind, _ := f.text("content_type")
	switch {
	case !isContentType(kind):
		return f.invalid("content_type", contentTypeRule)
	case isJSONType(kind):
		return f.invalid("content_type", "must be of another type; a JSON value is given as it is, without encoding")
	}
	text, ok := f.text("value")
	value, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil {
		return f.invalid("value", "must be a string of base64, as encoding says")
	}
	c.Value, c.ContentType = value, kind
	return nil
}

func invalidBatch(path, rule string) *problem.Problem {
	return problem.New(http.StatusUnprocessableEntity, "invalid_batch", path+": "+rule)
}
