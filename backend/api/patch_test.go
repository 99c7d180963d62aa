package api_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const (
	mergePatch = "application/merge-patch+json"
	jsonPatch  = "application/json-patch+json"
)

func (s *server) value(t *testing.T, target string) string {
	t.Helper()
	var entry struct{ Value json.RawMessage }
	got := s.do(t, "GET", target, "")
	if err := json.Unmarshal([]byte(got.body), &entry); err != nil {
		t.Fatalf("%v in %s", err, got.body)
	}
	return string(entry.Value)
}

func TestPatch(t *testing.T) {
	s := start(t)
	s.do(t, "PUT", "/put/k", `{"value":{"n":12345678901234567890,"f": 0.1000 ,"s":"<&>\u2028","o":{ "x":1 }}}`)
	for _, step := range []struct{ kind, patch, version, value string }{
		{mergePatch, `{"f":null,"new":1.0}`, "2", `{"n":12345678901234567890,"s":"<&>\u2028","o":{ "x":1 },"new":1.0}`},
		{jsonPatch + "; charset=utf-8", `[{"op":"test","path":"/o/x","value":1},{"op":"remove","path":"/o"},{"op":"add","path":"/list","value":[1]}]`, "3", `{"n":12345678901234567890,"s":"<&>\u2028","new":1.0,"list":[1]}`},
		{mergePatch, `[]`, "4", `[]`},
		{jsonPatch, `[]`, "5", `[]`},
		{jsonPatch, `[{"op":"replace","path":"","value":null}]`, "6", `null`},
		{mergePatch, `{"a":{"b":null}}`, "7", `{"a":{}}`},
	} {
		got := s.do(t, "PATCH", "/patch/k", step.patch, "Content-Type", step.kind)
		want := `{"operation":"patch","key":"k","version":` + step.version + `,"new_version":` + step.version + `,"previous_version":`
		if got.status != 200 || !strings.HasPrefix(got.body, want) || got.header.Get("ETag") != `"`+step.version+`"` {
			t.Errorf("%s = %d %s, ETag %s", step.patch, got.status, got.body, got.header.Get("ETag"))
		}
		if value := s.value(t, "/get/k"); value != step.value {
			t.Errorf("%s gave %s, want %s", step.patch, value, step.value)
		}
	}
}

