package api_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kvstore/backend/api"
	"kvstore/backend/cache"
	"kvstore/backend/database/databasetest"
	"kvstore/backend/kv"
	"kvstore/backend/store"
)

func TestBatch(t *testing.T) {
	s := start(t)
	const when = `"timestamp":1764000000.123456`
	for _, step := range []struct{ body, want string }{
		{
			`{"operations":[{"op":"put","key":"a","value":{ "n":12345678901234567890, "n":0.1000 }},{"op":"get","key":"a"},{"op":"get","key":"<c>"}]}`,
			`{"revision":1,"results":[` +
				`{"op":"put","operation":"create","key":"a","version":1,"new_version":null,"previous_version":null,"total_versions":1,` + when + `,"revision":1},` +
				`{"op":"get","found":true,"key":"a","value":{ "n":12345678901234567890, "n":0.1000 },"version":1,` + when + `,"revision":1,"source":"database"},` +
				`{"op":"get","found":false,"key":"<c>","status":404,"code":"key_not_found","detail":"Key '<c>' not found"}]}`,
		},
		{
			`{"conditions":[{"key":"a","version":1},{"key":"b","version":0}],"operations":[{"op":"put","key":"a","value":null,"if_version":1},{"op":"delete","key":"a","if_version":2},` +
				`{"op":"get","key":"a","if_version":0},{"op":"revert","key":"a","if_version":0},{"op":"revert","key":"a","version":1}]}`,
			`{"revision":5,"results":[` +
				`{"op":"put","operation":"update","key":"a","version":2,"new_version":2,"previous_version":1,"total_versions":2,` + when + `,"revision":2},` +
				`{"op":"delete","operation":"delete","key":"a","version":3,"new_version":3,"previous_version":2,"total_versions":3,` + when + `,"revision":3},` +
				`{"op":"get","found":false,"key":"a","status":404,"code":"key_deleted","detail":"Key 'a' was deleted at version 3"},` +
				`{"op":"revert","operation":"revert","key":"a","version":4,"new_version":null,"previous_version":null,"total_versions":4,` + when + `,"revision":4},` +
				`{"op":"revert","operation":"revert","key":"a","version":5,"new_version":5,"previous_version":4,"total_versions":5,` + when + `,"revision":5}]}`,
		},
		{
			`{"operations":[{"op":"get","key":"a"}],"conditions":[]}`,
			`{"revision":5,"results":[{"op":"get","found":true,"key":"a","value":{ "n":12345678901234567890, "n":0.1000 },"version":5,` + when + `,"revision":5,"source":"database"}]}`,
		},
		{
			`{"operations":[{"op":"put","key":"raw","value":"/9j/","encoding":"base64","content_type":"image/png"},{"op":"get","key":"raw"}]}`,
			`{"revision":6,"results":[` +
				`{"op":"put","operation":"create","key":"raw","version":1,"new_version":null,"previous_version":null,"total_versions":1,` + when + `,"revision":6,"content_type":"image/png","size":3},` +
				`{"op":"get","found":true,"key":"raw","value":"/9j/","encoding":"base64","content_type":"image/png","version":1,` + when + `,"revision":6,"source":"database"}]}`,
		},
	} {
		got := s.do(t, "POST", "/batch", step.body)
		if diff := cmp.Diff(step.want, strings.TrimSuffix(got.body, "\n")); got.status != 200 || diff != "" {
			t.Errorf("%s = %d %s", step.body, got.status, diff)
		}
	}
	many := strings.TrimSuffix(strings.Repeat(`{"op":"put","key":"many","value":1},`, 128), ",")
	if got := s.do(t, "POST", "/batch", `{"operations":[`+many+`]}`); got.status != 200 || !strings.HasPrefix(got.body, `{"revision":134,`) {
		t.Errorf("128 operations: %d %.80s", got.status, got.body)
	}
}

