package api_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kvstore/backend/api"
	"kvstore/backend/database/databasetest"
	"kvstore/backend/database/postgres/postgrestest"
	"kvstore/backend/store"
)

// A testClock stands still until it is moved.
type testClock struct{ micros atomic.Int64 }

func newTestClock() *testClock {
	c := &testClock{}
	c.micros.Store(1764000000123456)
	return c
}

func (c *testClock) now() time.Time           { return time.UnixMicro(c.micros.Load()) }
func (c *testClock) advance(by time.Duration) { c.micros.Add(by.Microseconds()) }

// A step is a request and the answer that it must have.
type step struct {
	request string // method and target
	body    string
	status  int
	want    string // the whole body; of a problem, its code and detail
	etag    string
	header  []string
}

func (s *server) run(t *testing.T, steps []step) {
	t.Helper()
	for _, step := range steps {
		method, target, _ := strings.Cut(step.request, " ")
		got := s.do(t, method, target, step.body, step.header...)
		body := strings.TrimSuffix(got.body, "\n")
		if got.status >= 400 {
			fields := got.problem(t)
			body = fmt.Sprint(fields["code"], ": ", fields["detail"])
		}
		if got.status != step.status || body != step.want || got.header.Get("ETag") != step.etag {
			t.Errorf("%s %v = %d %s, ETag %s\nwant %d %s, ETag %s", step.request, step.header,
				got.status, body, got.header.Get("ETag"), step.status, step.want, step.etag)
		}
	}
}

func TestDeleteAndRevert(t *testing.T) {
	s := start(t)
	s.run(t, []step{
		{request: "DELETE /delete/k", status: 404, want: "key_not_found: Key 'k' not found"},
		{request: "POST /revert/k", status: 404, want: "key_not_found: Key 'k' not found"},
		{request: "POST /revert/k?version=1", status: 404, want: "key_not_found: Key 'k' not found"},
		{"PUT /put/k", `{"value":"one"}`, 200, `{"operation":"create","key":"k","version":1,"new_version":null,"previous_version":null,"total_versions":1,"timestamp":1764000000.123456,"revision":1}`, `"1"`, nil},
		{"PUT /put/k", `{"value":2.50}`, 200, `{"operation":"update","key":"k","version":2,"new_version":2,"previous_version":1,"total_versions":2,"timestamp":1764000000.123456,"revision":2}`, `"2"`, nil},
		{"POST /revert/k", "", 422, "invalid_version: version: must be given, since the key is not deleted: the version to go back to", "", nil},
		{"POST /revert/k?version=0", "", 422, "invalid_version: version: must be a positive integer of at most 9223372036854775807", "", nil},
		{"POST /revert/k?version=3", "", 404, "version_not_found: Key 'k' version 3 not found", "", nil},
		{"POST /revert/k?version=1", "", 200, `{"operation":"revert","key":"k","version":3,"new_version":3,"previous_version":2,"total_versions":3,"timestamp":1764000000.123456,"revision":3}`, `"3"`, nil},
		{"GET /get/k", "", 200, `{"key":"k","value":"one","version":3,"timestamp":1764000000.123456,"revision":3,"source":"cache"}`, `"3"`, nil},
		{"DELETE /delete/k", "", 200, `{"operation":"delete","key":"k","version":4,"new_version":4,"previous_version":3,"total_versions":4,"timestamp":1764000000.123456,"revision":4}`, "", nil},
		{"GET /get/k", "", 404, "key_deleted: Key 'k' was deleted at version 4", "", nil},
		{"GET /get/k?raw=true", "", 404, "key_deleted: Key 'k' was deleted at version 4", "", nil},
		{"GET /get/k", "", 404, "key_deleted: Key 'k' was deleted at version 4", "", []string{"If-None-Match", `"4"`}},
		{"GET /get/k", "", 404, "key_deleted: Key 'k' was deleted at version 4", "", []string{"If-Match", `*`}},
		{"GET /get/k?version=4", "", 404, "key_deleted: Key 'k' was deleted at version 4", "", nil},
		{"GET /get/k?version=2", "", 200, `{"key":"k","value":2.50,"version":2,"timestamp":1764000000.123456,"revision":2,"source":"database"}`, `"2"`, nil},
		{"DELETE /delete/k", "", 404, "key_deleted: Key 'k' was deleted at version 4", "", nil},
		{"POST /revert/k?version=4", "", 404, "key_deleted: Key 'k' was deleted at version 4", "", nil},
		{"POST /revert/k", "", 200, `{"operation":"revert","key":"k","version":5,"new_version":null,"previous_version":null,"total_versions":5,"timestamp":1764000000.123456,"revision":5}`, `"5"`, nil},
		{"GET /get/k", "", 200, `{"key":"k","value":"one","version":5,"timestamp":1764000000.123456,"revision":5,"source":"cache"}`, `"5"`, nil},
		{"DELETE /delete/k", "", 200, `{"operation":"delete","key":"k","version":6,"new_version":6,"previous_version":5,"total_versions":6,"timestamp":1764000000.123456,"revision":6}`, "", nil},
		{"PUT /put/k", `{"value":3}`, 200, `{"operation":"create","key":"k","version":7,"new_version":null,"previous_version":null,"total_versions":7,"timestamp":1764000000.123456,"revision":7}`, `"7"`, nil},
		{"DELETE /delete/", "", 400, "invalid_key: key: must not be empty", "", nil},
		{"POST /revert/a%00", "", 400, "invalid_key: key: has the control character U+0000 at byte 1", "", nil},
		{"DELETE /delete/a//b%2Fc", "", 404, "key_not_found: Key 'a//b/c' not found", "", nil},
	})
}