func TestPatchProblems(t *testing.T) {
	s := start(t)
	s.do(t, "PUT", "/put/k", `{"value":{"a":[1]}}`)
	s.do(t, "POST", "/batch", `{"operations":[{"op":"put","key":"raw","value":"/9j/","encoding":"base64","content_type":"image/png"},{"op":"put","key":"gone","value":1},{"op":"delete","key":"gone"}]}`)
	before := s.do(t, "GET", "/db/stats", "").body
	long := `"` + strings.Repeat("x", maxValueBytes-10) + `"`
	for _, test := range []struct {
		target, kind, patch string
		status              int
		code, detail        string
		members             map[string]any
		header              []string
	}{
		{"k", "application/json", `{}`, 415, "unsupported_media_type", `Content-Type: "application/json" is not accepted; send the patch as application/merge-patch+json or application/json-patch+json`, nil, nil},
		{"k", "", `{}`, 415, "unsupported_media_type", "", nil, nil},
		{"k", mergePatch, `{`, 400, "malformed_json", "", nil, nil},
		{"k", jsonPatch, ``, 400, "malformed_json", "", nil, nil},
		{"k", jsonPatch, "[\"\xff\"]", 400, "malformed_json", "", nil, nil},
		{"k", mergePatch, `{"a":1,"a":2}`, 422, "invalid_patch", `patch: the member "a" is given twice`, nil, nil},
		{"k", jsonPatch, `{}`, 422, "invalid_patch", "patch: must be an array of operations", nil, nil},
		{"k", jsonPatch, `[{"op":"test","path":"","value":1},{"op":"x","path":""}]`, 422, "invalid_patch", `patch[1]: op: "x" must be add, remove, replace, move, copy or test`, map[string]any{"operation": 1.0}, nil},
		{"k", jsonPatch, `[{"op":"test","path":"/a/0","value":1},{"op":"remove","path":"/b"}]`, 409, "patch_conflict", `patch[1]: remove: there is nothing at the pointer: the object has no member "b"`, map[string]any{"operation": 1.0, "pointer": "/b"}, nil},
		{"k", jsonPatch, `[{"op":"test","path":"/a","value":[2]}]`, 409, "patch_conflict", `patch[0]: test: the value is different`, map[string]any{"operation": 0.0, "pointer": "/a"}, nil},
		{"raw", mergePatch, `{"a":1}`, 409, "not_json", "Key 'raw' version 1 is of the type image/png and not JSON", nil, nil},
		{"none", mergePatch, `{"a":1}`, 404, "key_not_found", "Key 'none' not found", nil, nil},
		{"gone", mergePatch, `{"a":1}`, 404, "key_deleted", "Key 'gone' was deleted at version 2", nil, nil},
		{"", mergePatch, `{"a":1}`, 400, "invalid_key", "", nil, nil},
		{"k", mergePatch, `{"b":` + long + `}`, 413, "value_too_large", "value: is over the limit of 1000 bytes (KV_MAX_VALUE_BYTES)", nil, nil},
		{"k", jsonPatch, `[{"op":"replace","path":"","value":{"x":` + strings.Repeat("1", 600) + `}},{"op":"copy","from":"/x","path":"/y"},{"op":"copy","from":"","path":"/z"}]`, 413, "value_too_large", "", nil, nil},
		{"k", mergePatch, `"` + strings.Repeat("x", 70_000) + `"`, 413, "value_too_large", "body: is over the limit of 66536 bytes (KV_MAX_VALUE_BYTES plus 65536)", nil, nil},
		{"k?ttl=0s", mergePatch, `{"a":1}`, 422, "invalid_ttl", "", nil, nil},
		{"k?ttl=10000000h", mergePatch, `{"a":1}`, 422, "invalid_ttl", "", nil, nil},
		{"k?ttl=1", mergePatch, `{"a":1}`, 422, "invalid_ttl", "ttl: must be a duration such as 90s or 1h30m, from 1ms to 876000h", nil, nil},
		{"k", mergePatch, `{"a":1}`, 412, "precondition_failed", "Precondition failed: Key 'k' is at version 1", map[string]any{"current_version": 1.0}, []string{"If-Match", `"2"`}},
		{"k", mergePatch, `{"a":1}`, 412, "precondition_failed", "", map[string]any{"current_version": 1.0}, []string{"If-None-Match", `*`}},
		{"none", mergePatch, `{"a":1}`, 412, "precondition_failed", "", map[string]any{"current_version": 0.0}, []string{"If-Match", `*`}},
		{"k", mergePatch, `{"a":1}`, 400, "malformed_condition", "", nil, []string{"If-Match", `2`}},
	} {
		t.Run(fmt.Sprintf("%s %.60s", test.target, test.patch), func(t *testing.T) {
			header := test.header
			if test.kind != "" {
				header = append(header, "Content-Type", test.kind)
			}
			got := s.do(t, "PATCH", "/patch/"+test.target, test.patch, header...)
			fields := got.problem(t)
			if got.status != test.status || fields["code"] != test.code || test.detail != "" && fields["detail"] != test.detail {
				t.Errorf("got %d %s, want %d %s %s", got.status, got.body, test.status, test.code, test.detail)
			}
			for name, want := range test.members {
				if fields[name] != want {
					t.Errorf("%s = %v, want %v", name, fields[name], want)
				}
			}
			if accepted := got.header.Get("Accept-Patch"); (accepted == mergePatch+", "+jsonPatch) != (test.status == 415) {
				t.Errorf("Accept-Patch: %q", accepted)
			}
		})
	}
	if after := s.do(t, "GET", "/db/stats", "").body; after != before {
		t.Errorf("bad patches changed the store: %s to %s", before, after)
	}
	if got := s.do(t, "PATCH", "/patch/k", `{"a":2}`, "Content-Type", mergePatch, "If-Match", `"1"`); got.status != 200 {
		t.Errorf("the condition holds: %d %s", got.status, got.body)
	}
}

// TestConcurrentPatches tests that of many concurrent patches of one key none is lost. Half of
// the clients count in one member with test and replace, and each sets its own members.
func TestConcurrentPatches(t *testing.T) {
	const clients, each = 8, 10
	s := start(t)
	s.do(t, "PUT", "/put/k", `{"value":{"n":0}}`)
	var wg sync.WaitGroup
	for client := range clients {
		wg.Go(func() {
			for i := range each {
				name := fmt.Sprintf("c%di%d", client, i)
				if got := s.do(t, "PATCH", "/patch/k", `{"`+name+`":1}`, "Content-Type", mergePatch); got.status != 200 {
					t.Errorf("merge: %d %s", got.status, got.body)
				}
				for client%2 == 0 && !t.Failed() {
					var value map[string]int
					if err := json.Unmarshal([]byte(s.value(t, "/get/k")), &value); err != nil {
						t.Error(err)
					}
					n := strconv.Itoa(value["n"])
					got := s.do(t, "PATCH", "/patch/k", `[{"op":"test","path":"/n","value":`+n+`},{"op":"replace","path":"/n","value":`+strconv.Itoa(value["n"]+1)+`}]`, "Content-Type", jsonPatch)
					if got.status == 200 {
						break
					}
					if got.status != 409 {
						t.Errorf("count: %d %s", got.status, got.body)
					}
				}
			}
		})
	}
	wg.Wait()
	var value map[string]int
	if err := json.Unmarshal([]byte(s.value(t, "/get/k")), &value); err != nil {
		t.Fatal(err)
	}
	if value["n"] != clients/2*each || len(value) != 1+clients*each {
		t.Errorf("n is %d and there are %d members, want %d and %d", value["n"], len(value), clients/2*each, 1+clients*each)
	}
	var entry struct{ Version int }
	if err := json.Unmarshal([]byte(s.do(t, "GET", "/get/k", "").body), &entry); err != nil || entry.Version != 1+clients*each+clients/2*each {
		t.Errorf("version %d, %v, want one for each patch that was answered", entry.Version, err)
	}
}

