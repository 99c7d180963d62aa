package store_test

import (
	"bytes"
	"runtime"
	"strings"
	"testing"

	"kvstore/backend/kv"
	"kvstore/backend/store"
)

// A request has a body, and its strings are parts of it.
type request struct {
	body []byte
	text string
}

const requestBytes = 1 << 20

// newRequest returns a request with a body and a head of a megabyte each.
func newRequest(key string) request {
	pad := strings.Repeat("x", requestBytes)
	return request{append([]byte(`{"value":1}`), pad...), key + pad}
}

func (r request) value() []byte     { return r.body[9:10] }
func (r request) part(n int) string { return r.text[:n] }

func (r request) change(operation kv.Operation, key int) store.Change {
	return store.Change{
		Operation: operation, Key: r.part(key), Value: r.value(), ContentType: r.part(3), Author: r.part(4),
	}
}

// TestNothingKeptPinsARequest: what the store keeps of a write, in the cache, the memory of heads
// and the log, does not keep the whole request in memory.
func TestNothingKeptPinsARequest(t *testing.T) {
	const keys = 64
	for name, write := range map[string]func(*store.Store, request, int) error{
		"put": func(s *store.Store, r request, key int) error {
			_, err := s.Write(t.Context(), r.change(kv.OpPut, key))
			return err
		},
		"batch": func(s *store.Store, r request, key int) error {
			_, err := s.Batch(t.Context(), []store.Requirement{{Key: r.part(key)}}, []store.Change{r.change(kv.OpPut, key)})
			return err
		},
		"patch": func(s *store.Store, r request, key int) error {
			put(t, s, strings.Clone(r.part(key)), "2")
			_, err := s.Update(t.Context(), r.change(kv.OpPatch, key), func(kv.Entry) ([]byte, string, error) {
				return r.value(), "", nil
			})
			return err
		},
		"get": func(s *store.Store, r request, key int) error {
			_, source, err := s.Get(t.Context(), r.part(key))
			if source != store.FromDatabase {
				t.Errorf("the read of %d fills nothing: it came from the %s", key, source)
			}
			return err
		},
		"delete": func(s *store.Store, r request, key int) error {
			put(t, s, strings.Clone(r.part(key)), "2")
			_, err := s.Write(t.Context(), r.change(kv.OpDelete, key))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, options{maxKeys: keys})
			if name == "get" {
				for i := range 2 * keys { // the second half leaves no room in the cache for the first
					put(t, s, strings.Repeat("k", 5+i), "2")
				}
			}
			watch, err := s.Watch(store.WatchRequest{Keys: kv.AllKeys(), Since: store.Now, Values: true})
			if err != nil {
				t.Fatal(err)
			}
			defer watch.Close()
			before := heap()
			for i := range keys {
				if err := write(s, newRequest(strings.Repeat("k", 5+i)), 5+i); err != nil {
					t.Fatal(err)
				}
			}
			grown := heap() - before
			// An entry takes a few hundred bytes more than it is counted for, wherever it is kept.
			if stats := s.Stats().Cache; grown > stats.Bytes+keys*8<<10 {
				t.Errorf("the cache counts %d bytes, and the heap has grown by %d", stats.Bytes, grown)
			}
			runtime.KeepAlive(watch)
		})
	}
}

// heap returns the bytes that are in use.
func heap() int64 {
	var m runtime.MemStats
	for range 2 { // the second frees what finalizers have released
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestValuesAreNotShared: the caller may reuse the memory of a value after the answer.
func TestValuesAreNotShared(t *testing.T) {
	s := open(t, options{})
	value := []byte(`"first"`)
	if _, err := s.Write(t.Context(), store.Change{Operation: kv.OpPut, Key: "k", Value: value}); err != nil {
		t.Fatal(err)
	}
	copy(value, `"other"`)
	if entry, source := get(t, s, "k"); !bytes.Equal(entry.Value, []byte(`"first"`)) || source != store.FromCache {
		t.Errorf("%s from the %s", entry.Value, source)
	}
}
