package traefik_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// A namedKey is a key with its spellings in a request line.
type namedKey struct {
	key       string
	spellings []string
}

// uglyKeys are all different, although some proxies would merge them.
var uglyKeys = []namedKey{
	{"a", []string{"a", "%61"}},
	{"A", []string{"A", "%41"}},
	{"a/b", []string{"a/b", "a%2Fb", "a%2fb", "%61/b"}},
	{"a//b", []string{"a//b", "a/%2Fb", "a%2F%2fb"}},
	{"a/", []string{"a/", "a%2F"}},
	{"/a", []string{"/a", "%2Fa"}},
	{"//a", []string{"//a", "/%2Fa"}},
	{"/", []string{"/", "%2F"}},
	{"a/../b", []string{"a/../b", "a/%2E%2E/b", "a%2F..%2Fb"}},
	{"b", []string{"b"}},
	{"../x", []string{"../x", "%2E%2E/x", "%2e./x"}},
	{"x", []string{"x"}},
	{"./x", []string{"./x", "%2E/x"}},
	{"x/.", []string{"x/.", "x/%2e"}},
	{".", []string{".", "%2E"}},
	{"..", []string{"..", "%2E%2E"}},
	{"../../get/a", []string{"../../get/a"}},
	{"100%", []string{"100%25"}},
	{"100%25", []string{"100%2525"}},
	{"a%2Fb", []string{"a%252Fb"}},
	{"a?b", []string{"a%3Fb", "a%3fb"}},
	{"a?version=1", []string{"a%3Fversion=1"}},
	{"a#b", []string{"a%23b"}},
	{"#", []string{"%23"}},
	{"a;b", []string{"a;b", "a%3Bb"}},
	{"a;version=1", []string{"a;version=1"}},
	{"a&b=c", []string{"a&b=c", "a%26b%3Dc"}},
	{"a b", []string{"a%20b"}},
	{"a+b", []string{"a+b", "a%2Bb"}},
	{" ", []string{"%20"}},
	{"a ", []string{"a%20"}},
	{`\`, []string{"%5C", "%5c"}},
	{`..\x`, []string{"..%5Cx"}},
	{`"<>^{|}` + "`", []string{"%22%3C%3E%5E%7B%7C%7D%60"}},
	{"[a]", []string{"[a]", "%5Ba%5D"}},
	{"a:b@c", []string{"a:b@c", "a%3Ab%40c"}},
	{":", []string{":", "%3A"}},
	{"*", []string{"*", "%2A"}},
	{"~!$'(),-_.", []string{"~!$'(),-_.", "%7E%21%24%27%28%29%2C%2D%5F%2E"}},
	{"http://x/y", []string{"http://x/y", "http%3A%2F%2Fx%2Fy"}},
	{"日本", []string{"日本", "%E6%97%A5%E6%9C%AC", "%e6%97%a5%e6%9c%ac", "日%E6%9C%AC"}},
	{"日/本", []string{"日%2F本", "日/本", "%E6%97%A5/%E6%9C%AC"}},
	{"é", []string{"%C3%A9", "é"}},                               // one character
	{"e\u0301", []string{"e%CC%81"}},                             // the same to the eye, two characters
	{"\U0001F600", []string{"%F0%9F%98%80", "😀"}},                // outside the basic multilingual plane
	{"\u2028\u0085\ufeff", []string{"%E2%80%A8%C2%85%EF%BB%BF"}}, // unusual, but not ASCII control characters
	{"\u202egnp", []string{"%E2%80%AEgnp"}},
	{"put/a", []string{"put/a"}},
	{"healthz", []string{"healthz"}},
	{"/metrics", []string{"/metrics"}},
	{"null", []string{"null"}},
	{strings.Repeat("k", 512), []string{strings.Repeat("k", 512), strings.Repeat("%6B", 512)}},
	{strings.Repeat("é", 256), []string{strings.Repeat("%C3%A9", 256), strings.Repeat("é", 256)}},
	{strings.Repeat("/", 512), []string{strings.Repeat("/", 512)}},
}

// Each spelling writes, at each hop, the key that it decodes to, and every spelling reads it at
// every hop.
func TestUglyKeys(t *testing.T) {
	s := newStack(t)
	writes := 0
	values := make([]string, len(uglyKeys)) // what each key holds
	for hop, address := range s.addresses() {
		for i, named := range uglyKeys {
			for _, spelling := range named.spellings {
				values[i] = strconv.Quote(fmt.Sprintf("key %d by %s at %s", i, strconv.QuoteToASCII(spelling), hop))
				answer := request(t, address, http.MethodPut, "/put/"+spelling, nil, `{"value":`+values[i]+`}`)
				answer.wantStatus(t, http.StatusOK)
				if got := decode[putAnswer](t, answer); got.Key != named.key {
					t.Errorf("at the %s PUT %q wrote the key %q, want %q", hop, spelling, got.Key, named.key)
				}
				writes++
			}
		}
	}
	for hop, address := range s.addresses() {
		for i, named := range uglyKeys {
			for _, spelling := range named.spellings {
				answer := request(t, address, http.MethodGet, "/get/"+spelling, nil, "")
				answer.wantStatus(t, http.StatusOK)
				if got := decode[getAnswer](t, answer); got.Key != named.key || string(got.Value) != values[i] {
					t.Errorf("at the %s GET %q read %q: %s, want %q: %s", hop, spelling, got.Key, got.Value, named.key, values[i])
				}
			}
		}
	}
	stats := decode[databaseStats](t, get(t, "/db/stats"))
	if stats.TotalKeys != len(uglyKeys) || stats.TotalVersions != writes {
		t.Errorf("%d keys and %d versions, want %d and %d", stats.TotalKeys, stats.TotalVersions, len(uglyKeys), writes)
	}
}

func TestRefusedKeys(t *testing.T) {
	s := newStack(t)
	for name, spelling := range map[string]string{
		"empty":                    "",
		"NUL":                      "a%00b",
		"newline":                  "a%0Ab",
		"carriage return":          "%0D",
		"tab":                      "%09",
		"unit separator":           "%1F",
		"delete":                   "a%7F",
		"invalid byte":             "%FF",
		"cut sequence":             "%E6%97",
		"overlong slash":           "%C0%AF",
		"surrogate":                "%ED%A0%80",
		"513 bytes":                strings.Repeat("k", 513),
		"513 bytes, 171 letters":   strings.Repeat("%E6%97%A5", 171),
		"one byte over by slashes": strings.Repeat("k", 511) + "//",
	} {
		t.Run(name, func(t *testing.T) {
			for hop, address := range s.addresses() {
				for method, verb := range map[string]string{"PUT": "put", "POST": "put", "GET": "get"} {
					body := ""
					if method != http.MethodGet {
						body = `{"value":1}`
					}
					answer := request(t, address, method, "/"+verb+"/"+spelling, nil, body)
					if p := answer.wantProblem(t, http.StatusBadRequest); p.Code != "invalid_key" {
						t.Errorf("%s at the %s: code %q", method, hop, p.Code)
					}
				}
			}
		})
	}
	if stats := decode[databaseStats](t, get(t, "/db/stats")); stats.Revision != 0 {
		t.Errorf("a refused key was written: %+v", stats)
	}
}