// erased is how the answer to a destroy ends on the engine of the run.
func erased() string {
	if databasetest.Postgres() {
		return `,"erased":"logical"`
	}
	return ""
}

func TestDestroy(t *testing.T) {
	s := start(t)
	const many = "versions: must be 1 to 1000 positive integers, separated by commas"
	for range 3 {
		s.do(t, "PUT", "/put/k", `{"value":"secret"}`)
	}
	s.do(t, "DELETE", "/delete/k", "")
	s.do(t, "PUT", "/put/k", `{"value":"last"}`)
	s.run(t, []step{
		{"POST /destroy/none?versions=1", "", 404, "key_not_found: Key 'none' not found", "", nil},
		{"POST /destroy/none?all=true", "", 404, "key_not_found: Key 'none' not found", "", nil},
		{"POST /destroy/k", "", 422, "invalid_versions: versions: either versions=1,2 or all=true must be given", "", nil},
		{"POST /destroy/k?all=false", "", 422, "invalid_versions: versions: either versions=1,2 or all=true must be given", "", nil},
		{"POST /destroy/k?all=true&versions=1", "", 422, "invalid_versions: versions: either versions=1,2 or all=true must be given", "", nil},
		{"POST /destroy/k?all=yes", "", 422, "invalid_all: all: must be true or false", "", nil},
		{"POST /destroy/k?versions=", "", 422, "invalid_versions: " + many, "", nil},
		{"POST /destroy/k?versions=1,", "", 422, "invalid_versions: " + many, "", nil},
		{"POST /destroy/k?versions=0", "", 422, "invalid_versions: " + many, "", nil},
		{"POST /destroy/k?versions=1;2", "", 422, "invalid_versions: " + many, "", nil},
		{"POST /destroy/k?versions=1" + strings.Repeat(",1", 1000), "", 422, "invalid_versions: " + many, "", nil},
		{"POST /destroy/k?versions=1,9", "", 404, "version_not_found: Key 'k' version 9 not found", "", nil},
		{"POST /destroy/k?versions=1,4", "", 404, "key_deleted: Key 'k' was deleted at version 4", "", nil},
		{"GET /get/k?version=1", "", 200, `{"key":"k","value":"secret","version":1,"timestamp":1764000000.123456,"revision":1,"source":"database"}`, `"1"`, nil},
		{"POST /destroy/k?versions=2,1%2C2", "", 200, `{"operation":"destroy","key":"k","versions":[2,1],"all":false,"total_versions":3` + erased() + `}`, "", nil},
		{"GET /get/k?version=1", "", 410, "version_gone: Key 'k' version 1 was destroyed", "", nil},
		{"GET /get/k?version=2&raw=true", "", 410, "version_gone: Key 'k' version 2 was destroyed", "", nil},
		{"GET /get/k?version=2", "", 410, "version_gone: Key 'k' version 2 was destroyed", "", []string{"If-None-Match", `"2"`}},
		{"POST /revert/k?version=2", "", 410, "version_gone: Key 'k' version 2 was destroyed", "", nil},
		{"POST /destroy/k?versions=2" + strings.Repeat(",2", 999), "", 200, `{"operation":"destroy","key":"k","versions":[2],"all":false,"total_versions":3` + erased() + `}`, "", nil},
		{"GET /get/k", "", 200, `{"key":"k","value":"last","version":5,"timestamp":1764000000.123456,"revision":5,"source":"database"}`, `"5"`, nil},
		{"POST /destroy/k?versions=5", "", 200, `{"operation":"destroy","key":"k","versions":[5],"all":false,"total_versions":2` + erased() + `}`, "", nil},
		{"GET /get/k", "", 410, "version_gone: Key 'k' version 5 was destroyed", "", nil},
		{"PUT /put/k", `{"value":6}`, 200, `{"operation":"update","key":"k","version":6,"new_version":6,"previous_version":5,"total_versions":3,"timestamp":1764000000.123456,"revision":6}`, `"6"`, nil},
		{"POST /destroy/k?all=true", "", 412, "precondition_failed: Precondition failed: Key 'k' is at version 6", "", []string{"If-Match", `"5"`}},
		{"POST /destroy/k?versions=6", "", 412, "precondition_failed: Precondition failed: Key 'k' is at version 6", "", []string{"If-None-Match", `*`}},
		{"POST /destroy/k?all=true", "", 200, `{"operation":"destroy","key":"k","versions":null,"all":true,"total_versions":0` + erased() + `}`, "", []string{"If-Match", `"6"`}},
		{"GET /get/k", "", 404, "key_not_found: Key 'k' not found", "", nil},
		{"POST /destroy/k?all=true", "", 404, "key_not_found: Key 'k' not found", "", nil},
		{"PUT /put/k", `{"value":8}`, 200, `{"operation":"create","key":"k","version":8,"new_version":null,"previous_version":null,"total_versions":1,"timestamp":1764000000.123456,"revision":8}`, `"8"`, nil},
	})
}

