package api_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kvstore/backend/api"
	"kvstore/backend/cache"
	"kvstore/backend/database"
	"kvstore/backend/database/databasetest"
	"kvstore/backend/docs"
	"kvstore/backend/kv"
	"kvstore/backend/store"
	"kvstore/internal/openapi/contract"
	"kvstore/internal/problem"
	"kvstore/internal/telemetry/telemetrytest"
)

const maxValueBytes = 1000

// A server is the backend over a real database, and the log that it writes.
type server struct {
	*httptest.Server
	db    *database.DB
	store *store.Store
	log   *telemetrytest.Journal
}

func start(t *testing.T) *server {
	t.Helper()
	return startWith(t, store.Config{MaxValueBytes: maxValueBytes}, api.Config{})
}

// startOnFile starts a server whose database is on SQLite in every run, for what PostgreSQL refuses.
func startOnFile(t *testing.T) *server {
	t.Helper()
	db := databasetest.Open(t, databasetest.FileURL(t))
	return startWith(t, store.Config{Database: db, MaxValueBytes: maxValueBytes}, api.Config{})
}

// startWith starts a server. By default values may have a mebibyte, and the clock stands
// still.
func startWith(t *testing.T, cfg store.Config, apiCfg api.Config) *server {
	t.Helper()
	if cfg.Database == nil {
		cfg.Database = databasetest.Open(t, databasetest.URL(t))
	}
	var err error
	cfg.Cache, err = cache.New(cache.Config[kv.Entry]{
		MaxKeys: 2, MaxBytes: mebibyte, Size: func(_ string, e kv.Entry) int64 { return e.Size() },
	})
	if err != nil {
		t.Fatal(err)
	}
	var log telemetrytest.Journal
	cfg.Logger = slog.New(slog.NewJSONHandler(&log, nil))
	if cfg.MaxValueBytes == 0 {
		cfg.MaxValueBytes = mebibyte
	}
	if cfg.Now == nil {
		cfg.Now = func() time.Time { return time.UnixMicro(1764000000123456) }
	}
	s, err := store.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	apiCfg.Store, apiCfg.Logger = s, cfg.Logger
	h := httptest.NewServer(api.New(apiCfg))
	t.Cleanup(func() {
		s.EndWatches()
		h.Close()
		s.Close()
		cfg.Cache.Close()
	})
	return &server{Server: h, db: cfg.Database, store: s, log: &log}
}

type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request with exactly that target, and checks that the document allows the
// answer.
func (s *server) do(t *testing.T, method, target, body string, header ...string) answer {
	t.Helper()
	fields := http.Header{}
	for i := 0; i < len(header); i += 2 {
		fields.Set(header[i], header[i+1])
	}
	got := s.send(t, method, target, body, fields)
	if err := theContract().Check(contract.Exchange{
		Method: method, Target: target, Status: got.status, Header: got.header, Body: []byte(got.body),
	}); err != nil {
		t.Errorf("the answer is not what the document says: %v; body %.300s", err, got.body)
	}
	return got
}

// send sends a request with exactly that target and header.
func (s *server) send(t *testing.T, method, target, body string, header http.Header) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, s.URL, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.URL.Opaque = target
	request.Header = header
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(data)}
}

// theContract is that of the document that the server serves.
var theContract = sync.OnceValue(func() *contract.Contract {
	c, err := contract.New(docs.OpenAPI)
	if err != nil {
		panic(err)
	}
	return c
})

func (a answer) problem(t *testing.T) map[string]any {
	t.Helper()
	if kind := a.header.Get("Content-Type"); kind != "application/problem+json" {
		t.Errorf("Content-Type = %q, want application/problem+json; body %s", kind, a.body)
	}
	var fields map[string]any
	if err := json.Unmarshal([]byte(a.body), &fields); err != nil {
		t.Fatalf("%v in %q", err, a.body)
	}
	if fields["status"] != float64(a.status) || fields["title"] != problem.Phrase(a.status) || fields["type"] != "about:blank" {
		t.Errorf("status %d with the problem %v", a.status, fields)
	}
	return fields
}