func TestDiff(t *testing.T) {
	s := start(t)
	for _, value := range []string{`{"a":[1,2],"n":12345678901234567890}`, `{"a":[0,1,2],"n":12345678901234567891}`, `{"n":12345678901234567891,"a":[0,1,2]}`} {
		s.do(t, "PUT", "/put/k", `{"value":`+value+`}`)
	}
	s.do(t, "POST", "/batch", `{"operations":[{"op":"delete","key":"k"},{"op":"put","key":"k","value":"/9j/","encoding":"base64","content_type":"image/png"}]}`)
	s.do(t, "PUT", "/put/one", `{"value":1}`)
	s.do(t, "PUT", "/put/two", `{"value":1}`)
	s.do(t, "PUT", "/put/two", `{"value":2}`)
	const oneToTwo = `[{"op":"add","path":"/a/0","value":0},{"op":"replace","path":"/n","value":12345678901234567891}]`
	for target, want := range map[string]string{
		"k?from=1&to=2": oneToTwo, "k?to=2": oneToTwo, "k?from=2&to=3": `[]`, "k?to=3": `[]`, "k?from=3&to=3": `[]`,
		"two": `[{"op":"replace","path":"","value":2}]`, "two?from=2&to=1": `[{"op":"replace","path":"","value":1}]`, "two?from=1": `[{"op":"replace","path":"","value":2}]`,
	} {
		got := s.do(t, "GET", "/diff/"+target, "")
		if got.status != 200 || strings.TrimSuffix(got.body, "\n") != want || got.header.Get("Content-Type") != jsonPatch {
			t.Errorf("%s = %d %s %s, want %s", target, got.status, got.header.Get("Content-Type"), got.body, want)
		}
		if head := s.do(t, "HEAD", "/diff/"+target, ""); head.status != 200 || head.body != "" || head.header.Get("Content-Length") != strconv.Itoa(len(got.body)) {
			t.Errorf("HEAD %s = %d %q", target, head.status, head.body)
		}
	}
	for target, want := range map[string]string{
		"none": "404 key_not_found", "k?to=9": "404 version_not_found", "k?from=9&to=1": "404 version_not_found", "k?from=4&to=1": "404 key_deleted",
		"k": "404 key_deleted", "k?from=3": "409 not_json", "k?from=5&to=1": "409 not_json", "one": "422 invalid_from", "k?from=0": "422 invalid_from",
		"k?from=1&to=x": "422 invalid_to", "": "400 invalid_key", "k?to=%zz": "400 malformed_query",
	} {
		got := s.do(t, "GET", "/diff/"+target, "")
		if fields := got.problem(t); fmt.Sprint(got.status, " ", fields["code"]) != want {
			t.Errorf("%s = %d %s, want %s", target, got.status, got.body, want)
		}
	}
	// A patch takes what diff returns: here the way back.
	back := s.do(t, "GET", "/diff/two?from=2&to=1", "").body
	if got := s.do(t, "PATCH", "/patch/two", back, "Content-Type", jsonPatch); got.status != 200 || s.value(t, "/get/two") != "1" {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// FuzzPatchRequest sends any patch of both types. It expects no 5xx and no panic, and that
// the key can be read afterwards.
func FuzzPatchRequest(f *testing.F) {
	for _, patch := range []string{
		`{"a":1,"b":{"c":null}}`, `[{"op":"add","path":"/a","value":[]},{"op":"copy","from":"","path":"/a/-"}]`, `[{"op":"test","path":"/n","value":1.0}]`,
		`null`, `"\ud800"`, `{"\ud800":null}`, `[{"op":"replace","path":"","value":{"n":1}}]`, `{"n":{"n":{}}}`, `[`, ``, "\xff",
	} {
		f.Add([]byte(patch), true)
		f.Add([]byte(patch), false)
	}
	handler := fuzzHandler(f)
	serve(handler, "PUT", "/put/k", []byte(`{"value":{"n":1}}`), "application/json")
	f.Fuzz(func(t *testing.T, patch []byte, merge bool) {
		kind := jsonPatch
		if merge {
			kind = mergePatch
		}
		before := revision(t, handler)
		got := serve(handler, "PATCH", "/patch/k", patch, kind)
		if after := revision(t, handler); got.Code >= 500 || (got.Code == 200) != (after.Revision == before.Revision+1) {
			t.Fatalf("%d %s for %q; the revision went from %d to %d", got.Code, got.Body, patch, before.Revision, after.Revision)
		}
		if get := serve(handler, "GET", "/get/k", nil, ""); get.Code != 200 || !json.Valid(get.Body.Bytes()) {
			t.Fatalf("after %q: %d %s", patch, get.Code, get.Body)
		}
	})
}
