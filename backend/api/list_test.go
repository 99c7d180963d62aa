package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kvstore/backend/kv"
	"kvstore/backend/store"
)

// wantBodies sends GETs, compares the bodies, and checks that HEAD has the same header.
func wantBodies(t *testing.T, s *server, want [][2]string) {
	t.Helper()
	for _, step := range want {
		got := s.do(t, "GET", step[0], "")
		if got.status != http.StatusOK || strings.TrimSuffix(got.body, "\n") != step[1] {
			t.Errorf("GET %s = %d\n%s want\n%s", step[0], got.status, got.body, step[1])
		}
		head := s.do(t, "HEAD", step[0], "")
		if head.status != got.status || head.body != "" || head.header.Get("Content-Length") != got.header.Get("Content-Length") {
			t.Errorf("HEAD %s = %d, Content-Length %s", step[0], head.status, head.header.Get("Content-Length"))
		}
	}
}

// wantProblems sends GETs and compares the status, the code and a part of the detail.
func wantProblems(t *testing.T, s *server, want [][4]string) {
	t.Helper()
	for _, step := range want {
		got := s.do(t, "GET", step[0], "")
		fields := got.problem(t)
		detail, _ := fields["detail"].(string)
		if fmt.Sprint(got.status) != step[1] || fields["code"] != step[2] || !strings.Contains(detail, step[3]) {
			t.Errorf("GET %s = %s, want %s %s with %q", step[0], got.body, step[1], step[2], step[3])
		}
	}
}

func TestHistory(t *testing.T) {
	s := start(t)
	s.do(t, "PUT", "/put/a/b", `{"value": { "b":1.0,  "a":"<é>" } }`)
	s.write(t, store.Change{Operation: kv.OpPut, Key: "a/b", Value: []byte{0, 255, 1}, ContentType: "image/png", Author: "Ann \"<ä>\"\t", TTL: 90e9})
	s.write(t, store.Change{Operation: kv.OpDelete, Key: "a/b"})
	const (
		one   = `{"version":1,"revision":1,"timestamp":1764000000.123456,"operation":"put","size":24,"content_type":"application/json","author":null,"destroyed":false`
		two   = `{"version":2,"revision":2,"timestamp":1764000000.123456,"operation":"put","size":3,"content_type":"image/png","author":"Ann \"\u003cä\u003e\"\t","destroyed":false,"expires_at":1764000090.123456`
		three = `{"version":3,"revision":3,"timestamp":1764000000.123456,"operation":"delete","size":0,"content_type":null,"author":null,"destroyed":false}`
	)
	wantBodies(t, s, [][2]string{
		{"/history/a/b", `{"key":"a/b","versions":[` + three + `,` + two + `},` + one + `}],"next_before":null,"previous_after":null,"total_versions":3}`},
		{"/history/a%2Fb?values=true", `{"key":"a/b","versions":[` + three + `,` + two + `,"value":"AP8B","encoding":"base64"},` + one +
			`,"value":{ "b":1.0,  "a":"<é>" }}],"next_before":null,"previous_after":null,"total_versions":3}`},
		{"/history/a/b?limit=1", `{"key":"a/b","versions":[` + three + `],"next_before":3,"previous_after":null,"total_versions":3}`},
		{"/history/a/b?limit=1&before=2", `{"key":"a/b","versions":[` + one + `}],"next_before":null,"previous_after":1,"total_versions":3}`},
		{"/history/a/b?limit=1&after=1", `{"key":"a/b","versions":[` + two + `}],"next_before":2,"previous_after":2,"total_versions":3}`},
		{"/history/a/b?before=1", `{"key":"a/b","versions":[],"next_before":null,"previous_after":0,"total_versions":3}`},
		{"/history/a/b?after=0&limit=1", `{"key":"a/b","versions":[` + one + `}],"next_before":null,"previous_after":1,"total_versions":3}`},
		{"/history/a/b?after=3", `{"key":"a/b","versions":[],"next_before":4,"previous_after":null,"total_versions":3}`},
	})
	if _, err := s.store.Destroy(t.Context(), "a/b", []int64{2}, kv.Condition{}); err != nil {
		t.Fatal(err)
	}
	wantBodies(t, s, [][2]string{
		{"/history/a/b?values=true&before=3&after=1", `{"key":"a/b","versions":[` +
			strings.NewReplacer(`"size":3`, `"size":0`, `"destroyed":false`, `"destroyed":true`).Replace(two) + `}],"next_before":null,"previous_after":2,"total_versions":2}`},
	})
	wantProblems(t, s, [][4]string{
		{"/history/none", "404", "key_not_found", "Key 'none' not found"},
		{"/history/", "400", "invalid_key", "key: "},
		{"/history/k?limit=1001", "422", "invalid_limit", "1000"},
		{"/history/k?limit=0", "422", "invalid_limit", "limit: "},
		{"/history/k?before=0", "422", "invalid_before", "before: "},
		{"/history/k?before=x", "422", "invalid_before", "before: "},
		{"/history/k?after=-1", "422", "invalid_after", "after: "},
		{"/history/k?values=1", "422", "invalid_values", "values: "},
		{"/history/k?limit=%zz", "400", "malformed_query", "query: "},
	})
	if _, err := s.store.DestroyAll(t.Context(), "a/b", "", kv.Condition{}); err != nil {
		t.Fatal(err)
	}
	wantProblems(t, s, [][4]string{{"/history/a/b", "404", "key_not_found", ""}})
}

