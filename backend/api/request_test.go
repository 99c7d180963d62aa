package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kvstore/backend/api"
	"kvstore/backend/docs"
)

// revisionNow returns the revision of the store, which changes with every write.
func (s *server) revisionNow(t *testing.T) string {
	t.Helper()
	return s.do(t, "GET", "/db/stats", "").body
}

// targetOf returns the method and a target for the label of a route, as GET /get/{key}.
func targetOf(label string) (method, target string) {
	method, target, _ = strings.Cut(label, " ")
	return method, strings.NewReplacer("{key}", "k", "{file}", "index.html").Replace(target)
}

// TestParametersOfEveryRoute tests that a parameter that the route does not know, or that is
// given twice, is refused and nothing is done.
func TestParametersOfEveryRoute(t *testing.T) {
	s := start(t)
	s.do(t, "PUT", "/put/k", `{"value":1}`)
	before := s.revisionNow(t)
	routes := api.KnownParameters()
	for label, known := range routes {
		method, target := targetOf(label)
		names := append([]string{"x", "TTL", "Version", "verzion", "PREFIX", "known..."}, known...)
		for _, name := range names {
			query, code := name+"=1", "unknown_parameter"
			switch {
			case name == "versions": // a list
				query, code = "versions=1&versions=x", "invalid_versions"
			case slices.Contains(known, name):
				query, code = name+"=1&"+name+"=1", "repeated_parameter"
			}
			got := s.do(t, method, target+"?"+query, `{"value":2}`)
			if method == "HEAD" {
				if got.status != 422 {
					t.Errorf("%s %s?%s: %d", method, target, query, got.status)
				}
				continue
			}
			fields := got.problem(t)
			if got.status != 422 || fields["code"] != code {
				t.Errorf("%s %s?%s: %d %s, want %s", method, target, query, got.status, got.body, code)
			}
			detail, _ := fields["detail"].(string)
			for _, word := range append([]string{name}, known...) {
				if code == "unknown_parameter" && !strings.Contains(detail, word) {
					t.Errorf("%s?%s: %q does not name %s", target, query, detail, word)
				}
			}
		}
		if method == "GET" && label != "GET /watch" && label != "GET /diff/{key}" {
			got := s.do(t, method, target+"?_=1&_=2&_x", "")
			if got.status >= 400 && got.status != http.StatusNotImplemented { // by an engine other than SQLite
				t.Errorf("%s?_=1: %d %s", target, got.status, got.body)
			}
		}
	}
	if after := s.revisionNow(t); after != before {
		t.Errorf("refused requests changed the store: %s to %s", before, after)
	}
	if len(routes) < 30 {
		t.Errorf("only %d routes were tried", len(routes))
	}
}

// TestParametersOfTheDocument tests that the annotations have the parameters that the table
// of routes has.
func TestParametersOfTheDocument(t *testing.T) {
	var document struct {
		Paths map[string]map[string]struct {
			Parameters []struct{ Name, In string }
		}
	}
	if err := json.Unmarshal(docs.OpenAPI, &document); err != nil {
		t.Fatal(err)
	}
	for label, known := range api.KnownParameters() {
		method, path, _ := strings.Cut(label, " ")
		operation, ok := document.Paths[path][strings.ToLower(method)]
		if !ok {
			if method != "HEAD" {
				t.Errorf("%s is not in the document", label)
			}
			continue
		}
		told := []string{}
		for _, p := range operation.Parameters {
			if p.In == "query" {
				told = append(told, p.Name)
			}
		}
		slices.Sort(told)
		if diff := cmp.Diff(slices.Sorted(slices.Values(known)), told, cmp.Transformer("list", func(s []string) string { return fmt.Sprint(s) })); diff != "" {
			t.Errorf("%s: the route has (-), the document has (+): %s", label, diff)
		}
	}
}

func TestUnknownParameters(t *testing.T) {
	s := start(t)
	for range 5 {
		s.do(t, "PUT", "/put/k", `{"value":1}`)
	}
	before := s.revisionNow(t)
	s.run(t, []step{
		{"PUT /put/k?TTL=1h", `{"value":1}`, 422, "unknown_parameter: query: the parameter 'TTL' is unknown; the known ones are ttl", "", nil},
		{"PUT /put/k?tt%6c=1h&ttl=1h", `{"value":1}`, 422, "repeated_parameter: ttl: is given more than once", "", nil},
		{"POST /revert/k?verzion=1", "", 422, "unknown_parameter: query: the parameter 'verzion' is unknown; the known ones are version", "", nil},
		{"DELETE /delete/k?version=1", "", 422, "unknown_parameter: query: the parameter 'version' is unknown; this request has none", "", nil},
		{"GET /keys?PREFIX=x", "", 422, "unknown_parameter: query: the parameter 'PREFIX' is unknown; the known ones are prefix, delimiter, after, limit, deleted, min_revision", "", nil},
		{"GET /get/k?version=1&version=1", "", 422, "repeated_parameter: version: is given more than once", "", nil},
		{"GET /get/k?=", "", 422, "unknown_parameter: query: the parameter '' is unknown; the known ones are version, at, raw, min_revision", "", nil},
		{"GET /none?x=1", "", 404, "not_found: There is no such endpoint; /docs lists them", "", nil},
	})
	if after := s.revisionNow(t); after != before {
		t.Errorf("refused requests changed the store: %s to %s", before, after)
	}
	s.run(t, []step{
		{"POST /destroy/k?versions=4&versions=3,2&version%73=3", "", 200, `{"operation":"destroy","key":"k","versions":[4,3,2],"all":false,"total_versions":2` + erased() + `}`, "", nil},
		{"POST /destroy/k?versions=1&versions=", "", 422, "invalid_versions: versions: must be 1 to 1000 positive integers, separated by commas", "", nil},
		{"POST /destroy/k?versions=1" + strings.Repeat("&versions=1", 1000), "", 422, "invalid_versions: versions: must be 1 to 1000 positive integers, separated by commas", "", nil},
	})
	for _, version := range []string{"2", "3", "4"} {
		if got := s.do(t, "GET", "/get/k?version="+version, ""); got.status != 410 {
			t.Errorf("version %s: %d, want it destroyed", version, got.status)
		}
	}
}