// TestErased: the answer to a destroy says where the bytes are not off the disk.
func TestErased(t *testing.T) {
	for name, engine := range map[string]struct {
		url  func(testing.TB) string
		ends string
	}{
		"sqlite": {databasetest.FileURL, `"total_versions":0}`}, "postgres": {postgrestest.Database, `"total_versions":0,"erased":"logical"}`},
	} {
		t.Run(name, func(t *testing.T) {
			s := startWith(t, store.Config{Database: databasetest.Open(t, engine.url(t))}, api.Config{})
			s.do(t, "PUT", "/put/k", `{"value":1}`)
			for _, query := range []string{"?versions=1", "?all=true"} {
				got := s.do(t, "POST", "/destroy/k"+query, "")
				if body := strings.TrimSpace(got.body); got.status != 200 || !strings.HasSuffix(body, engine.ends) {
					t.Errorf("%s: %d %s", query, got.status, got.body)
				}
			}
		})
	}
}

func TestTimeToLive(t *testing.T) {
	clock := newTestClock()
	s := startWith(t, store.Config{MaxValueBytes: maxValueBytes, Now: clock.now}, api.Config{})
	const wrong = "invalid_ttl: ttl: must be a duration such as 90s or 1h30m, from 1ms to 876000h"
	for _, ttl := range []string{"", "90", "0s", "-1s", "999us", "876001h", "10000000h", "9999999999999999999s", "1y", "NaN"} {
		s.run(t, []step{{"PUT /put/k?ttl=" + ttl, `{"value":1}`, 422, wrong, "", nil}})
	}
	s.run(t, []step{
		{"PUT /put/k?ttl=90s", `{"value":1}`, 200, `{"operation":"create","key":"k","version":1,"new_version":null,"previous_version":null,"total_versions":1,"timestamp":1764000000.123456,"revision":1,"expires_at":1764000090.123456}`, `"1"`, nil},
		{"GET /get/k", "", 200, `{"key":"k","value":1,"version":1,"timestamp":1764000000.123456,"revision":1,"expires_at":1764000090.123456,"source":"cache"}`, `"1"`, nil},
	})
	if got := s.do(t, "GET", "/get/k?raw=true", "").header.Get("X-KV-Expires-At"); got != "1764000090.123456" {
		t.Errorf("X-KV-Expires-At = %q", got)
	}
	clock.advance(90 * time.Second)
	for _, method := range []string{"GET /get/k", "DELETE /delete/k"} { // with its tombstone or just before
		verb, path, _ := strings.Cut(method, " ")
		got := s.do(t, verb, path, "")
		detail := got.problem(t)["detail"]
		if got.status != 404 || got.problem(t)["code"] != "key_deleted" ||
			detail != "Key 'k' expired at 1764000090.123456" && detail != "Key 'k' was deleted at version 2" {
			t.Errorf("%s of an expired key: %d %s", method, got.status, got.body)
		}
	}
	s.run(t, []step{
		{"PUT /put/k", `{"value":2}`, 412, "precondition_failed: Precondition failed: Key 'k' does not exist", "", []string{"If-Match", `"1"`}},
		{"POST /revert/k", "", 200, `{"operation":"revert","key":"k","version":3,"new_version":null,"previous_version":null,"total_versions":3,"timestamp":1764000090.123456,"revision":3}`, `"3"`, nil},
		{"GET /get/k?version=1", "", 200, `{"key":"k","value":1,"version":1,"timestamp":1764000000.123456,"revision":1,"expires_at":1764000090.123456,"source":"database"}`, `"1"`, nil},
	})
	clock.advance(100 * 365 * 24 * time.Hour)
	s.run(t, []step{
		{"GET /get/k", "", 200, `{"key":"k","value":1,"version":3,"timestamp":1764000090.123456,"revision":3,"source":"cache"}`, `"3"`, nil},
		{"PUT /put/k?ttl=876000h", `{"value":4}`, 200, `{"operation":"update","key":"k","version":4,"new_version":4,"previous_version":3,"total_versions":4,"timestamp":4917600090.123456,"revision":4,"expires_at":8071200090.123456}`, `"4"`, nil},
		{"PUT /put/k?ttl=1ms", `{"value":5}`, 200, `{"operation":"update","key":"k","version":5,"new_version":5,"previous_version":4,"total_versions":5,"timestamp":4917600090.123456,"revision":5,"expires_at":4917600090.124456}`, `"5"`, nil},
		{"PUT /put/k", `{"value":6}`, 200, `{"operation":"update","key":"k","version":6,"new_version":6,"previous_version":5,"total_versions":6,"timestamp":4917600090.123456,"revision":6}`, `"6"`, nil},
	})
}

