package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// authors returns the authors of the versions of a key, the newest first.
func (s *server) authors(t *testing.T, key string) (authors []string) {
	t.Helper()
	var page struct{ Versions []struct{ Author *string } }
	if err := json.Unmarshal([]byte(s.do(t, "GET", "/history/"+key, "").body), &page); err != nil {
		t.Fatal(err)
	}
	for _, v := range page.Versions {
		if v.Author == nil {
			authors = append(authors, "nobody")
			continue
		}
		authors = append(authors, *v.Author)
	}
	return authors
}

func TestEveryWriteHasItsAuthor(t *testing.T) {
	s := start(t)
	for i, step := range []struct{ method, target, body, author string }{
		{"PUT", "/put/k", `{"value":{"a":1}}`, "ann"},
		{"PATCH", "/patch/k", `{"a":2}`, "bob"},
		{"POST", "/revert/k?version=1", "", "cid"},
		{"DELETE", "/delete/k", "", "dan"},
		{"POST", "/revert/k", "", "eva"},
		{"POST", "/batch", `{"operations":[{"op":"put","key":"k","value":1},{"op":"delete","key":"k"},{"op":"revert","key":"k","version":1}]}`, "fay"},
		{"PUT", "/put/k", `{"value":1}`, ""},
	} {
		header := []string{"X-KV-Author", step.author}
		if step.author == "" {
			header = nil
		}
		if step.method == "PATCH" {
			header = append(header, "Content-Type", "application/merge-patch+json")
		}
		if got := s.do(t, step.method, step.target, step.body, header...); got.status != http.StatusOK {
			t.Fatalf("step %d: %d %s", i, got.status, got.body)
		}
	}
	want := []string{"nobody", "fay", "fay", "fay", "eva", "dan", "cid", "bob", "ann"}
	if diff := cmp.Diff(want, s.authors(t, "k")); diff != "" {
		t.Error(diff)
	}
}

func TestHeadersOfTheGateway(t *testing.T) {
	s := start(t)
	for _, key := range []string{"a/1", "b/1", "c", "日,本/1"} {
		s.do(t, "PUT", "/put/"+strings.NewReplacer("日", "%E6%97%A5", "本", "%E6%9C%AC").Replace(key), `{"value":1}`)
	}
	for _, c := range []struct {
		prefixes, target string
		status           int
		want             string // what the answer has
	}{
		{"a/", "/keys", 200, `"key":"a/1"`},
		{"%E6%97%A5%2C,c", "/keys", 200, `[{"key":"c","version":1,"revision":3,"timestamp":1764000000.123456,"size":1,"content_type":"application/json","deleted":false,"destroyed":false},{"key":"日,本/1"`},
		{"a/,a/1/", "/keys?prefix=a", 200, `"key":"a/1"`},
		{"a/", "/keys?prefix=b", 403, "The access token 'me' does not have the right read for any key with the prefix 'b'"},
		{"a/", "/watch?prefix=b", 403, "any key with the prefix 'b'"},
		{"", "/keys", 403, "any key with the prefix ''"},
		{"a,,b", "/keys", 400, "X-Kv-Read-Prefixes: must have prefixes of keys"},
		{"%zz", "/keys", 400, "malformed_header"},
		{"%00", "/watch", 400, "malformed_header"},
		{"%ff", "/keys", 400, "malformed_header"},
		{strings.Repeat("a,", 64) + "a", "/keys", 400, "at most 64 prefixes"},
	} {
		got := s.do(t, "GET", c.target, "", "X-KV-Author", "me", "X-KV-Read-Prefixes", c.prefixes)
		if got.status != c.status || !strings.Contains(got.body, c.want) {
			t.Errorf("%s with %.30s: %d %s", c.target, c.prefixes, got.status, got.body)
		}
	}
	if got := s.do(t, "GET", "/keys", "", "X-KV-Read-Prefixes", "a/"); strings.Contains(got.body, "b/1") || strings.Contains(got.body, `"c"`) {
		t.Error(got.body)
	}
	for _, author := range []string{"a b", strings.Repeat("a", 129), "é"} {
		for _, got := range []answer{
			s.do(t, "PUT", "/put/k", `{"value":1}`, "X-KV-Author", author),
			s.do(t, "POST", "/batch", `{"operations":[{"op":"get","key":"k"}]}`, "X-KV-Author", author),
		} {
			if p := got.problem(t); p["code"] != "malformed_header" {
				t.Errorf("%q: %v", author, p)
			}
		}
	}
	got := s.do(t, "POST", "/batch", `{"conditions":[{"key":"c","version":9}],"operations":[{"op":"get","key":"a/1"}]}`, "X-KV-Read-Prefixes", "a/")
	if p := got.problem(t); p["condition"] != 0.0 || p["right"] != "read" || got.status != http.StatusForbidden {
		t.Error(p)
	}
	got = s.do(t, "POST", "/batch", `{"operations":[{"op":"get","key":"c"},{"op":"put","key":"c","value":1}]}`, "X-KV-Write-Prefixes", "")
	if p := got.problem(t); p["operation"] != 1.0 || p["right"] != "write" {
		t.Error(p)
	}
}