func TestListKeys(t *testing.T) {
	s := start(t)
	wantBodies(t, s, [][2]string{{"/keys", `{"keys":[],"prefixes":[],"next_after":null,"revision":0}`}})
	for _, key := range []string{"app/db/host", "app/db/port", "app/na<me", "日本"} {
		s.do(t, "PUT", "/put/"+url.PathEscape(key), `{"value":1}`)
	}
	s.write(t, store.Change{Operation: kv.OpPut, Key: "b", Value: []byte("png"), ContentType: "image/png", TTL: 90e9})
	s.write(t, store.Change{Operation: kv.OpPut, Key: "gone", Value: []byte("1")})
	s.write(t, store.Change{Operation: kv.OpDelete, Key: "gone"})
	item := func(key string, revision int) string {
		return fmt.Sprintf(`{"key":%q,"version":1,"revision":%d,"timestamp":1764000000.123456,"size":1,"content_type":"application/json","deleted":false,"destroyed":false}`, key, revision)
	}
	const (
		png  = `{"key":"b","version":1,"revision":5,"timestamp":1764000000.123456,"size":3,"content_type":"image/png","deleted":false,"destroyed":false,"expires_at":1764000090.123456}`
		gone = `{"key":"gone","version":2,"revision":7,"timestamp":1764000000.123456,"size":0,"content_type":null,"deleted":true,"destroyed":false}`
	)
	wantBodies(t, s, [][2]string{
		{"/keys?prefix=app/db/", `{"keys":[` + item("app/db/host", 1) + `,` + item("app/db/port", 2) + `],"prefixes":[],"next_after":null,"revision":7}`},
		{"/keys?limit=1", `{"keys":[` + item("app/db/host", 1) + `],"prefixes":[],"next_after":"app/db/host","revision":7}`},
		{"/keys?limit=3&after=app/db/port", `{"keys":[` + item("app/na<me", 3) + `,` + png + `,` + item("日本", 4) + `],"prefixes":[],"next_after":null,"revision":7}`},
		{"/keys?delimiter=/&deleted=true", `{"keys":[` + png + `,` + gone + `,` + item("日本", 4) + `],"prefixes":["app/"],"next_after":null,"revision":7}`},
		{"/keys?delimiter=/&limit=1", `{"keys":[],"prefixes":["app/"],"next_after":"app/","revision":7}`},
		{"/keys?delimiter=%2F&limit=1&after=app/", `{"keys":[` + png + `],"prefixes":[],"next_after":"b","revision":7}`},
		{"/keys?delimiter=/&prefix=app/", `{"keys":[` + item("app/na<me", 3) + `],"prefixes":["app/db/"],"next_after":null,"revision":7}`},
		{"/keys?prefix=none", `{"keys":[],"prefixes":[],"next_after":null,"revision":7}`},
	})
	long := strings.Repeat("x", 513)
	wantProblems(t, s, [][4]string{
		{"/keys?prefix=a%0Ab", "422", "invalid_prefix", "prefix: has the control character U+000A"},
		{"/keys?prefix=%ff", "422", "invalid_prefix", "prefix: is not valid UTF-8"},
		{"/keys?prefix=" + long, "422", "invalid_prefix", "prefix: has 513 bytes, the limit is 512"},
		{"/keys?delimiter=%00", "422", "invalid_delimiter", "delimiter: "},
		{"/keys?after=%ed%a0%80", "422", "invalid_after", "after: "},
		{"/keys?limit=1001", "422", "invalid_limit", "1 to 1000"},
		{"/keys?deleted=yes", "422", "invalid_deleted", "deleted: "},
		{"/keys?prefix=%", "400", "malformed_query", "query: "},
		{"/keys/", "404", "not_found", ""},
	})
}

