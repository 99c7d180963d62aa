package access_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"kvstore/gateway/access"
	"kvstore/gateway/h1"
)

// A fuzzed is a guard with its tokens and their rules. The last token has expired.
type fuzzed struct {
	guard   *access.Guard
	secrets []string
	rules   [][]string
}

func newFuzzed(f *testing.F) *fuzzed {
	f.Helper()
	z := &fuzzed{rules: [][]string{{"read:a/"}, {"write:a/", "read:b"}, {"read,write:é", "admin:a/"}, {"read,write,admin:"}, {"read:"}}}
	path := f.TempDir() + "/tokens.yml"
	for i, texts := range z.rules {
		secret, hash := access.NewSecret()
		token := &access.Token{Name: string(rune('a' + i)), Hash: hash}
		if i == 4 {
			token.Expires = time.Unix(1, 0)
		}
		for _, text := range texts {
			rule, err := access.ParseRule(text)
			if err != nil {
				f.Fatal(err)
			}
			token.Rules = append(token.Rules, rule)
		}
		if err := access.Add(path, token); err != nil {
			f.Fatal(err)
		}
		z.secrets = append(z.secrets, secret)
	}
	g, err := access.Open(access.Config{Path: path, Interval: time.Hour})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(g.Close)
	z.guard = g
	return z
}

// allows reports whether token i has the right to the path as net/http decodes it, as the README
// says.
func (z *fuzzed) allows(i int, path string) int {
	has := func(right, key string) bool {
		return slices.ContainsFunc(z.rules[i], func(rule string) bool {
			rights, prefix, _ := strings.Cut(rule, ":")
			return slices.Contains(strings.Split(rights, ","), right) && strings.HasPrefix(key, prefix)
		})
	}
	some := func(right string) bool {
		return slices.ContainsFunc(z.rules[i], func(rule string) bool { return strings.Contains(strings.Split(rule, ":")[0], right) })
	}
	all := func(right string) bool { return has(right, "") }
	answer := func(yes bool) int {
		if yes {
			return http.StatusOK
		}
		return http.StatusForbidden
	}
	switch path {
	case "/keys", "/watch":
		return answer(some("read"))
	case "/batch":
		return answer(some("read") || some("write"))
	case "/cache/stats", "/db/stats":
		return answer(all("read"))
	case "/db/backup":
		return answer(all("admin"))
	}
	for verb, rights := range map[string][]string{
		"get": {"read"}, "history": {"read"}, "diff": {"read"}, "put": {"write"}, "delete": {"write"}, "revert": {"write"},
		"patch": {"read", "write"}, "destroy": {"admin"},
	} {
		if key, found := strings.CutPrefix(path, "/"+verb+"/"); found {
			return answer(!slices.ContainsFunc(rights, func(right string) bool { return !has(right, key) }))
		}
	}
	return http.StatusNotFound
}

func isOpen(path string) bool {
	return slices.Contains([]string{"/health", "/healthz", "/docs", "/openapi.json"}, path) || strings.HasPrefix(path, "/docs/")
}

