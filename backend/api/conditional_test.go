package api_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// conditionCases are conditions and the statuses for a key whose latest version is 3 (read
// and write) and for one that does not exist (write).
var conditionCases = []struct {
	match, none         []string
	read, write, absent int
}{
	{nil, nil, 200, 200, 200},
	{[]string{`"3"`}, nil, 200, 200, 412},
	{[]string{`"2"`}, nil, 412, 412, 412},
	{[]string{`*`}, nil, 200, 200, 412},
	{[]string{` * `}, nil, 200, 200, 412},
	{[]string{`"1", "3"`}, nil, 200, 200, 412},
	{[]string{`"1","2"`}, nil, 412, 412, 412},
	{[]string{`"1"`, `"3"`}, nil, 200, 200, 412},
	{[]string{`, "1" ,, "3",`}, nil, 200, 200, 412},
	{[]string{`W/"3"`}, nil, 412, 412, 412}, // the comparison is strong
	{[]string{`W/"2", "3"`}, nil, 200, 200, 412},
	{[]string{`"03"`}, nil, 412, 412, 412},
	{[]string{`"+3"`}, nil, 412, 412, 412},
	{[]string{`"3 "`}, nil, 400, 400, 400}, // a tag has no space
	{[]string{`""`}, nil, 412, 412, 412},
	{[]string{`"abc", "99999999999999999999"`}, nil, 412, 412, 412},
	{[]string{`"0"`}, nil, 412, 412, 412},
	{[]string{`"1,3"`}, nil, 412, 412, 412},

	{nil, []string{`"3"`}, 304, 412, 200},
	{nil, []string{`"2"`}, 200, 200, 200},
	{nil, []string{`*`}, 304, 412, 200},
	{nil, []string{`W/"3"`}, 304, 412, 200}, // the comparison is weak
	{nil, []string{`"1", W/"3"`}, 304, 412, 200},
	{nil, []string{`"1"`, `"3"`}, 304, 412, 200},
	{nil, []string{`"1", "2"`}, 200, 200, 200},
	{nil, []string{`"abc"`}, 200, 200, 200},

	{[]string{`"3"`}, []string{`"3"`}, 304, 412, 412},
	{[]string{`"2"`}, []string{`"3"`}, 412, 412, 412},
	{[]string{`"3"`}, []string{`"2"`}, 200, 200, 412},
	{[]string{`*`}, []string{`*`}, 304, 412, 412},

	{[]string{``}, nil, 400, 400, 400},
	{[]string{`,`}, nil, 400, 400, 400},
	{[]string{`3`}, nil, 400, 400, 400},
	{[]string{`"3`}, nil, 400, 400, 400},
	{[]string{`3"`}, nil, 400, 400, 400},
	{[]string{`'3'`}, nil, 400, 400, 400},
	{[]string{`"3"x`}, nil, 400, 400, 400},
	{[]string{`"1" "3"`}, nil, 400, 400, 400},
	{[]string{`*, "3"`}, nil, 400, 400, 400},
	{[]string{`**`}, nil, 400, 400, 400},
	{[]string{`w/"3"`}, nil, 400, 400, 400}, // W must be upper case
	{[]string{`W/ "3"`}, nil, 400, 400, 400},
	{nil, []string{``}, 400, 400, 400},
	{nil, []string{`3`}, 400, 400, 400},
	{nil, []string{`"3", *`}, 400, 400, 400},
	{[]string{`"3"`}, []string{`3`}, 400, 400, 400},
}

func TestConditions(t *testing.T) {
	s := start(t)
	for i, test := range conditionCases {
		header := http.Header{}
		if test.match != nil {
			header["If-Match"] = test.match
		}
		if test.none != nil {
			header["If-None-Match"] = test.none
		}
		t.Run(fmt.Sprint(test.match, test.none), func(t *testing.T) {
			key := fmt.Sprint("k", i)
			for range 3 {
				s.do(t, "PUT", "/put/"+key, `{"value":"v"}`)
			}
			for _, target := range []string{"/get/" + key, "/get/" + key + "?version=3", "/get/" + key + "?raw=true"} {
				get := s.send(t, "GET", target, "", header)
				checkRead(t, "GET "+target, get, test.read)
				head := s.send(t, "HEAD", target, "", header)
				if head.status != get.status || head.body != "" || head.header.Get("ETag") != get.header.Get("ETag") {
					t.Errorf("HEAD %s = %d %v, GET = %d", target, head.status, head.header, get.status)
				}
			}
			put := s.send(t, "PUT", "/put/"+key, `{"value":"w"}`, header)
			checkWrite(t, "PUT", put, test.write, 3)
			absent := s.send(t, "PUT", "/put/absent-"+key, `{"value":"w"}`, header)
			checkWrite(t, "PUT of an absent key", absent, test.absent, 0)
		})
	}
}