func TestMembersOfTheBody(t *testing.T) {
	s := start(t)
	const (
		twice = "repeated_member: body.value: is given twice"
		ttl   = "misplaced_member: body.ttl: belongs in the query, not in the body: ?ttl=90s"
		match = `misplaced_member: body.if_version: belongs in the header, not in the body: If-Match: "3", or If-None-Match: * for a key that does not exist`
	)
	s.run(t, []step{
		{"PUT /put/k", `{"value":1,"value":2}`, 422, twice, "", nil},
		{"POST /put/k", `{"value":1,"x":3,"v\u0061lue":1}`, 422, twice, "", nil},
		{"PUT /put/k", `{"value":1,"ttl":"1s"}`, 422, ttl, "", nil},
		{"PUT /put/k", `{"t\u0074l":null,"value":1}`, 422, ttl, "", nil},
		{"PUT /put/k", `{"value":1,"if_version":1}`, 422, match, "", nil},
		{"GET /get/k", "", 404, "key_not_found: Key 'k' not found", "", nil},
		{"PUT /put/k", `{"Value":1,"value":{"ttl":1,"ttl":2,"value":1,"value":2},"TTL":1,"key":"x","key":"y"}`, 200, `{"operation":"create","key":"k","version":1,"new_version":null,"previous_version":null,"total_versions":1,"timestamp":1764000000.123456,"revision":1}`, `"1"`, nil},
		{"GET /get/k", "", 200, `{"key":"k","value":{"ttl":1,"ttl":2,"value":1,"value":2},"version":1,"timestamp":1764000000.123456,"revision":1,"source":"cache"}`, `"1"`, nil},
	})
}

func TestByteOrderMarks(t *testing.T) {
	s := start(t)
	const (
		utf8  = "malformed_json: body: begins with a byte order mark (EF BB BF), which is not JSON; send it without"
		utf16 = "malformed_json: body: begins with a byte order mark of UTF-16; send it as UTF-8, without one"
		kind  = "Content-Type"
	)
	for _, write := range [][2]string{{"PUT /put/k", "application/json"}, {"POST /batch", "application/json"}, {"PATCH /patch/k", mergePatch}, {"PATCH /patch/k", jsonPatch}} {
		s.run(t, []step{
			{write[0], "\xef\xbb\xbf{\"value\":1}", 400, utf8, "", []string{kind, write[1]}},
			{write[0], "\xff\xfe{\x00}\x00", 400, utf16, "", []string{kind, write[1]}},
			{write[0], "\xfe\xff\x00{\x00}", 400, utf16, "", []string{kind, write[1]}},
		})
	}
	s.run(t, []step{
		{"PUT /put/k", "just text", 400, "malformed_json: body: invalid character 'j' looking for beginning of value" + untyped, "", nil},
		{"PUT /put/k", "just text", 400, "malformed_json: body: invalid character 'j' looking for beginning of value", "", []string{kind, "application/json"}},
	})
}