// FuzzCheck checks that the guard decides as the README says, about the path as net/http decodes
// it. In headers, $0 to $4 stand for the tokens.
func FuzzCheck(f *testing.F) {
	z := newFuzzed(f)
	for _, seed := range [][2]string{
		{"/get/a/k", "Authorization: Bearer $0"}, {"/get/a%2Fk", "authorization: bearer $0"}, {"/get/%C3%A9", "Authorization: Bearer $2"},
		{"/put/a/k?x", "Authorization: Bearer $1"}, {"/patch/\xc3\xa9", "Authorization: BEARER  $2 "}, {"/destroy/a/../b", "Authorization: Bearer $2"},
		{"/keys", "Authorization: Bearer $1\r\nAuthorization: Bearer $3"}, {"/db%2fbackup", "Authorization: Bearer $3"}, {"/get/a%252Fk", "Authorization: Bearer $0"},
		{"/watch", "Authorization: Bearer $4"}, {"/batch", "Authorization: Basic $3"}, {"http://h/get/x", "Authorization: Bearer $3"}, {"//get/a/", "Authorization:Bearer $0"},
		{"/docs/../get/x", ""}, {"/get/a/k", "Authorization: Bearer $0$0"}, {"/get/a/k", "Authorization: Bearer $0, Bearer $3"}, {"/get/a/%00", "Authorization: Bearer\t$0"},
		{"/get/a/k", "Connection: Authorization\r\nAuthorization: Bearer $0"}, {"/health", "Authorization: Bearer x"}, {"/db/stats", "X-KV-Author: a\r\nAuthorization: bearer $3"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, target, headers string) {
		for i, secret := range z.secrets {
			headers = strings.ReplaceAll(headers, "$"+string(rune('0'+i)), secret)
		}
		head := "GET " + target + " HTTP/1.1\r\nHost: h\r\n"
		if headers != "" {
			head += headers + "\r\n"
		}
		var r h1.Request
		if err := r.Parse([]byte(head + "\r\n")); err != nil || len(r.Target) == 0 {
			return
		}
		decoded, err := url.PathUnescape(string(r.Path()))
		if err != nil {
			t.Fatalf("wire accepts the path %q", r.Path())
		}
		if u, err := url.ParseRequestURI(string(r.Target)); err == nil && u.Path != decoded {
			t.Fatalf("%q is %q to net/http and %q here", r.Target, u.Path, decoded)
		}
		want, bearer := z.want(decoded, r.Fields)
		grant, denial := z.guard.Check(access.Find(r.Path()), r.Fields)
		got := http.StatusOK
		if denial != nil {
			got = denial.Problem.Status
			z.leaksNothing(t, string(denial.Problem.Encode())+denial.Challenge())
		}
		if got != want {
			t.Fatalf("%q with %q: %d, want %d", target, headers, got, want)
		}
		if head := string(grant.Head); got == http.StatusOK && !isOpen(decoded) && !strings.HasPrefix(head, "X-KV-Author: "+string(rune('a'+bearer))+"\r\n") {
			t.Fatalf("%q with %q: %q", target, headers, head)
		}
		z.leaksNothing(t, string(grant.Head))
	})
}

// want returns the expected status of a request, and the index of its token.
func (z *fuzzed) want(path string, fields []h1.Field) (status, bearer int) {
	if isOpen(path) {
		return http.StatusOK, 0
	}
	var values []string
	for _, field := range fields {
		if strings.EqualFold(string(field.Name), "Authorization") {
			values = append(values, string(field.Value))
		}
	}
	if len(values) > 1 {
		return http.StatusBadRequest, 0
	}
	if len(values) == 1 && len(values[0]) > 7 && strings.EqualFold(values[0][:7], "bearer ") {
		i := slices.Index(z.secrets, strings.TrimLeft(values[0][7:], " "))
		if i >= 0 && i != 4 { // that one has expired
			return z.allows(i, path), i
		}
	}
	return http.StatusUnauthorized, 0
}

func (z *fuzzed) leaksNothing(t *testing.T, text string) {
	for _, secret := range z.secrets {
		// A client may have put it into the path, which is told back to it alone.
		if strings.Contains(text, "Bearer "+secret) || strings.Contains(text, "\n"+secret) {
			t.Fatalf("a token is in %q", text)
		}
	}
}

// FuzzRule checks that a rule reads the same when it is written and parsed again, and allows what
// begins with its prefix.
func FuzzRule(f *testing.F) {
	for _, seed := range []string{"read:", "read,write:app/", "admin:日本", "read,read:a:b", "read: ", "Read:a", "read,:a", ":a", "read", "write:\x00", "write:\xff", "admin,write,read:" + strings.Repeat("p", 512)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rule, err := access.ParseRule(text)
		if err != nil {
			return
		}
		again, err := access.ParseRule(rule.String())
		if err != nil || again != rule {
			t.Fatalf("%q is %q, and that is %q, %v", text, rule, again, err)
		}
		if _, prefix, _ := strings.Cut(text, ":"); rule.Prefix != prefix || rule.Allow == 0 {
			t.Fatalf("%q is %+v", text, rule)
		}
	})
}
