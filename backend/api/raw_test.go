package api_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"kvstore/backend/api"
	"kvstore/backend/store"
)

const mebibyte = 1 << 20

// A rawAnswer is the JSON answer of a raw value.
type rawAnswer struct {
	Value       *string
	Encoding    string
	ContentType string `json:"content_type"`
	Source      string
}

// checkRaw reads a key raw and as JSON, and compares both with what was written.
func checkRaw(t *testing.T, s *server, target, value, kind string) {
	t.Helper()
	separator := "?"
	if strings.Contains(target, "?") {
		separator = "&"
	}
	for _, method := range []string{"GET", "HEAD"} {
		got := s.do(t, method, target+separator+"raw=true", "")
		want := value
		if method == "HEAD" {
			want = ""
		}
		if got.status != 200 || got.body != want {
			t.Errorf("%s %s: %d with %d bytes, want %d: %.100q", method, target, got.status, len(got.body), len(want), got.body)
		}
		for name, want := range map[string]string{
			"Content-Type": kind, "Content-Length": fmt.Sprint(len(value)), "X-Content-Type-Options": "nosniff",
			"Content-Security-Policy": "sandbox; default-src 'none'", "Cache-Control": "no-cache", "Last-Modified": "",
			"Accept-Ranges": "bytes", "Content-Encoding": "",
		} {
			if got.header.Get(name) != want {
				t.Errorf("%s %s: %s = %q, want %q", method, target, name, got.header.Get(name), want)
			}
		}
		if version := got.header.Get("X-KV-Version"); got.header.Get("ETag") != `"`+version+`"` || got.header.Get("X-KV-Revision") == "" {
			t.Errorf("%s %s: %v", method, target, got.header)
		}
	}
	var fields rawAnswer
	if err := json.Unmarshal([]byte(s.do(t, "GET", target, "").body), &fields); err != nil {
		t.Fatal(err)
	}
	if fields.Value == nil || *fields.Value != base64.StdEncoding.EncodeToString([]byte(value)) || fields.Encoding != "base64" || fields.ContentType != kind {
		t.Errorf("GET %s: encoding %q, content_type %q, want %q, value %.100v", target, fields.Encoding, fields.ContentType, kind, fields.Value)
	}
}

func TestRawValues(t *testing.T) {
	s := startWith(t, store.Config{Now: newTestClock().now}, api.Config{})
	const png = "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"
	for i, test := range []struct{ kind, value string }{
		{"image/png", png},
		{"text/html", "<script>alert(1)</script>"},
		{"text/plain; charset=latin1", "\xe4\xf6\xfc"},
		{"TEXT/Plain;Charset=\"UTF-8\"", "as it was sent"},
		{"application/octet-stream", ""},
		{"application/octet-stream", strings.Repeat("\x00", mebibyte)},
		{"application/ld+json", `{"@id": "x"}`},
		{"application/jsonl", "{}\n{}\n"},
		{"application/json-patch+json", `[]`},
		{"multipart/form-data; boundary=x", "--x\r\n\r\n1\r\n--x--\r\n"},
		{`x/y; q="\"\\"`, "quotes in the type"},
		{"a/b;;=;", "odd parameters"},
		{"text/event-stream", "data: 1\n\n"},
		{"x/" + strings.Repeat("y", 253), "a long type"},
	} {
		target := fmt.Sprintf("k%d", i)
		put := s.do(t, "PUT", "/put/"+target, test.value, "Content-Type", test.kind)
		if put.status != 200 {
			t.Errorf("%s: %d %s", test.kind, put.status, put.body)
			continue
		}
		checkRaw(t, s, "/get/"+target, test.value, test.kind)                              // from the cache
		s.do(t, "PUT", "/put/"+target, `{"value":1}`)                                      // of another kind
		checkRaw(t, s, "/get/"+target+"?version=1", test.value, test.kind)                 // from the database
		if got := s.do(t, "POST", "/revert/"+target+"?version=1", ""); got.status != 200 { // as a new version
			t.Errorf("revert: %d %s", got.status, got.body)
		}
		checkRaw(t, s, "/get/"+target, test.value, test.kind)
	}
	s.do(t, "PUT", "/put/json", `{"value": {"b" : 1.0} }`)
	if got := s.do(t, "GET", "/get/json?raw=true", ""); got.body != `{"b" : 1.0}` || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("a JSON value is %q of %s", got.body, got.header.Get("Content-Type"))
	}
	s.run(t, []step{
		{"PUT /put/k", "hi", 200, `{"operation":"create","key":"k","version":1,"new_version":null,"previous_version":null,"total_versions":1,"timestamp":1764000000.123456,"revision":44,"content_type":"a/b; q=\"\\\"","size":2}`, `"1"`, []string{"Content-Type", `a/b; q="\"`}},
		{"GET /get/k", "", 200, `{"key":"k","value":"aGk=","encoding":"base64","content_type":"a/b; q=\"\\\"","version":1,"timestamp":1764000000.123456,"revision":44,"source":"cache"}`, `"1"`, nil},
		{"GET /get/k?raw=false", "", 200, `{"key":"k","value":"aGk=","encoding":"base64","content_type":"a/b; q=\"\\\"","version":1,"timestamp":1764000000.123456,"revision":44,"source":"cache"}`, `"1"`, nil},
		{"GET /get/k?raw=1", "", 422, "invalid_raw: raw: must be true or false", "", nil},
		{"GET /get/none?raw=true", "", 404, "key_not_found: Key 'none' not found", "", nil},
	})
}