func TestEntries(t *testing.T) {
	s := start(t)
	for _, step := range []struct {
		method, target, body string
		status               int
		want                 string
	}{
		{"PUT", "/put/k", `{"value": "hello world"}`, 200, `{"operation":"create","key":"k","version":1,"new_version":null,"previous_version":null,"total_versions":1,"timestamp":1764000000.123456,"revision":1}`},
		{"POST", "/put/k", `{"value": 2}`, 200, `{"operation":"update","key":"k","version":2,"new_version":2,"previous_version":1,"total_versions":2,"timestamp":1764000000.123456,"revision":2}`},
		{"GET", "/get/k", "", 200, `{"key":"k","value":2,"version":2,"timestamp":1764000000.123456,"revision":2,"source":"cache"}`},
		{"GET", "/get/k?version=1", "", 200, `{"key":"k","value":"hello world","version":1,"timestamp":1764000000.123456,"revision":1,"source":"database"}`},
		{"GET", "/get/k?version=2", "", 200, `{"key":"k","value":2,"version":2,"timestamp":1764000000.123456,"revision":2,"source":"cache"}`},
		{"GET", "/cache/stats", "", 200, `{"current_size":1,"max_size":2,"is_full":false,"hits":2,"misses":1,"hit_ratio":0.6667,"evictions":0,"bytes":2,"max_bytes":1048576}`},
	} {
		got := s.do(t, step.method, step.target, step.body)
		if got.status != step.status || strings.TrimSuffix(got.body, "\n") != step.want {
			t.Errorf("%s %s = %d %s, want %s", step.method, step.target, got.status, got.body, step.want)
		}
		if kind := got.header.Get("Content-Type"); kind != "application/json" {
			t.Errorf("%s %s: Content-Type %q", step.method, step.target, kind)
		}
	}
	var stats map[string]int64
	if err := json.Unmarshal([]byte(s.do(t, "GET", "/db/stats", "").body), &stats); err != nil {
		t.Fatal(err)
	}
	if stats["database_size_bytes"] < 4096 {
		t.Errorf("database_size_bytes = %d", stats["database_size_bytes"])
	}
	delete(stats, "database_size_bytes")
	if diff := cmp.Diff(map[string]int64{"total_keys": 1, "total_versions": 2, "revision": 2}, stats); diff != "" {
		t.Error(diff)
	}
}

func TestValuesAreUnchanged(t *testing.T) {
	s := start(t)
	for _, value := range []string{
		`null`, `true`, `""`, `{}`, `[]`, `0`, `-0`, `12345678901234567890`, `0.1000`, `1e400`, `1E+2`,
		`{"b":1,"a":2}`, `{"a":1,"a":2}`, `{ "spaced" : [ 1 , 2 ] }`,
		`"日本"`, `"\u65e5"`, `"\ud83d\ude00"`, `"\ud800"`, `"\u0000"`, `"<script>&amp;</script>"`, "\"\u2028\"", `"a\/b"`, `"\"\\"`,
		strings.Repeat("[", 400) + strings.Repeat("]", 400),
	} {
		if put := s.do(t, "PUT", "/put/k", `{"value":`+value+`}`); put.status != 200 {
			t.Errorf("%s: %d %s", value, put.status, put.body)
			continue
		}
		got := s.do(t, "GET", "/get/k", "").body
		if !strings.HasPrefix(got, `{"key":"k","value":`+value+`,"version":`) {
			t.Errorf("%s came back in %s", value, got)
		}
	}
}