// TestConditionsOfWrites tests that each kind of write evaluates conditions.
func TestConditionsOfWrites(t *testing.T) {
	s := start(t)
	for i, test := range conditionCases {
		header := http.Header{}
		if test.match != nil {
			header["If-Match"] = test.match
		}
		if test.none != nil {
			header["If-None-Match"] = test.none
		}
		for _, write := range []string{"POST /put/", "DELETE /delete/", "POST /revert/", "POST /destroy/"} {
			method, path, _ := strings.Cut(write, " ")
			key := strings.Trim(path, "/") + strconv.Itoa(i)
			for range 3 {
				s.do(t, "PUT", "/put/"+key, `{"value":"v"}`)
			}
			query := map[string]string{"/revert/": "?version=1", "/destroy/": "?versions=1,2,3"}[path]
			got := s.send(t, method, path+key+query, `{"value":"w"}`, header)
			checkWrite(t, write+fmt.Sprint(header), got, test.write, 3)
			if path == "/destroy/" && got.status == 200 {
				continue
			}
			want := map[bool]string{true: `"4"`, false: `"3"`}[got.status == 200]
			if latest := s.do(t, "GET", "/get/"+key, ""); latest.header.Get("ETag") != want && path != "/delete/" {
				t.Errorf("%s %v = %d, and then the latest is %s", write, header, got.status, latest.header.Get("ETag"))
			}
		}
	}
}

func checkRead(t *testing.T, what string, got answer, status int) {
	t.Helper()
	if got.status != status {
		t.Errorf("%s = %d %s, want %d", what, got.status, got.body, status)
		return
	}
	switch status {
	case 200:
		if got.header.Get("ETag") != `"3"` {
			t.Errorf("%s: ETag %q", what, got.header.Get("ETag"))
		}
	case 304:
		if got.body != "" || got.header.Get("ETag") != `"3"` || got.header.Get("Content-Type") != "" || got.header.Get("Cache-Control") != "no-cache" {
			t.Errorf("%s: 304 with %q, %v", what, got.body, got.header)
		}
	case 412:
		if fields := got.problem(t); fields["code"] != "precondition_failed" || fields["version"] != 3.0 {
			t.Errorf("%s: %s", what, got.body)
		}
	case 400:
		checkMalformed(t, what, got)
	}
}

func checkWrite(t *testing.T, what string, got answer, status int, current float64) {
	t.Helper()
	if got.status != status {
		t.Errorf("%s = %d %s, want %d", what, got.status, got.body, status)
		return
	}
	switch status {
	case 412:
		if fields := got.problem(t); fields["code"] != "precondition_failed" || fields["current_version"] != current {
			t.Errorf("%s: %s", what, got.body)
		}
	case 400:
		checkMalformed(t, what, got)
	}
}

func checkMalformed(t *testing.T, what string, got answer) {
	t.Helper()
	fields := got.problem(t)
	detail, _ := fields["detail"].(string)
	if fields["code"] != "malformed_condition" || !strings.HasPrefix(detail, "If-Match: must be") && !strings.HasPrefix(detail, "If-None-Match: must be") {
		t.Errorf("%s: %s", what, got.body)
	}
}

// TestConditionsOfMissingKey tests that a read of a missing key is 404, whatever its
// condition.
func TestConditionsOfMissingKey(t *testing.T) {
	s := start(t)
	for _, header := range [][]string{{"If-Match", "*"}, {"If-None-Match", "*"}, {"If-None-Match", `"1"`}} {
		s.run(t, []step{
			{"GET /get/none", "", 404, "key_not_found: Key 'none' not found", "", header},
			{"GET /get/none?version=1&raw=true", "", 404, "version_not_found: Key 'none' version 1 not found", "", header},
		})
	}
	s.run(t, []step{ // a write says what it found
		{"DELETE /delete/none", "", 412, "precondition_failed: Precondition failed: Key 'none' does not exist", "", []string{"If-Match", `"1"`}},
		{"DELETE /delete/none", "", 404, "key_not_found: Key 'none' not found", "", []string{"If-None-Match", `*`}},
		{"POST /destroy/none?all=true", "", 412, "precondition_failed: Precondition failed: Key 'none' does not exist", "", []string{"If-Match", `*`}},
		{"PUT /put/none", `{`, 400, "malformed_condition: If-Match: must be * or a list of entity tags such as \"3\"", "", []string{"If-Match", `1`}},
	})
}