// TestRawWritesSaySo tests that the answer tells a client that its body was kept as a raw
// value.
func TestRawWritesSaySo(t *testing.T) {
	s := start(t)
	const (
		when = `"timestamp":1764000000.123456`
		text = `"content_type":"text/plain;charset=UTF-8","size":11`
	)
	plain := []string{"Content-Type", "text/plain;charset=UTF-8"} // as fetch sends a string
	s.run(t, []step{
		{"PUT /put/k", `{"value":1}`, 200, `{"operation":"create","key":"k","version":1,"new_version":null,"previous_version":null,"total_versions":1,` + when + `,"revision":1,` + text + `}`, `"1"`, plain},
		{"PUT /put/k", `{"value":1}`, 200, `{"operation":"update","key":"k","version":2,"new_version":2,"previous_version":1,"total_versions":2,` + when + `,"revision":2}`, `"2"`, nil},
		{"POST /revert/k?version=1", "", 200, `{"operation":"revert","key":"k","version":3,"new_version":3,"previous_version":2,"total_versions":3,` + when + `,"revision":3,` + text + `}`, `"3"`, nil},
		{"POST /batch", `{"operations":[{"op":"revert","key":"k","version":1}]}`, 200, `{"revision":4,"results":[{"op":"revert","operation":"revert","key":"k","version":4,"new_version":4,"previous_version":3,"total_versions":4,` + when + `,"revision":4,` + text + `}]}`, "", nil},
		{"DELETE /delete/k", "", 200, `{"operation":"delete","key":"k","version":5,"new_version":5,"previous_version":4,"total_versions":5,` + when + `,"revision":5}`, "", nil},
		{"PUT /put/empty", "", 200, `{"operation":"create","key":"empty","version":1,"new_version":null,"previous_version":null,"total_versions":1,` + when + `,"revision":6,"content_type":"a/b","size":0}`, `"1"`, []string{"Content-Type", "a/b"}},
	})
}

