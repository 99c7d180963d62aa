package traefik_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

const mebibyte = 1 << 20

// A value comes back byte for byte, both from the cache and from the database.
func TestValuesAreUnchanged(t *testing.T) {
	newStack(t, "KV_CACHE_MAX_KEYS=1")
	for name, value := range map[string]string{
		"large integer":       "12345678901234567890",
		"trailing zeros":      "0.1000",
		"over float64":        "1e400",
		"many digits":         "3.14159265358979323846264338327950288419716939937510",
		"negative zero":       "-0.0",
		"exponent":            "1E+2",
		"null":                "null",
		"true":                "true",
		"empty string":        `""`,
		"empty object":        "{}",
		"empty array":         "[]",
		"order of members":    `{"z":1,"a":2,"m":{"y":1,"b":2}}`,
		"duplicate members":   `{"a":1,"a":2,"b":3,"a":4}`,
		"member of the case":  `{"value":1,"Value":2,"VALUE":3}`,
		"escaped surrogates":  `"\ud83d\ude00"`,
		"lone surrogate":      `"\ud83d"`,
		"escapes":             `"\"\\\/\b\f\n\r\t\u0000\u001f"`,
		"HTML":                `"<script>alert('&amp;')</script>"`,
		"escaped HTML":        `"\u003cscript\u003e"`,
		"line separators":     "\"\u2028\u2029\"",
		"plain Unicode":       `"日本 é 😀"`,
		"deep nesting":        strings.Repeat("[", 1000) + strings.Repeat("]", 1000),
		"looks like the body": `{"value":{"value":"{\"value\":1}"}}`,
		"number in a string":  `"0.1000"`,
	} {
		t.Run(name, func(t *testing.T) {
			written := decode[putAnswer](t, put(t, "k", value).wantStatus(t, http.StatusOK))
			put(t, "another", "0").wantStatus(t, http.StatusOK) // replaces it in the cache
			for _, source := range []string{"database", "cache"} {
				read := decode[getAnswer](t, get(t, "/get/k").wantStatus(t, http.StatusOK))
				if string(read.Value) != value || read.Version != written.Version || read.Source != source {
					t.Errorf("version %d from %s: %.200s, want version %d from %s: %.200s",
						read.Version, read.Source, read.Value, written.Version, source, value)
				}
			}
			byVersion := decode[getAnswer](t, get(t, fmt.Sprintf("/get/k?version=%d", written.Version)))
			if string(byVersion.Value) != value {
				t.Errorf("by its version: %.200s, want %.200s", byVersion.Value, value)
			}
		})
	}
}

func TestTheLargestValue(t *testing.T) {
	s := newStack(t)
	largest := `"` + strings.Repeat("v", mebibyte-2) + `"`
	put(t, "k", largest).wantStatus(t, http.StatusOK)
	if read := decode[getAnswer](t, get(t, "/get/k")); string(read.Value) != largest {
		t.Errorf("%d bytes came back, want the %d that went in", len(read.Value), len(largest))
	}
	for name, size := range map[string]int{"by a byte": mebibyte + 1, "by its envelope": mebibyte + 128<<10, "tenfold": 10 * mebibyte} {
		t.Run(name, func(t *testing.T) {
			value := `"` + strings.Repeat("v", size-2) + `"`
			for hop, address := range s.addresses() {
				answer := request(t, address, http.MethodPut, "/put/k", nil, `{"value":`+value+`}`)
				if p := answer.wantProblem(t, http.StatusRequestEntityTooLarge); p.Code != "value_too_large" {
					t.Errorf("at the %s: code %q", hop, p.Code)
				}
			}
		})
	}
	t.Run("of unknown length", func(t *testing.T) { // chunked
		body := io.MultiReader(strings.NewReader(`{"value":"`), strings.NewReader(strings.Repeat("v", 2*mebibyte)), strings.NewReader(`"}`))
		answer := send(t, http.MethodPut, "/put/k", io.NopCloser(body))
		answer.wantProblem(t, http.StatusRequestEntityTooLarge)
	})
	if read := decode[getAnswer](t, get(t, "/get/k")); read.Version != 1 {
		t.Errorf("a value over the limit was written: version %d", read.Version)
	}
}

