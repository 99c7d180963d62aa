package api_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzKey sends any path behind a verb. The key must be what it decodes to, or the request is
// refused; and the same path must read what it wrote.
func FuzzKey(f *testing.F) {
	for _, path := range []string{"k", "a//b", "a/../b", "%2E%2E/x", "a%2Fb", "100%25", "%zz", "%00", "%ff", "日本?ttl=1h", ""} {
		f.Add(path)
	}
	handler := fuzzHandler(f)
	writes := 0
	f.Fuzz(func(t *testing.T, path string) {
		ask := func(method, verb, body string) *httptest.ResponseRecorder {
			text := fmt.Sprintf("%s /%s/%s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", method, verb, path, len(body), body)
			request, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
			if err != nil || request.RequestURI != "/"+verb+"/"+path {
				return nil
			}
			recorder := httptest.NewRecorder()
			handler.ServeHTTP(recorder, request)
			return recorder
		}
		writes++
		put := ask("PUT", "put", fmt.Sprintf(`{"value":%d}`, writes))
		if put == nil {
			return // not a request line
		}
		raw, query, _ := strings.Cut(path, "?")
		key, err := url.PathUnescape(raw)
		allowed := err == nil && key != "" && len(key) <= 512 && utf8.ValidString(key) && !strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r == 0x7f })
		if put.Code >= 500 || put.Code == 200 && !allowed || put.Code != 200 && allowed && query == "" {
			t.Fatalf("%d %s for %q", put.Code, put.Body, path)
		}
		if put.Code != 200 || query != "" {
			return
		}
		for _, answer := range []*httptest.ResponseRecorder{put, ask("GET", "get", "")} {
			var got struct {
				Key   string
				Value json.Number
			}
			if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil || got.Key != key || answer != put && got.Value.String() != fmt.Sprint(writes) {
				t.Fatalf("%q is %q, got %s", path, key, answer.Body)
			}
		}
	})
}

// The grammar of RFC 9110, sections 5.6.1.2 and 8.8.3.
const tagPattern = `(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"`

var (
	tagPatternOnly = regexp.MustCompile(tagPattern)
	tagListPattern = regexp.MustCompile(`^[ \t,]*` + tagPattern + `(?:[ \t]*,[ \t,]*` + tagPattern + `)*[ \t,]*$`)
)

// holds evaluates a condition by that grammar. It reports whether the field is valid, and
// whether a tag of the list (a strong one, if so asked) is that of the version.
func holds(field string, version int64, strong bool) (matches, well bool) {
	field = strings.Trim(field, " \t")
	if field == "*" {
		return true, true
	}
	latin := latin1(field) // regexp reads UTF-8, but the grammar is about bytes
	if !tagListPattern.MatchString(latin) {
		return false, false
	}
	tag := fmt.Sprintf("%q", fmt.Sprint(version))
	return slices.ContainsFunc(tagPatternOnly.FindAllString(latin, -1), func(found string) bool {
		return found == tag || !strong && found == "W/"+tag
	}), true
}

func latin1(text string) string {
	var b strings.Builder
	for i := range len(text) {
		b.WriteRune(rune(text[i]))
	}
	return b.String()
}

// FuzzConditions sends writes with any conditions. Each must be done, refused or malformed as
// the grammar of the headers says, and only what is done may change anything.
func FuzzConditions(f *testing.F) {
	for _, field := range []string{`"1"`, `*`, `W/"1"`, `"2", "1"`, `,, "1" ,`, `"1`, `1`, `"01"`, `"", "é"`, `"1""2"`, `"9223372036854775808"`} {
		f.Add(field, true, false)
		f.Add(field, false, true)
	}
	handler := fuzzHandler(f)
	latest := int64(1)
	serve(handler, "PUT", "/put/k", []byte(`{"value":0}`), "application/json")
	f.Fuzz(func(t *testing.T, field string, match, noneMatch bool) {
		if strings.ContainsFunc(field, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return // cannot be in a header
		}
		// "N" stands for the latest version, so that a condition can hold.
		field = strings.ReplaceAll(field, `"1"`, fmt.Sprintf(`"%d"`, latest))
		request := httptest.NewRequest(http.MethodPut, "/put/k", strings.NewReader(`{"value":1}`))
		want := http.StatusOK
		if noneMatch {
			request.Header["If-None-Match"] = []string{field}
			if matches, _ := holds(field, latest, false); matches {
				want = http.StatusPreconditionFailed
			}
		}
		if match {
			request.Header["If-Match"] = []string{field}
			if matches, _ := holds(field, latest, true); !matches {
				want = http.StatusPreconditionFailed
			}
		}
		if _, well := holds(field, latest, true); !well && (match || noneMatch) {
			want = http.StatusBadRequest
		}
		before := revision(t, handler).Revision
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		after := revision(t, handler).Revision
		if answer.Code != want || (after != before) != (want == http.StatusOK) {
			t.Fatalf("%q (If-Match %t, If-None-Match %t) at version %d: %d %s, want %d; the revision went from %d to %d",
				field, match, noneMatch, latest, answer.Code, answer.Body, want, before, after)
		}
		if want == http.StatusOK {
			latest++
		}
	})
}