// TestWalkKeys follows next_after through folders with names that need escapes.
func TestWalkKeys(t *testing.T) {
	s := start(t)
	want := []string{`"/`, "%2F", "a;b", "a/", "a?c", "a b/", "ß/", "😀/"}
	for _, folder := range want {
		for i := range 3 {
			key := folder
			if strings.HasSuffix(folder, "/") {
				key += fmt.Sprint(i)
			}
			s.do(t, "PUT", "/put/"+url.PathEscape(key), `{"value":1}`)
		}
	}
	var found []string
	for after := ""; ; {
		var page struct {
			Keys      []struct{ Key string }
			Prefixes  []string
			NextAfter *string `json:"next_after"`
		}
		target := "/keys?delimiter=/&limit=1&after=" + url.QueryEscape(after)
		if err := json.Unmarshal([]byte(s.do(t, "GET", target, "").body), &page); err != nil {
			t.Fatal(err)
		}
		for _, key := range page.Keys {
			found = append(found, key.Key)
		}
		found = append(found, page.Prefixes...)
		if page.NextAfter == nil {
			break
		}
		after = *page.NextAfter
	}
	if diff := cmp.Diff([]string{`"/`, "%2F", "a b/", "a/", "a;b", "a?c", "ß/", "😀/"}, found); diff != "" {
		t.Error(diff)
	}
}

func TestGetAt(t *testing.T) {
	s := start(t) // its clock is at 1764000000.123456, which is 2025-11-24T16:00:00.123456Z
	s.do(t, "PUT", "/put/k", `{"value":1}`)
	s.do(t, "PUT", "/put/k", `{"value":2}`)
	const two = `{"key":"k","value":2,"version":2,"timestamp":1764000000.123456,"revision":2,"source":"cache"}`
	for _, at := range []string{
		"1764000000.123456", "1764000000.1234569", "1764000000.12345600000000000000000000001", "1764000000.2", "1764000001", "253402300799.999999",
		"2025-11-24T16:00:00.123456Z", "2025-11-24T16:00:00.1234569999999Z", "2025-11-24T16:00:01Z", "2025-11-24t16:00:01z",
		"2025-11-24T17:00:00.123456%2B01:00", "2025-11-24T17:00:00.123456+01:00", "2025-11-24T10:30:00.123456-05:30", "9999-12-31T23:59:59.999999Z",
		"2026-06-30T23:59:60Z", "2026-06-30T16:59:60.25-07:00", "2025-11-24T23:59:60.000001Z", "2026-07-01T05:29:60+05:30",
	} {
		wantBodies(t, s, [][2]string{{"/get/k?at=" + at, two}})
	}
	for _, at := range []string{
		"0", "1764000000.123455999", "1764000000.1", "1764000000", "1970-01-01T00:00:00Z", "2025-11-24T16:00:00.123455999Z",
		"2025-11-24T16:00:00Z", "2025-11-24T16:59:59.9%2B01:00", "2025-11-24T16:59:59.9+01:00",
		"-1", "-0", "-0.5", "-0.0000001", "-62167219200", "1969-12-31T23:59:59Z", "1960-02-29T00:00:00Z", "0001-01-01T00:00:00Z", "0000-01-01T00:00:00Z",
		"2016-12-31T23:59:60Z", "1969-12-31T23:59:60Z", "1965-06-30T23:59:60.999Z",
	} {
		wantProblems(t, s, [][4]string{{"/get/k?at=" + at, "404", "version_not_found", "Key 'k' had no version at "}})
	}
	for _, at := range []string{
		"", "now", "-", "--1", "-62167219200.1", "-62167219201", "-99999999999999999999", "-1.", "-.5", "%2B1", "1e9", "1.", ".5", "1.2.3", "0x10", "1_000", "NaN", "Inf", "253402300800", "99999999999999999999",
		"2025-11-24", "2025-11-24T16:00:00", "2025-11-24T16:00Z", "2025-11-24T24:00:00Z", "2025-02-30T00:00:00Z", "2025-11-24T16:00:00,5Z",
		"2025-11-24T1:00:00Z", "2025-11-24T16:00:00%2B24:00", "2025-11-24T16:00:00-01:60", "2025-11-24T16:00:00Z%0A", "2025-11-24T16:00:60Z", "2016-12-31T23:59:61Z", "9999-12-31T23:59:60Z", "0000-01-01T00:00:00%2B00:01", "9999-12-31T23:59:59-00:01", "10000-01-01T00:00:00Z", "2025-11-24T16:00:00Z%00", "%E4",
	} {
		wantProblems(t, s, [][4]string{{"/get/k?at=" + at, "422", "invalid_at", "at: must be a time of RFC 3339"}})
	}
	wantProblems(t, s, [][4]string{ // finer fractions are cut off
		{"/get/k?at=-1.5000005", "404", "version_not_found", "Key 'k' had no version at -1.500001"},
		{"/get/k?at=-1.5", "404", "version_not_found", "Key 'k' had no version at -1.500000"},
		{"/get/k?at=1969-12-31T23:59:59.9999995Z", "404", "version_not_found", "Key 'k' had no version at -0.000001"},
		{"/get/none?at=-1", "404", "key_not_found", "Key 'none' not found"},
	})
	s.write(t, store.Change{Operation: kv.OpDelete, Key: "k"})
	wantProblems(t, s, [][4]string{
		{"/get/k?at=1764000001&version=1", "422", "invalid_at", "at: cannot be given together with version"},
		{"/get/k?at=1764000001", "404", "key_deleted", "Key 'k' was deleted at version 3"},
		{"/get/none?at=1764000001", "404", "key_not_found", "Key 'none' not found"},
	})
}