func TestRawRefusals(t *testing.T) {
	s := start(t)
	const (
		kind  = "unsupported_media_type: Content-Type: must be a type such as image/png in at most 255 printable ASCII characters"
		large = "value_too_large: value: is over the limit of 1000 bytes (KV_MAX_VALUE_BYTES)"
	)
	for _, bad := range []string{
		"x", "application/", "/x", "a/b/c", "a b/c", "a/b c", "*", "*/*", "image/*", "*/png", "a/b*", "a*c/b", "*/*; q=1", `"a"/b`, "a/b,c/d", "ä/b", "a/b; x=ä", "a/b;\tx=1", ";", "a/(b)", "x/" + strings.Repeat("y", 254),
	} {
		s.run(t, []step{{"PUT /put/k", "v", 415, kind, "", []string{"Content-Type", bad}}})
	}
	binary := func(more ...string) []string { return append([]string{"Content-Type", "a/b"}, more...) }
	s.run(t, []step{
		{"PUT /put/k", strings.Repeat("x", maxValueBytes+1), 413, large, "", binary()},
		{"PUT /put/k", "v", 400, "partial_put: Content-Range: a value can only be written whole", "", binary("Content-Range", "bytes 5-9/10")},
		{"PUT /put/k", "v", 415, "unsupported_media_type: Content-Encoding: is not supported; send the value without an encoding, or under a Content-Type that names it", "", binary("Content-Encoding", "gzip")},
		{"PUT /put/k", `{"value":1}`, 415, "unsupported_media_type: Content-Encoding: is not supported; send the value without an encoding, or under a Content-Type that names it", "", []string{"Content-Encoding", "gzip"}},
		{"GET /get/k", "", 404, "key_not_found: Key 'k' not found", "", nil},
		{"PUT /put/k", strings.Repeat("x", maxValueBytes), 200, `{"operation":"create","key":"k","version":1,"new_version":null,"previous_version":null,"total_versions":1,"timestamp":1764000000.123456,"revision":1,"content_type":"a/b","size":1000}`, `"1"`, binary("Content-Encoding", "identity")},
	})
	// Without a length, the limit is found while reading.
	for _, test := range []struct{ length, status int }{{maxValueBytes + 1, 413}, {maxValueBytes, 200}} {
		body := struct{ *strings.Reader }{strings.NewReader(strings.Repeat("x", test.length))}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.URL+"/put/k", body)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "a/b")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != test.status {
			t.Errorf("%d bytes in chunks: %d, want %d", test.length, response.StatusCode, test.status)
		}
	}
}

