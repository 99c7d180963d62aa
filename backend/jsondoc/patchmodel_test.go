package jsondoc_test

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// applied implements RFC 6902 on decoded values, simply and slowly. It returns errTest
// for test, because encoding/json cannot compare numbers.
func applied(t *testing.T, document any, patch []byte) (any, error) {
	t.Helper()
	var operations []map[string]json.RawMessage // not a struct, for which the case of names does not count
	if err := json.Unmarshal(patch, &operations); err != nil {
		t.Fatal(err)
	}
	for _, o := range operations {
		member := func(name string) (text string) {
			if err := json.Unmarshal(o[name], &text); err != nil {
				t.Fatal(err)
			}
			return text
		}
		var err error
		path := tokens(member("path"))
		switch member("op") {
		case "add":
			document, err = put(document, path, decode(t, o["value"]))
		case "replace":
			if _, err = found(document, path); err == nil {
				document, err = set(document, path, decode(t, o["value"]))
			}
		case "remove":
			document, _, err = taken(document, path)
		case "move":
			from := tokens(member("from"))
			var value any
			if value, err = found(document, from); err == nil && !slices.Equal(from, path) {
				if document, _, err = taken(document, from); err == nil {
					document, err = put(document, path, value)
				}
			}
		case "copy":
			var value any
			if value, err = found(document, tokens(member("from"))); err == nil {
				document, err = put(document, path, value)
			}
		default:
			err = errTest
		}
		if err != nil {
			return nil, err
		}
	}
	return document, nil
}

var (
	errNone = errors.New("nothing there")
	errTest = errors.New("a test")
)

func tokens(pointer string) []string {
	parts := strings.Split(pointer, "/")[1:]
	for i, part := range parts {
		parts[i] = strings.ReplaceAll(strings.ReplaceAll(part, "~1", "/"), "~0", "~")
	}
	return parts
}

// index parses the index of an element, or of the end if end is allowed.
func index(token string, length int, end bool) (int, error) {
	if end && token == "-" {
		return length, nil
	}
	i, err := strconv.Atoi(token)
	if err != nil || strconv.Itoa(i) != token || i < 0 || i > length || i == length && !end {
		return 0, errNone
	}
	return i, nil
}

func found(document any, path []string) (any, error) {
	if len(path) == 0 {
		return document, nil
	}
	switch container := document.(type) {
	case map[string]any:
		if value, ok := container[path[0]]; ok {
			return found(value, path[1:])
		}
	case []any:
		if i, err := index(path[0], len(container), false); err == nil {
			return found(container[i], path[1:])
		}
	}
	return nil, errNone
}

// put, set and taken return a new document and do not modify their argument. put adds a
// member or element, set replaces one, and taken removes one.
func put(document any, path []string, value any) (any, error) {
	if len(path) == 0 {
		return value, nil
	}
	parents, last := path[:len(path)-1], path[len(path)-1]
	parent, err := found(document, parents)
	if err != nil {
		return nil, err
	}
	switch container := parent.(type) {
	case map[string]any:
		container = maps.Clone(container)
		container[last] = value
		return set(document, parents, container)
	case []any:
		i, err := index(last, len(container), true)
		if err != nil {
			return nil, err
		}
		return set(document, parents, slices.Insert(slices.Clone(container), i, value))
	}
	return nil, errNone
}

func taken(document any, path []string) (rest, value any, err error) {
	if value, err = found(document, path); err != nil || len(path) == 0 {
		return nil, nil, errNone
	}
	parents, last := path[:len(path)-1], path[len(path)-1]
	parent, _ := found(document, parents)
	switch container := parent.(type) {
	case map[string]any:
		container = maps.Clone(container)
		delete(container, last)
		rest, err = set(document, parents, container)
	case []any:
		i, _ := index(last, len(container), false)
		rest, err = set(document, parents, slices.Delete(slices.Clone(container), i, i+1))
	}
	return rest, value, err
}

func set(document any, path []string, value any) (any, error) {
	if len(path) == 0 {
		return value, nil
	}
	inner, err := found(document, path[:1])
	if err != nil {
		return nil, err
	}
	if value, err = set(inner, path[1:], value); err != nil {
		return nil, err
	}
	switch container := document.(type) {
	case map[string]any:
		container = maps.Clone(container)
		container[path[0]] = value
		return container, nil
	case []any:
		container = slices.Clone(container)
		i, _ := index(path[0], len(container), false)
		container[i] = value
		return container, nil
	}
	return nil, errNone
}