// TestUnsupportedConditions tests that a condition that the route does not evaluate is refused
// and nothing is done, except that a read may ignore a date.
func TestUnsupportedConditions(t *testing.T) {
	s := start(t)
	for range 2 {
		s.do(t, "PUT", "/put/k", `{"value":1}`)
	}
	const date = "Mon, 24 Nov 2025 16:00:00 GMT"
	reads := []string{"GET /get/k", "GET /keys", "GET /history/k", "GET /diff/k", "GET /cache/stats", "GET /db/stats", "GET /db/backup", "GET /health", "GET /openapi.json", "HEAD /get/k"}
	writes := []string{"PUT /put/k", "POST /put/k", "DELETE /delete/k", "POST /revert/k?version=1", "POST /destroy/k?all=true", "PATCH /patch/k", "POST /batch", "POST /db/compact"}
	evaluated := map[string]bool{"/put/k": true, "/get/k": true, "/delete/k": true, "/revert/k?version=1": true, "/destroy/k?all=true": true, "/patch/k": true}
	for _, request := range slices.Concat(reads, writes) {
		method, target, _ := strings.Cut(request, " ")
		for _, name := range []string{"If-Match", "If-None-Match", "If-Unmodified-Since", "If-Modified-Since"} {
			value := date
			refused := !slices.Contains(reads, request)
			if strings.HasSuffix(name, "-Match") {
				value, refused = `"9"`, !evaluated[target]
			}
			before := s.revisionNow(t)
			got := s.do(t, method, target, `{"operations":[{"op":"delete","key":"k"}]}`, name, value)
			if !refused {
				if got.status == 400 {
					t.Errorf("%s with %s: %d %s", request, name, got.status, got.body)
				}
				continue
			}
			detail, _ := got.problem(t)["detail"].(string)
			if got.status != 400 || !strings.HasPrefix(detail, name+": is not a condition of this request") || s.revisionNow(t) != before {
				t.Errorf("%s with %s: %d %s", request, name, got.status, got.body)
			}
		}
	}
	s.run(t, []step{
		{"POST /batch", `{"operations":[{"op":"get","key":"k"}]}`, 400, "unsupported_condition: If-Match: is not a condition of this request; a batch has conditions and if_version in its body", "", []string{"If-Match", `"1"`}},
		{"PUT /put/k", `{"value":1}`, 400, "unsupported_condition: If-Unmodified-Since: is not a condition of this request; If-Match with the ETag of a version is exact where a date is not", "", []string{"If-Unmodified-Since", date}},
	})
}

// TestEncodedBodies tests that every write refuses a body that is encoded, or a part of one.
func TestEncodedBodies(t *testing.T) {
	s := start(t)
	s.do(t, "PUT", "/put/k", `{"value":1}`)
	before := s.revisionNow(t)
	bodies := map[string]string{"POST /batch": `{"operations":[{"op":"put","key":"k","value":1}]}`, "PATCH /patch/k": `{"a":1}`}
	writes := []string{"PUT /put/k", "POST /put/k", "DELETE /delete/k", "POST /revert/k?version=1", "POST /destroy/k?all=true", "PATCH /patch/k", "POST /batch"}
	send := func(request string, header http.Header) answer {
		method, target, _ := strings.Cut(request, " ")
		body := bodies[request]
		if body == "" {
			body = `{"value":2}`
		}
		if header.Get("Content-Type") == "" && method == "PATCH" {
			header.Set("Content-Type", mergePatch)
		}
		return s.send(t, method, target, body, header)
	}
	for _, request := range writes {
		for _, codings := range [][]string{{"gzip"}, {"GZIP"}, {"identity", "gzip"}, {"identity, br"}, {"", "deflate"}, {"identity,,zstd,"}, {"x"}} {
			got := send(request, http.Header{"Content-Encoding": codings})
			if fields := got.problem(t); got.status != 415 || fields["code"] != "unsupported_media_type" || got.header.Get("Accept-Encoding") != "identity" {
				t.Errorf("%s of %q: %d %s", request, codings, got.status, got.body)
			}
		}
		for name, values := range map[string][]string{"Content-Range": {"bytes 0-1/2"}, "Content-Type": {"application/json", mergePatch}} {
			if got := send(request, http.Header{name: values}); got.status != 400 {
				t.Errorf("%s with %s %q: %d %s", request, name, values, got.status, got.body)
			}
		}
	}
	if after := s.revisionNow(t); after != before {
		t.Errorf("refused requests changed the store: %s to %s", before, after)
	}
	for _, request := range []string{"PUT /put/k", "PATCH /patch/k", "POST /batch"} {
		for _, codings := range [][]string{{"identity"}, {"Identity", ""}, {" identity , identity"}, {","}} {
			if got := send(request, http.Header{"Content-Encoding": codings}); got.status != 200 {
				t.Errorf("%s of %q: %d %s", request, codings, got.status, got.body)
			}
		}
	}
}

// TestWeakTags tests that the answer says why an If-Match with a weak tag cannot hold.
func TestWeakTags(t *testing.T) {
	s := start(t)
	s.do(t, "PUT", "/put/k", `{"value":1}`)
	const why = `; If-Match compares strongly, so a weak tag such as W/"1" never matches: send "1"`
	s.run(t, []step{
		{"PUT /put/k", `{"value":1}`, 412, "precondition_failed: Precondition failed: Key 'k' is at version 1" + why, "", []string{"If-Match", `W/"1"`}},
		{"DELETE /delete/k", "", 412, "precondition_failed: Precondition failed: Key 'k' is at version 1" + why, "", []string{"If-Match", `"7", W/"1"`}},
		{"GET /get/k", "", 412, "precondition_failed: If-Match: the version that was asked for of key 'k' is 1" + why, "", []string{"If-Match", `W/"1"`}},
		{"PUT /put/k", `{"value":1}`, 412, "precondition_failed: Precondition failed: Key 'k' is at version 1", "", []string{"If-Match", `"7"`}},
		{"PUT /put/k", `{"value":1}`, 412, "precondition_failed: Precondition failed: Key 'k' is at version 1", "", []string{"If-None-Match", `W/"1"`}},
	})
}