func TestRawRanges(t *testing.T) {
	s := start(t)
	s.do(t, "PUT", "/put/k", "0123456789", "Content-Type", "a/b")
	s.do(t, "PUT", "/put/empty", "", "Content-Type", "a/b")
	const (
		whole  = "0123456789"
		within = "Range: must be within the 10 bytes of the value"
		badly  = "Range: must be such as bytes=0-99, bytes=100- or bytes=-5, and may have 32 of them separated by commas"
	)
	for _, test := range []struct {
		target, ranges, ifRange string
		status                  int
		body, contentRange      string // of an error, its detail
	}{
		{"k", "bytes=0-3", "", 206, "0123", "bytes 0-3/10"},
		{"k", "bytes=-3", "", 206, "789", "bytes 7-9/10"},
		{"k", "bytes=8-99", "", 206, "89", "bytes 8-9/10"},
		{"k", "bytes=8-", "", 206, "89", "bytes 8-9/10"},
		{"k", "bytes=9-9", "", 206, "9", "bytes 9-9/10"},
		{"k", "bytes=-99", "", 206, whole, "bytes 0-9/10"},
		{"k", "bytes=-10", "", 206, whole, "bytes 0-9/10"},
		{"k", "bytes=0-9223372036854775807", "", 206, whole, "bytes 0-9/10"},
		{"k", "bytes=0-9223372036854775808", "", 206, whole, "bytes 0-9/10"},
		{"k", "bytes=2-99999999999999999999999999", "", 206, "23456789", "bytes 2-9/10"},
		{"k", "bytes=-99999999999999999999999999", "", 206, whole, "bytes 0-9/10"},
		{"k", "bytes=00000000000000000000000-0000000000000000000001", "", 206, "01", "bytes 0-1/10"},
		{"k", "BYTES=0-3", "", 206, "0123", "bytes 0-3/10"},
		{"k", "bytes=, 0-3 ,,", "", 206, "0123", "bytes 0-3/10"},
		{"k", "bytes=0-3,10-20,-0", "", 206, "0123", "bytes 0-3/10"},
		{"k", "bytes=0-3", `"1"`, 206, "0123", "bytes 0-3/10"},
		{"k", "bytes=0-3", `"2"`, 200, whole, ""},
		{"k", "bytes=x", `"2"`, 200, whole, ""},
		{"k", "bytes=0-3", `W/"1"`, 200, whole, ""},
		{"k", "bytes=0-3", "Mon, 24 Nov 2025 16:00:00 GMT", 200, whole, ""},
		{"k", "lines=0-3", "", 200, whole, ""},
		{"k", "bytes", "", 416, badly, ""},
		{"k", "bytes=0-9,0-9,0-9", "", 200, whole, ""}, // more than the value has
		{"k", "bytes=10-", "", 416, within, "bytes */10"},
		{"k", "bytes=-0", "", 416, within, "bytes */10"},
		{"k", "bytes=-00", "", 416, within, "bytes */10"},
		{"k", "bytes=-0,10-,11-12", "", 416, within, "bytes */10"},
		{"k", "bytes=9223372036854775808-", "", 416, within, "bytes */10"},
		{"k", "bytes=9223372036854775808-99999999999999999999999", "", 416, within, "bytes */10"},
		{"k", "bytes=x", "", 416, badly, ""},
		{"k", "bytes=", "", 416, badly, ""},
		{"k", "bytes=-", "", 416, badly, ""},
		{"k", "bytes=,", "", 416, badly, ""},
		{"k", "bytes=3-1", "", 416, badly, ""},
		{"k", "bytes=+1-2", "", 416, badly, ""},
		{"k", "bytes=1-+2", "", 416, badly, ""},
		{"k", "bytes=--1", "", 416, badly, ""},
		{"k", "bytes=1-2-3", "", 416, badly, ""},
		{"k", "bytes=1 - 2", "", 416, badly, ""},
		{"k", "bytes=0x1-2", "", 416, badly, ""},
		{"k", "bytes=0-1,x", "", 416, badly, ""},
		{"k", "bytes=0-1" + strings.Repeat(",0-1", 32), "", 416, badly, ""},
		{"empty", "bytes=0-3", "", 200, "", ""},
		{"empty", "bytes=-1", "", 200, "", ""},
		{"empty", "bytes=-0", "", 200, "", ""},
		{"empty", "bytes=5-", "", 200, "", ""},
		{"empty", "bytes=x", "", 416, badly, ""},
	} {
		header := []string{"Range", test.ranges}
		if test.ifRange != "" {
			header = append(header, "If-Range", test.ifRange)
		}
		got := s.do(t, "GET", "/get/"+test.target+"?raw=true", "", header...)
		if got.status != test.status || got.header.Get("Content-Range") != test.contentRange || test.status < 400 && got.body != test.body {
			t.Errorf("%+v: %d %q, Content-Range %q", test, got.status, got.body, got.header.Get("Content-Range"))
		}
		if test.status == 416 {
			if fields := got.problem(t); fields["code"] != "invalid_range" || fields["detail"] != test.body {
				t.Errorf("%+v: %s", test, got.body)
			}
		}
		head := s.do(t, "HEAD", "/get/"+test.target+"?raw=true", "", header...)
		if head.status != 200 { // ranges are for GET only
			t.Errorf("HEAD %+v: %d", test, head.status)
		}
		if json := s.do(t, "GET", "/get/"+test.target, "", header...); json.status != 200 || json.header.Get("Accept-Ranges") != "" {
			t.Errorf("JSON %+v: %d %s", test, json.status, json.body)
		}
	}
	// Two fields are one list, which is malformed with a second unit in it.
	for status, header := range map[int]http.Header{416: {"Range": {"bytes=0-1", "bytes=2-3"}}, 206: {"Range": {"bytes=0-1", "10-11"}}, 200: {"Range": {"bytes=0-1"}, "If-Range": {`"1"`, `"1"`}}} {
		if got := s.send(t, "GET", "/get/k?raw=true", "", header); got.status != status {
			t.Errorf("%v: %d %q, want %d", header, got.status, got.body, status)
		}
	}
	several := s.do(t, "GET", "/get/k?raw=true", "", "Range", "bytes=0-1,4-5")
	if several.status != 206 || !strings.HasPrefix(several.header.Get("Content-Type"), "multipart/byteranges; boundary=") || !strings.Contains(several.body, "Content-Type: a/b\r\n\r\n45\r\n") {
		t.Errorf("two ranges: %d %v %q", several.status, several.header, several.body)
	}
	// Conditions are evaluated before ranges, and the fields of a name are one list.
	if got := s.send(t, "GET", "/get/k?raw=true", "", http.Header{"Range": {"bytes=0-1"}, "If-None-Match": {`"9"`, `"1"`}}); got.status != 304 {
		t.Errorf("a range of a known version: %d", got.status)
	}
	if got := s.send(t, "GET", "/get/k?raw=true", "", http.Header{"Range": {"bytes=0-1"}, "If-Match": {`"9"`, `"1"`}}); got.status != 206 {
		t.Errorf("a range of the version that was asked for: %d", got.status)
	}
}