func TestAllowOfWrites(t *testing.T) {
	s := start(t)
	for target, want := range map[string]string{"/delete/k": "DELETE", "/revert/k": "POST", "/destroy/k": "POST"} {
		for _, method := range []string{"GET", "HEAD", "PUT", "OPTIONS"} {
			got := s.do(t, method, target, "")
			if got.status != 405 || got.header.Get("Allow") != want {
				t.Errorf("%s %s = %d, Allow %q, want %q", method, target, got.status, got.header.Get("Allow"), want)
			}
		}
	}
}

// TestOneWriterWins tests that of many writers with the same condition exactly one writes.
func TestOneWriterWins(t *testing.T) {
	s := start(t)
	const rounds, writers = 10, 24
	for round := range rounds {
		header := []string{"If-Match", fmt.Sprintf(`"%d"`, round)}
		if round == 0 {
			header = []string{"If-None-Match", "*"}
		}
		var won, lost atomic.Int64
		var wait sync.WaitGroup
		for i := range writers {
			wait.Go(func() {
				got := s.do(t, "PUT", "/put/k", fmt.Sprintf(`{"value":%d}`, i), header...)
				switch fields := got.body; {
				case got.status == 200 && strings.Contains(fields, fmt.Sprintf(`"version":%d,`, round+1)):
					won.Add(1)
				case got.status == 412 && strings.Contains(fields, fmt.Sprintf(`"current_version":%d,`, round+1)):
					lost.Add(1)
				default:
					t.Errorf("%d %s", got.status, got.body)
				}
			})
		}
		wait.Wait()
		if won.Load() != 1 || lost.Load() != writers-1 {
			t.Fatalf("round %d: %d won and %d lost, want 1 of %d", round, won.Load(), lost.Load(), writers)
		}
	}
}