func TestKeys(t *testing.T) {
	s := start(t)
	keys := map[string]string{ // target to key
		"a//b": "a//b", "a/../b": "a/../b", "%2E%2E/x": "../x", "a%2Fb": "a/b", "100%25": "100%", "a%3Fb": "a?b",
		"a;b": "a;b", "%E6%97%A5%E6%9C%AC": "日本", "/": "/", "a/": "a/", "%20": " ", "a%22b%5C": `a"b\`, "a+b": "a+b", "a%2Bb": "a+b",
		"%3Cb%3E&": "<b>&", strings.Repeat("x", 512): strings.Repeat("x", 512),
	}
	for target, key := range keys {
		value, _ := json.Marshal(target)
		if put := s.do(t, "PUT", "/put/"+target, `{"value":`+string(value)+`}`); put.status != 200 {
			t.Errorf("PUT %s: %d %s", target, put.status, put.body)
		}
		var got struct{ Key, Value string }
		if err := json.Unmarshal([]byte(s.do(t, "GET", "/get/"+target, "").body), &got); err != nil {
			t.Fatal(err)
		}
		if got.Key != key || got.Value != target {
			t.Errorf("GET %s = key %q, value %q, want key %q", target, got.Key, got.Value, key)
		}
	}
}

// untyped ends the detail of a body that is not JSON and has no type.
const untyped = "; a body without a Content-Type, as curl -T sends it, is taken for JSON: name its type to keep it as it is"

func TestProblems(t *testing.T) {
	s := start(t)
	s.do(t, "PUT", "/put/k", `{"value":1}`)
	before := s.do(t, "GET", "/db/stats", "").body
	long := strings.Repeat("x", 513)
	big := strings.Repeat("1", maxValueBytes+1)
	for _, test := range []struct {
		method, target, body string
		status               int
		code, detail         string
	}{
		{"GET", "/get/none", "", 404, "key_not_found", "Key 'none' not found"},
		{"GET", "/get/%3Cb%3E%22", "", 404, "key_not_found", `Key '<b>"' not found`},
		{"GET", "/get/k?version=9", "", 404, "version_not_found", "Key 'k' version 9 not found"},
		{"GET", "/get/none?version=9", "", 404, "version_not_found", "Key 'none' version 9 not found"},
		{"GET", "/get/k?version=0", "", 422, "invalid_version", "version: must be a positive integer of at most 9223372036854775807"},
		{"GET", "/get/k?version=-1", "", 422, "invalid_version", ""},
		{"GET", "/get/k?version=1.0", "", 422, "invalid_version", ""},
		{"GET", "/get/k?version=", "", 422, "invalid_version", ""},
		{"GET", "/get/k?version=9223372036854775808", "", 422, "invalid_version", ""},
		{"GET", "/get/k?version=1;x", "", 422, "invalid_version", ""},
		{"GET", "/get/k?version=%zz", "", 400, "malformed_query", ""},
		{"GET", "/get/", "", 400, "invalid_key", "key: must not be empty"},
		{"GET", "/get/a%00", "", 400, "invalid_key", "key: has the control character U+0000 at byte 1"},
		{"GET", "/get/%FF", "", 400, "invalid_key", "key: is not valid UTF-8 after percent-decoding"},
		{"PUT", "/put/" + long, `{"value":1}`, 400, "invalid_key", "key: has 513 bytes, the limit is 512"},
		{"PUT", "/put/", `{"value":1}`, 400, "invalid_key", ""},
		{"PUT", "/put/k", ``, 400, "malformed_json", ""},
		{"PUT", "/put/k", `{`, 400, "malformed_json", ""},
		{"PUT", "/put/k", `{"value":1}x`, 400, "malformed_json", ""},
		{"PUT", "/put/k", `{"value":01}`, 400, "malformed_json", ""},
		{"PUT", "/put/k", "{\"value\":\"\xff\"}", 400, "malformed_json", "body: is not valid UTF-8" + untyped},
		{"PUT", "/put/k", `{"value":` + strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001) + `}`, 400, "malformed_json", "body: has more than 10000 arrays and objects in one another, which is a fixed limit" + untyped},
		{"PUT", "/put/k", `{}`, 422, "missing_value", `body: must be an object with the member "value"` + untyped},
		{"PUT", "/put/k", `{"Value":1}`, 422, "missing_value", ""},
		{"PUT", "/put/k", `[1]`, 422, "missing_value", ""},
		{"PUT", "/put/k", `null`, 422, "missing_value", ""},
		{"PUT", "/put/k", `{"value":` + big + `}`, 413, "value_too_large", "value: is over the limit of 1000 bytes (KV_MAX_VALUE_BYTES)"},
		{"PUT", "/put/k", `{"value":1,"x":"` + strings.Repeat("x", 70_000) + `"}`, 413, "value_too_large", ""},
		{"GET", "/", "", 404, "not_found", ""},
		{"GET", "/put", "", 404, "not_found", ""},
		{"GET", "/get", "", 404, "not_found", ""},
		{"GET", "//get/k", "", 404, "not_found", ""},
		{"PATCH", "/put/k", `{"value":1}`, 405, "method_not_allowed", ""},
		{"DELETE", "/get/k", "", 405, "method_not_allowed", ""},
		{"POST", "/db/stats", "", 405, "method_not_allowed", ""},
	} {
		t.Run(fmt.Sprintf("%s %.40s %.30s", test.method, test.target, test.body), func(t *testing.T) {
			got := s.do(t, test.method, test.target, test.body)
			fields := got.problem(t)
			if got.status != test.status || fields["code"] != test.code {
				t.Errorf("got %d %s, want %d %s", got.status, got.body, test.status, test.code)
			}
			if test.detail != "" && fields["detail"] != test.detail {
				t.Errorf("detail = %q, want %q", fields["detail"], test.detail)
			}
		})
	}
	if after := s.do(t, "GET", "/db/stats", "").body; after != before {
		t.Errorf("bad requests changed the store: %s to %s", before, after)
	}
}

func TestAllow(t *testing.T) {
	s := start(t)
	for target, want := range map[string]string{"/put/k": "POST, PUT", "/get/k": "GET, HEAD", "/health": "GET, HEAD"} {
		got := s.do(t, "DELETE", target, "").header.Get("Allow")
		allowed := strings.Split(got, ", ")
		if len(allowed) != 2 || !strings.Contains(want, allowed[0]) || !strings.Contains(want, allowed[1]) {
			t.Errorf("%s: Allow = %q, want %q", target, got, want)
		}
	}
}

func TestContentTypes(t *testing.T) {
	s := start(t)
	for kind, status := range map[string]int{
		"": 200, "application/json": 200, "application/json; charset=utf-8": 200, "APPLICATION/JSON": 200,
		"application/x-www-form-urlencoded": 200, "text/plain": 200, "image/png": 200, "application/": 415,
	} {
		var header []string
		if kind != "" {
			header = []string{"Content-Type", kind}
		}
		if got := s.do(t, "PUT", "/put/k", `{"value":1}`, header...); got.status != status {
			t.Errorf("%q: %d %s, want %d", kind, got.status, got.body, status)
		}
	}
}

func TestHead(t *testing.T) {
	s := start(t)
	s.do(t, "PUT", "/put/k", `{"value":1}`)
	s.do(t, "GET", "/get/k", "")
	for _, target := range []string{"/get/k", "/get/none", "/history/k", "/keys", "/db/stats", "/health", "/healthz", "/readyz", "/openapi.json", "/docs/index.html"} {
		get, head := s.do(t, "GET", target, ""), s.do(t, "HEAD", target, "")
		if head.status != get.status || head.body != "" || head.header.Get("Content-Type") != get.header.Get("Content-Type") {
			t.Errorf("HEAD %s = %d %q %q, GET = %d", target, head.status, head.header.Get("Content-Type"), head.body, get.status)
		}
		if target == "/health" || target == "/readyz" {
			continue // on PostgreSQL they tell a lag, of one digit or more
		}
		if want := get.header.Get("Content-Length"); want != "" && head.header.Get("Content-Length") != want {
			t.Errorf("HEAD %s: Content-Length %q, want %q", target, head.header.Get("Content-Length"), want)
		}
	}
}

func TestRequestID(t *testing.T) {
	s := start(t)
	for given, kept := range map[string]bool{
		"abc-123": true, "4bf92f3577b34da6": true, strings.Repeat("x", 128): true,
		strings.Repeat("x", 129): false, "has space": false, `quote"`: false, "日本": false, "": false,
	} {
		for _, target := range []string{"/get/none", "/nowhere", "/db/stats"} {
			got := s.do(t, "GET", target, "", "X-Request-Id", given).header.Values("X-Request-Id")
			if len(got) != 1 || got[0] == "" || (got[0] == given) != kept {
				t.Errorf("%s with the id %q answers %q, kept should be %v", target, given, got, kept)
			}
		}
	}
}

// TestDatabaseDown expects a 503 that hides the cause, and the cause in the log with the id
// of the request.
func TestDatabaseDown(t *testing.T) {
	s := start(t)
	s.do(t, "PUT", "/put/cached", `{"value":1}`)
	if err := s.db.Close(); err != nil {
		t.Fatal(err)
	}
	if got := s.do(t, "GET", "/get/cached", "", "Cache-Control", "max-age=60"); got.status != 200 || got.header.Get("Age") != "0" {
		t.Errorf("a cached key: %d, Age %q", got.status, got.header.Get("Age"))
	}
	_, shared := s.db.Shared()
	if got := s.do(t, "GET", "/get/cached", ""); got.status != 200 && !shared || got.status != 503 && shared {
		t.Errorf("a cached key, fresh: %d", got.status)
	}
	for method, target := range map[string]string{"PUT": "/put/k", "GET": "/get/k"} {
		got := s.do(t, method, target, `{"value":1}`, "X-Request-Id", "id-"+method)
		fields := got.problem(t)
		if got.status != 503 || fields["code"] != "store_unavailable" || got.header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %s, Retry-After %q", method, got.status, got.body, got.header.Get("Retry-After"))
		}
		if strings.Contains(got.body, "sql") || !strings.Contains(s.log.String(), `"sql: database is closed`) && !strings.Contains(s.log.String(), "sql: database is closed") {
			t.Errorf("the cause must be in the log alone: %s", got.body)
		}
	}
	// A gateway that starts now must know whose store this is.
	if got := s.do(t, "GET", "/readyz", ""); got.status != 503 || got.problem(t)["store"] != s.store.ID() {
		t.Errorf("/readyz = %d %s", got.status, got.body)
	}
	database := map[string]any{"status": "failed", "detail": "The database does not answer"}
	if shared {
		database["engine"] = "postgresql"
	}
	got := s.do(t, "GET", "/health", "")
	if fields := got.problem(t); got.status != 503 || fields["code"] != "unhealthy" || !cmp.Equal(fields["database"], database) {
		t.Errorf("/health = %d %s", got.status, got.body)
	}
}