func TestBatchProblems(t *testing.T) {
	s := start(t)
	s.do(t, "PUT", "/put/k", `{"value":1}`)
	before := s.do(t, "GET", "/db/stats", "").body
	operations := func(text string) string { return `{"operations":[{"op":"put","key":"new","value":1},` + text + `]}` }
	repeated := func(name, text string, n int) string {
		return `{"` + name + `":[` + strings.TrimSuffix(strings.Repeat(text+",", n), ",") + `],"operations":[{"op":"get","key":"k"}]}`
	}
	for _, test := range []struct {
		body, status, code, detail string
		members                    map[string]any
	}{
		{`{`, "400", "malformed_json", "", nil},
		{"{\"operations\":[{\"op\":\"put\",\"key\":\"\xff\",\"value\":1}]}", "400", "malformed_json", "body: is not valid UTF-8", nil},
		{`[]`, "422", "invalid_batch", "body: must be an object", nil},
		{`{}`, "422", "invalid_batch", "operations: must be an array of 1 to 128 operations", nil},
		{`{"operations":[]}`, "422", "invalid_batch", "operations: must be an array of 1 to 128 operations", nil},
		{`{"operations":null}`, "422", "invalid_batch", "", nil},
		{`{"Operations":[]}`, "422", "invalid_batch", `body: the member "Operations" is unknown; the known ones are conditions, operations`, nil},
		{`{"operations":[{"op":"get","key":"k"}],"operations":[]}`, "422", "invalid_batch", "body.operations: is given twice", nil},
		{`{"operations":[` + strings.Repeat(`{"op":"get","key":"k"},`, 128) + `{"op":"get","key":"k"}]}`, "422", "invalid_batch", "operations: must be an array of 1 to 128 operations", nil},
		{repeated("conditions", `{"key":"k","version":1}`, 129), "422", "invalid_batch", "conditions: must be an array of 0 to 128 conditions", nil},
		{repeated("conditions", `{"key":"k"}`, 1), "422", "invalid_batch", "conditions[0].version: must be an integer of at least 0", map[string]any{"condition": 0.0}},
		{repeated("conditions", `{"key":"k","version":1.0}`, 1), "422", "invalid_batch", "", nil},
		{repeated("conditions", `{"key":"k","version":"1"}`, 1), "422", "invalid_batch", "", nil},
		{repeated("conditions", `{"key":"","version":1}`, 1), "400", "invalid_key", "conditions[0].key: must not be empty", map[string]any{"condition": 0.0}},
		{repeated("conditions", `1`, 1), "422", "invalid_batch", "conditions[0]: must be an object", nil},
		{operations(`null`), "422", "invalid_batch", "operations[1]: must be an object", map[string]any{"operation": 1.0}},
		{operations(`{"key":"k"}`), "422", "invalid_batch", "operations[1].op: must be put, delete, get or revert", nil},
		{operations(`{"op":"Put","key":"k"}`), "422", "invalid_batch", "", nil},
		{operations(`{"op":"expire","key":"k"}`), "422", "invalid_batch", "", nil},
		{operations(`{"op":"get"}`), "422", "invalid_batch", "operations[1].key: must be there, as a string of Unicode characters", nil},
		{operations(`{"op":"get","key":1}`), "422", "invalid_batch", "", nil},
		{operations(`{"op":"get","key":"\ud800"}`), "422", "invalid_batch", "", nil},
		{operations(`{"op":"get","key":"\u0000"}`), "400", "invalid_key", "operations[1].key: has the control character U+0000 at byte 0", map[string]any{"operation": 1.0}},
		{operations(`{"op":"put","key":"k"}`), "422", "invalid_batch", "operations[1].value: must be there", nil},
		{operations(`{"op":"put","key":"k","value":1,"value":2}`), "422", "invalid_batch", "operations[1].value: is given twice", nil},
		{operations(`{"op":"put","key":"k","value":1,"x":2}`), "422", "invalid_batch", "", nil},
		{operations(`{"op":"get","key":"k","value":1}`), "422", "invalid_batch", "operations[1].value: does not belong to get", nil},
		{operations(`{"op":"put","key":"k","value":1,"ttl":"-1s"}`), "422", "invalid_batch", "", nil},
		{operations(`{"op":"put","key":"k","value":1,"ttl":90}`), "422", "invalid_batch", "operations[1].ttl: must be a duration such as 90s or 1h30m, from 1ms to 876000h", nil},
		{operations(`{"op":"put","key":"k","value":1,"encoding":"base64"}`), "422", "invalid_batch", "", nil},
		{operations(`{"op":"put","key":"k","value":1,"content_type":"image/png"}`), "422", "invalid_batch", "", nil},
		{operations(`{"op":"put","key":"k","value":"!","encoding":"base64","content_type":"image/png"}`), "422", "invalid_batch", "", nil},
		{operations(`{"op":"put","key":"k","value":"","encoding":"base64","content_type":"application/json"}`), "422", "invalid_batch", "", nil},
		{operations(`{"op":"put","key":"k","value":"","encoding":"base64","content_type":"a/b; x=\"\u65e5\""}`), "422", "invalid_batch", "", nil},
		{operations(`{"op":"revert","key":"k","version":0}`), "422", "invalid_batch", "operations[1].version: must be an integer of at least 1", nil},
		{operations(`{"op":"get","key":"k","if_version":-1}`), "422", "invalid_batch", "operations[1].if_version: must be an integer of at least 0", nil},
		{operations(`{"op":"put","key":"k","value":"` + strings.Repeat("x", maxValueBytes) + `"}`), "413", "value_too_large", "operations[1]: value: is over the limit of 1000 bytes (KV_MAX_VALUE_BYTES)", map[string]any{"operation": 1.0}},
		{operations(`{"op":"put","key":"k","value":"` + strings.Repeat("x", 70_000) + `"}`), "413", "value_too_large", "operations[1]: value: is over the limit of 1000 bytes (KV_MAX_VALUE_BYTES)", nil},
		{operations(`{"op":"put","key":"k","value":"` + strings.Repeat("x", 1_060_000) + `"}`), "413", "value_too_large", "body: is over the limit of 1053920 bytes (4 times KV_MAX_VALUE_BYTES in base64, plus 1048576)", nil},
		{
			`{"conditions":[{"key":"none","version":0},{"key":"k","version":2}],"operations":[{"op":"put","key":"new","value":1}]}`, "412", "precondition_failed",
			"conditions[1]: Key 'k' is at version 1", map[string]any{"condition": 1.0, "key": "k", "current_version": 1.0},
		},
		{
			operations(`{"op":"put","key":"new","value":1,"if_version":0}`), "412", "precondition_failed",
			"operations[1]: Precondition failed: Key 'new' does not exist, and an earlier operation of this batch would have changed it",
			map[string]any{"operation": 1.0, "key": "new", "current_version": 0.0},
		},
		{operations(`{"op":"delete","key":"none"}`), "404", "key_not_found", "operations[1]: Key 'none' not found", map[string]any{"operation": 1.0}},
		{operations(`{"op":"revert","key":"k","version":7}`), "404", "version_not_found", "", map[string]any{"operation": 1.0}},
		{operations(`{"op":"revert","key":"k"}`), "422", "invalid_version", "", map[string]any{"operation": 1.0}},
	} {
		t.Run(fmt.Sprintf("%.90s", test.body), func(t *testing.T) {
			got := s.do(t, "POST", "/batch", test.body)
			fields := got.problem(t)
			if fmt.Sprint(got.status) != test.status || fields["code"] != test.code || test.detail != "" && fields["detail"] != test.detail {
				t.Errorf("got %d %s, want %s %s %s", got.status, got.body, test.status, test.code, test.detail)
			}
			for name, want := range test.members {
				if fields[name] != want {
					t.Errorf("%s = %v, want %v", name, fields[name], want)
				}
			}
		})
	}
	if after := s.do(t, "GET", "/db/stats", "").body; after != before {
		t.Errorf("bad batches changed the store: %s to %s", before, after)
	}
	if got := s.do(t, "POST", "/batch", `{}`, "Content-Type", "text/plain"); got.status != 415 {
		t.Errorf("text/plain: %d", got.status)
	}
	if got := s.do(t, "GET", "/batch", ""); got.status != 405 || got.header.Get("Allow") != "POST" {
		t.Errorf("GET: %d, Allow %q", got.status, got.header.Get("Allow"))
	}
}