func TestMinRevision(t *testing.T) {
	s := start(t)
	s.do(t, "PUT", "/put/k", `{"value":1}`)
	s.do(t, "PUT", "/put/k", `{"value":2}`)
	for _, target := range []string{"/get/k?", "/get/k?version=1&", "/history/k?", "/keys?", "/diff/k?"} {
		for _, revision := range []string{"0", "1", "2"} {
			if got := s.do(t, "GET", target+"min_revision="+revision, ""); got.status != http.StatusOK {
				t.Errorf("%smin_revision=%s: status %d, want 200; body %s", target, revision, got.status, got.body)
			}
		}
		for revision, words := range map[string]string{
			"3": "the store is at revision 2", "9223372036854775808": "must be a revision", "-1": "must be a revision", "": "must be a revision",
		} {
			got := s.do(t, "GET", target+"min_revision="+revision, "")
			detail, _ := got.problem(t)["detail"].(string)
			if got.status != http.StatusUnprocessableEntity || got.problem(t)["code"] != "invalid_min_revision" || !strings.Contains(detail, words) {
				t.Errorf("%smin_revision=%s: status %d, body %s, want 422 invalid_min_revision with %q", target, revision, got.status, got.body, words)
			}
		}
	}
	if got := s.do(t, "PUT", "/put/k?min_revision=1", `{"value":3}`); got.status != http.StatusUnprocessableEntity {
		t.Errorf("PUT with min_revision: status %d, want 422", got.status)
	}
}

func TestMaxAge(t *testing.T) {
	s := start(t)
	s.do(t, "PUT", "/put/k", `{"value":1}`)
	s.do(t, "PUT", "/put/k", `{"value":2}`)
	for directive, age := range map[string]string{
		"max-age=5": "0", "MAX-AGE=0": "0", `no-transform, max-age="60"`: "0", "no-cache": "", "max-age=soon": "", "max-age": "", "s-max-age=5": "",
	} {
		for _, target := range []string{"/get/k", "/get/k?raw=true", "/get/none", "/history/k", "/keys", "/diff/k"} {
			if got := s.do(t, "GET", target, "", "Cache-Control", directive); got.header.Get("Age") != age {
				t.Errorf("GET %s with Cache-Control: %s: Age %q, want %q", target, directive, got.header.Get("Age"), age)
			}
		}
	}
	if got := s.do(t, "GET", "/get/k", "", "Cache-Control", "max-age=5", "If-None-Match", `"2"`); got.status != http.StatusNotModified || got.header.Get("Age") != "0" {
		t.Errorf("status %d with Age %q, want 304 with 0", got.status, got.header.Get("Age"))
	}
}