// FuzzBearer sends any headers of the gateway. A key may be read only if one of the prefixes
// in them begins it, and the author that is stored must be the one in them.
func FuzzBearer(f *testing.F) {
	for _, prefixes := range []string{"", "a", "a%2C,b", "%61%2F", ",", "%", "a,%ff", "%00", strings.Repeat("a,", 70)} {
		f.Add("ann", prefixes, "a/b")
	}
	f.Add("ann x", "a", "a")
	f.Add(strings.Repeat("n", 129), "a", "a")
	handler := fuzzHandler(f)
	f.Fuzz(func(t *testing.T, author, prefixes, key string) {
		body, err := json.Marshal(map[string]any{"operations": []map[string]any{{"op": "get", "key": key}, {"op": "put", "key": "mine", "value": 1}}})
		if err != nil {
			return
		}
		request := httptest.NewRequest(http.MethodPost, "/batch", strings.NewReader(string(body)))
		request.Header["X-Kv-Author"], request.Header["X-Kv-Read-Prefixes"] = []string{author}, []string{prefixes}
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		allowed := false
		for prefix := range strings.SplitSeq(prefixes, ",") {
			decoded, err := url.PathUnescape(prefix)
			allowed = allowed || err == nil && decoded != "" && strings.HasPrefix(strings.ToValidUTF8(key, "\ufffd"), decoded)
		}
		if answer.Code >= 500 || answer.Code == 200 && !allowed {
			t.Fatalf("%d %s for %q with %q", answer.Code, answer.Body, key, prefixes)
		}
		if answer.Code != 200 {
			return
		}
		var page struct{ Versions []struct{ Author *string } }
		if err := json.Unmarshal(serve(handler, "GET", "/history/mine?limit=1", nil, "").Body.Bytes(), &page); err != nil {
			t.Fatal(err)
		}
		if got := page.Versions[0].Author; got == nil && author != "" || got != nil && *got != author {
			t.Fatalf("%q is stored as %v", author, got)
		}
	})
}

// FuzzPut sends any body. It expects no 5xx and no panic, and reads what was accepted.
func FuzzPut(f *testing.F) {
	for _, body := range []string{`{"value":1}`, `{"value":null}`, `{"value":"\ud800"}`, `{`, ``, `[]`, `{"value":[{"a":1e400}]}`, "\xff", `{"value":1,"value":2}`} {
		f.Add([]byte(body))
	}
	handler := fuzzHandler(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		put := httptest.NewRecorder()
		handler.ServeHTTP(put, httptest.NewRequest(http.MethodPut, "/put/k", bytes.NewReader(body)))
		if put.Code >= 500 {
			t.Fatalf("%d for %q", put.Code, body)
		}
		if put.Code != 200 {
			return
		}
		get := httptest.NewRecorder()
		handler.ServeHTTP(get, httptest.NewRequest(http.MethodGet, "/get/k", http.NoBody))
		var sent, got map[string]json.RawMessage
		if err := json.Unmarshal(body, &sent); err != nil {
			t.Fatalf("accepted %q: %v", body, err)
		}
		if err := json.Unmarshal(get.Body.Bytes(), &got); err != nil {
			t.Fatalf("%v in %q", err, get.Body)
		}
		if !bytes.Equal(sent["value"], got["value"]) {
			t.Fatalf("sent %q, got %q", sent["value"], got["value"])
		}
	})
}