func TestDocs(t *testing.T) {
	s := start(t)
	for _, method := range []string{"GET", "HEAD"} {
		got := s.do(t, method, "/docs", "")
		if got.status != 200 || !strings.HasPrefix(got.header.Get("Content-Type"), "text/html") {
			t.Errorf("%s /docs = %d %s", method, got.status, got.header.Get("Content-Type"))
		}
		if policy := got.header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'; script-src 'self'; ") {
			t.Errorf("%s /docs with the policy %q", method, policy)
		}
	}
	for target, want := range map[string]string{"/docs": "swagger-initializer.js", "/docs/index.html": "swagger-initializer.js", "/docs/swagger-initializer.js": `"/openapi.json"`} {
		if got := s.do(t, "GET", target, ""); got.status != 200 || !strings.Contains(got.body, want) {
			t.Errorf("%s = %d without %s", target, got.status, want)
		}
	}
	for target, status := range map[string]int{"/docs/": 307, "/docs/doc.json": 200, "/docs/none": 404, "/docs/a/b": 404} {
		if got := s.do(t, "GET", target, ""); got.status != status {
			t.Errorf("%s = %d, want %d", target, got.status, status)
		}
	}
	var document struct {
		Paths map[string]map[string]struct {
			Responses map[string]any
		}
	}
	if err := json.Unmarshal([]byte(s.do(t, "GET", "/openapi.json", "").body), &document); err != nil {
		t.Fatal(err)
	}
	for path, methods := range map[string][]string{
		"/put/{key}": {"put", "post"}, "/get/{key}": {"get"}, "/cache/stats": {"get"}, "/db/stats": {"get"},
		"/health": {"get"}, "/healthz": {"get"}, "/readyz": {"get"}, "/openapi.json": {"get"},
	} {
		for _, method := range methods {
			if len(document.Paths[path][method].Responses) == 0 {
				t.Errorf("the document lacks %s %s", method, path)
			}
		}
	}
}