// send sends a body of unknown length.
func send(t *testing.T, method, target string, body io.Reader) response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+webAddress+target, body)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	got, err := received(answer)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestRefusedBodies(t *testing.T) {
	s := newStack(t)
	put(t, "k", `"before"`).wantStatus(t, http.StatusOK)
	before := decode[databaseStats](t, get(t, "/db/stats"))
	for _, c := range []struct {
		name   string
		body   string
		status int
	}{
		{"empty", "", http.StatusBadRequest},
		{"no JSON", "hello", http.StatusBadRequest},
		{"a form", "value=1", http.StatusBadRequest},
		{"cut off", `{"value":1`, http.StatusBadRequest},
		{"with a tail", `{"value":1}x`, http.StatusBadRequest},
		{"two documents", `{"value":1}{"value":2}`, http.StatusBadRequest},
		{"leading zero", `{"value":01}`, http.StatusBadRequest},
		{"NaN", `{"value":NaN}`, http.StatusBadRequest},
		{"single quotes", `{'value':1}`, http.StatusBadRequest},
		{"trailing comma", `{"value":1,}`, http.StatusBadRequest},
		{"raw newline in a string", "{\"value\":\"a\nb\"}", http.StatusBadRequest},
		{"invalid UTF-8", "{\"value\":\"\xff\"}", http.StatusBadRequest},
		{"no member value", `{}`, http.StatusUnprocessableEntity},
		{"another member", `{"values":1}`, http.StatusUnprocessableEntity},
		{"another case", `{"Value":1}`, http.StatusUnprocessableEntity},
		{"an array", `[{"value":1}]`, http.StatusUnprocessableEntity},
		{"a string", `"value"`, http.StatusUnprocessableEntity},
		{"null", `null`, http.StatusUnprocessableEntity},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, address := range s.addresses() {
				for _, method := range []string{http.MethodPut, http.MethodPost} {
					request(t, address, method, "/put/k", nil, c.body).wantProblem(t, c.status)
				}
			}
		})
	}
	if after := decode[databaseStats](t, get(t, "/db/stats")); after != before {
		t.Errorf("a refused body changed the store: %+v, before: %+v", after, before)
	}
}

func TestRefusedVersions(t *testing.T) {
	newStack(t)
	put(t, "k", "1").wantStatus(t, http.StatusOK)
	for _, version := range []string{"0", "-1", "1.0", "one", "", "1;x", "%31%20", "99999999999999999999"} {
		t.Run(version, func(t *testing.T) { get(t, "/get/k?version="+version).wantProblem(t, http.StatusUnprocessableEntity) })
	}
	p := get(t, "/get/k?version=9").wantProblem(t, http.StatusNotFound)
	if p.Detail != "Key 'k' version 9 not found" {
		t.Errorf("detail %q", p.Detail)
	}
	p = get(t, "/get/none").wantProblem(t, http.StatusNotFound)
	if p.Detail != "Key 'none' not found" {
		t.Errorf("detail %q", p.Detail)
	}
}

// 16 clients write one key 50 times each. The versions must be 1 to 800, and each must have the
// value of the client that got its number.
func TestConcurrentWritesOfOneKey(t *testing.T) {
	newStack(t)
	const clients, writes = 16, 50
	values := make([]map[int]string, clients) // by version
	var group sync.WaitGroup
	for client := range clients {
		values[client] = map[int]string{}
		group.Go(func() {
			for i := range writes {
				value := fmt.Sprintf(`"client %d write %d"`, client, i)
				answer, err := tryRequest(webAddress, http.MethodPut, "/put/hot", nil, `{"value":`+value+`}`)
				if err != nil || answer.status != http.StatusOK {
					t.Errorf("%v, %d: %s", err, answer.status, answer.body)
					return
				}
				var written putAnswer
				if err := json.Unmarshal([]byte(answer.body), &written); err != nil {
					t.Error(err)
					return
				}
				values[client][written.Version] = value
			}
		})
	}
	group.Wait()
	var versions []int
	for _, own := range values {
		for version, value := range own {
			versions = append(versions, version)
			read := decode[getAnswer](t, get(t, fmt.Sprintf("/get/hot?version=%d", version)).wantStatus(t, http.StatusOK))
			if string(read.Value) != value {
				t.Errorf("version %d is %s, want %s", version, read.Value, value)
			}
		}
	}
	slices.Sort(versions)
	for i, version := range versions {
		if version != i+1 {
			t.Fatalf("version %d where %d should be", version, i+1)
		}
	}
	if len(versions) != clients*writes {
		t.Errorf("%d versions, want %d", len(versions), clients*writes)
	}
	if latest := decode[getAnswer](t, get(t, "/get/hot")); latest.Version != clients*writes {
		t.Errorf("the latest is %d", latest.Version)
	}
}