// TestRawRandom writes random bytes of random lengths, and reads them from the cache and from
// the database.
func TestRawRandom(t *testing.T) {
	s := startWith(t, store.Config{MaxValueBytes: 300_000, Now: newTestClock().now}, api.Config{})
	random := rand.New(rand.NewPCG(1, 2))
	var written []string
	for range 60 {
		value := make([]byte, random.IntN(1<<random.IntN(19)))
		for i := range value {
			value[i] = byte(random.Uint32())
		}
		kind := fmt.Sprintf("x/y%d", len(written))
		if put := s.do(t, "PUT", "/put/k", string(value), "Content-Type", kind); put.status != 200 {
			t.Fatalf("%d bytes: %d %s", len(value), put.status, put.body)
		}
		written = append(written, string(value))
		checkRaw(t, s, "/get/k", string(value), kind)
	}
	for i, value := range written {
		checkRaw(t, s, fmt.Sprintf("/get/k?version=%d", i+1), value, fmt.Sprintf("x/y%d", i))
	}
}

// FuzzPutTyped sends any body as any type. It expects no 5xx and no panic, and reads what was
// accepted with its type.
func FuzzPutTyped(f *testing.F) {
	for _, kind := range []string{"", "application/json", "application/x-www-form-urlencoded", "image/png", "application/ld+json", "text/html; charset=utf-8", "x", "a/b;", "\x00", "ä/b", "APPLICATION/JSON ;x", "a/b\r\nX: y"} {
		for _, body := range []string{`{"value":1}`, "", "\x00\xff", "<b>"} {
			f.Add(kind, []byte(body))
		}
	}
	handler := fuzzHandler(f)
	f.Fuzz(func(t *testing.T, kind string, body []byte) {
		request := httptest.NewRequest(http.MethodPut, "/put/k", bytes.NewReader(body))
		request.Header["Content-Type"] = []string{kind}
		put := httptest.NewRecorder()
		handler.ServeHTTP(put, request)
		if put.Code >= 500 {
			t.Fatalf("%d for %q of %q", put.Code, body, kind)
		}
		if put.Code != 200 {
			return
		}
		get := httptest.NewRecorder()
		handler.ServeHTTP(get, httptest.NewRequest(http.MethodGet, "/get/k", http.NoBody))
		var fields map[string]any
		if err := json.Unmarshal(get.Body.Bytes(), &fields); err != nil {
			t.Fatalf("%v in %q", err, get.Body)
		}
		raw := httptest.NewRecorder()
		handler.ServeHTTP(raw, httptest.NewRequest(http.MethodGet, "/get/k?raw=true", http.NoBody))
		if fields["encoding"] == nil { // it was JSON
			var sent map[string]json.RawMessage
			if err := json.Unmarshal(body, &sent); err != nil || !bytes.Equal(sent["value"], raw.Body.Bytes()) || raw.Header().Get("Content-Type") != "application/json" {
				t.Fatalf("sent %q, got %q of %q", body, raw.Body, raw.Header())
			}
			return
		}
		if !bytes.Equal(raw.Body.Bytes(), body) || raw.Header().Get("Content-Type") != kind || fields["content_type"] != kind {
			t.Fatalf("sent %q of %q, got %q of %q", body, kind, raw.Body, raw.Header())
		}
	})
}
