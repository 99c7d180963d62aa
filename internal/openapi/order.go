package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// The order in which pages and generators show the document.
var (
	topOrder  = []string{"openapi", "info", "servers", "security", "tags", "paths", "components"}
	pathOrder = []string{
		"/put/{key}", "/get/{key}", "/delete/{key}", "/patch/{key}", "/batch",
		"/history/{key}", "/diff/{key}", "/revert/{key}", "/destroy/{key}",
		"/keys", "/watch", "/cache/stats", "/db/stats",
		"/health", "/docs", "/docs/{file}", "/openapi.json",
		"/healthz", "/readyz", "/db/backup", "/db/compact",
	}
	methodOrder = []string{"put", "post", "get", "patch", "delete"}
)

// inOrder returns the text of a document with paths and methods in that order.
func inOrder(document []byte) ([]byte, error) {
	top, err := membersOf(document)
	if err != nil {
		return nil, err
	}
	paths, err := membersOf(top["paths"])
	if err != nil {
		return nil, err
	}
	for path, text := range paths {
		methods, err := membersOf(text)
		if err != nil {
			return nil, err
		}
		if paths[path], err = object(methods, methodOrder); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	if top["paths"], err = object(paths, pathOrder); err != nil {
		return nil, err
	}
	return object(top, topOrder)
}

func membersOf(text []byte) (members map[string]json.RawMessage, err error) {
	return members, json.Unmarshal(text, &members)
}

// object returns an object with the members in order. A member that order lacks is an error.
func object(members map[string]json.RawMessage, order []string) ([]byte, error) {
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if !slices.Contains(order, name) {
			return nil, fmt.Errorf("order.go does not say where %q stands", name)
		}
	}
	var out bytes.Buffer
	separator := byte('{')
	for _, name := range order {
		if text, ok := members[name]; ok {
			out.WriteByte(separator)
			fmt.Fprintf(&out, "%q:%s", name, text)
			separator = ','
		}
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}