// TestLargeBatches tests that a batch may have four of the largest values in base64, more of
// them as JSON, and that the limit is the same for a body without a length.
func TestLargeBatches(t *testing.T) {
	s := startWith(t, store.Config{Now: newTestClock().now}, api.Config{})
	raw := strings.Repeat("\xff", mebibyte)
	for name, test := range map[string]struct {
		value string
		count int
		more  string
	}{
		"one of 850 KB in base64":  {base64.StdEncoding.EncodeToString([]byte(raw[:850_000])), 1, `,"encoding":"base64","content_type":"a/b"`},
		"two of 600 KB":            {strings.Repeat("x", 600_000), 2, ""},
		"four of the largest":      {base64.StdEncoding.EncodeToString([]byte(raw)), 4, `,"encoding":"base64","content_type":"a/b"`},
		"five of the largest JSON": {strings.Repeat("x", mebibyte-2), 5, ""},
		"128 small, long keys":     {"x", 128, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var operations, keys []string
			for i := range test.count {
				key := fmt.Sprintf(`%s%03d`, strings.Repeat(`\u0101`, 250), i)
				keys = append(keys, fmt.Sprintf(`{"key":"%s","version":0}`, key))
				operations = append(operations, fmt.Sprintf(`{"op":"put","key":"%s","value":"%s"%s}`, key, test.value, test.more))
			}
			body := `{"conditions":[` + strings.Join(keys, ",") + `],"operations":[` + strings.Join(operations, ",") + `]}`
			got := s.do(t, "POST", "/batch", body)
			if got.status != 200 {
				t.Fatalf("%d bytes: %d %.300s", len(body), got.status, got.body)
			}
			if got := s.do(t, "POST", "/batch", strings.ReplaceAll(body, `"op":"put"`, `"op":"put","if_version":1`)); got.status != 412 {
				t.Errorf("again: %d %.300s", got.status, got.body)
			}
			for i := range test.count {
				s.do(t, "POST", fmt.Sprintf("/destroy/%s%03d?all=true", strings.Repeat("%C4%81", 250), i), "")
			}
		})
	}
	const limit = 4*1398104 + mebibyte
	want := fmt.Sprintf("body: is over the limit of %d bytes (4 times KV_MAX_VALUE_BYTES in base64, plus 1048576)", limit)
	body := `{"operations":[{"op":"get","key":"k"}]}` + strings.Repeat(" ", limit)
	for _, test := range []struct{ length, status int }{{limit, 200}, {limit + 1, 413}} {
		for _, reader := range []io.Reader{strings.NewReader(body[:test.length]), io.MultiReader(strings.NewReader(body[:test.length]))} {
			response, err := http.Post(s.URL+"/batch", "application/json", reader)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(response.Body)
			response.Body.Close()
			if err != nil || response.StatusCode != test.status || test.status == 413 && !strings.Contains(string(text), want) {
				t.Errorf("%d bytes: %d %s, %v", test.length, response.StatusCode, text, err)
			}
		}
	}
}

// fuzzHandler returns a backend that runs until the fuzz test ends.
func fuzzHandler(f *testing.F) http.Handler {
	f.Helper()
	db := databasetest.Open(f, databasetest.URL(f))
	entries, err := cache.New(cache.Config[kv.Entry]{MaxKeys: 2, MaxBytes: 1 << 20, Size: func(_ string, e kv.Entry) int64 { return e.Size() }})
	if err != nil {
		f.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	s, err := store.New(store.Config{Database: db, Cache: entries, MaxValueBytes: maxValueBytes, Logger: logger})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close(); entries.Close() })
	return api.New(api.Config{Store: s, Logger: logger})
}

func serve(handler http.Handler, method, target string, body []byte, contentType string) *httptest.ResponseRecorder {
	request := httptest.NewRequest(method, target, bytes.NewReader(body))
	request.Header.Set("Content-Type", contentType)
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)
	return recorder
}

func revision(t *testing.T, handler http.Handler) (stats struct{ Revision int64 }) {
	t.Helper()
	if err := json.Unmarshal(serve(handler, "GET", "/db/stats", nil, "").Body.Bytes(), &stats); err != nil {
		t.Fatal(err)
	}
	return stats
}

// FuzzBatch sends any body. It expects no 5xx and no panic, a result for each operation of a
// batch that was accepted, and nothing written by one that was not.
func FuzzBatch(f *testing.F) {
	for _, body := range []string{
		`{"operations":[{"op":"put","key":"a","value":1,"ttl":"90s"},{"op":"get","key":"a"}]}`,
		`{"conditions":[{"key":"a","version":0}],"operations":[{"op":"put","key":"a","value":"/9j/","encoding":"base64","content_type":"image/png"},{"op":"get","key":"a"}]}`,
		`{"operations":[{"op":"delete","key":"a","if_version":1},{"op":"revert","key":"a"},{"op":"revert","key":"a","version":1}]}`,
		`{"operations":[{"op":"delete","key":"none"}]}`, `{"operations":[{"op":"get","key":"\ud800"}]}`, `{"operations":[[],{}]}`, `{}`, `[`, ``, "\xff",
	} {
		f.Add([]byte(body))
	}
	handler := fuzzHandler(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		before := revision(t, handler)
		got := serve(handler, "POST", "/batch", body, "application/json")
		after := revision(t, handler)
		if got.Code >= 500 || got.Code != 200 && before != after {
			t.Fatalf("%d %s for %q; the revision went from %d to %d", got.Code, got.Body, body, before.Revision, after.Revision)
		}
		if got.Code != 200 {
			return
		}
		var request struct{ Operations []json.RawMessage }
		var answer struct {
			Revision int64
			Results  []json.RawMessage
		}
		if err := json.Unmarshal(body, &request); err != nil {
			t.Fatalf("accepted %q: %v", body, err)
		}
		if err := json.Unmarshal(got.Body.Bytes(), &answer); err != nil || len(answer.Results) != len(request.Operations) || answer.Revision < before.Revision || answer.Revision > after.Revision {
			t.Fatalf("%q was answered %s, %v", body, got.Body, err)
		}
	})
}
