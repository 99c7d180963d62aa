package proxy_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kvstore/backend/api"
	"kvstore/backend/cache"
	"kvstore/backend/database/databasetest"
	"kvstore/backend/kv"
	"kvstore/backend/store"
	"kvstore/gateway/access"
	"kvstore/gateway/proxy"
)

// These tests use a real backend, which decides together with the gateway.

func newRealBackend(t *testing.T) string {
	t.Helper()
	db := databasetest.Open(t, databasetest.URL(t))
	entries, err := cache.New(cache.Config[kv.Entry]{MaxKeys: 100, MaxBytes: 1 << 20, Size: func(_ string, e kv.Entry) int64 { return e.Size() }})
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	s, err := store.New(store.Config{Database: db, Cache: entries, MaxValueBytes: 1 << 20, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		entries.Close()
	})
	return newBackend(t, "s", api.New(api.Config{Store: s, Logger: logger}).ServeHTTP).URL
}

// A guarded gateway has access control. Its secrets are those of tokens, by name.
type guarded struct {
	*gateway
	path    string
	secrets map[string]string
}

func startGuarded(t *testing.T, backend string, tokens map[string][]string, more ...func(*proxy.Config)) *guarded {
	t.Helper()
	g := &guarded{path: filepath.Join(t.TempDir(), "tokens.yml"), secrets: map[string]string{}}
	for name, rules := range tokens {
		g.add(t, name, time.Time{}, rules...)
	}
	guard, err := access.Open(access.Config{Path: g.path, Logger: slog.New(slog.DiscardHandler), Interval: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(guard.Close)
	g.gateway = start(t, func(c *proxy.Config) {
		c.Access = guard
		for _, change := range more {
			change(c)
		}
	}, backend)
	return g
}

func (g *guarded) add(t *testing.T, name string, expires time.Time, rules ...string) {
	t.Helper()
	secret, hash := access.NewSecret()
	token := &access.Token{Name: name, Hash: hash, Expires: expires}
	for _, text := range rules {
		rule, err := access.ParseRule(text)
		if err != nil {
			t.Fatal(err)
		}
		token.Rules = append(token.Rules, rule)
	}
	if err := access.Add(g.path, token); err != nil {
		t.Fatal(err)
	}
	g.secrets[name] = secret
}

// as sends a request with the token called name.
func (g *guarded) as(t *testing.T, name, method, target, body string) (*http.Response, string) {
	t.Helper()
	header := http.Header{"Authorization": {"Bearer " + g.secrets[name]}}
	if strings.HasPrefix(target, "/patch/") {
		header["Content-Type"] = []string{"application/merge-patch+json"}
	}
	return do(t, method, g.URL+target, header, strings.NewReader(body))
}

func TestEveryVerbByEveryRight(t *testing.T) {
	rules := map[string][]string{"none": {"read,write,admin:elsewhere"}, "root": {"read,write,admin:"}}
	rights := []string{"read", "write", "admin", "read,write", "read,admin", "write,admin", "read,write,admin"}
	for _, right := range rights {
		rules[strings.ReplaceAll(right, ",", "-")] = []string{right + ":app/", right + ":日/"}
	}
	g := startGuarded(t, newRealBackend(t), rules)
	verbs := []struct{ need, method, path, query, body string }{
		{"write", "PUT", "/put/", "", `{"value":{"a":1}}`},
		{"write", "POST", "/put/", "", `{"value":{"a":2}}`},
		{"read,write", "PATCH", "/patch/", "", `{"a":3}`},
		{"write", "POST", "/revert/", "?version=1", ""},
		{"read", "GET", "/get/", "", ""},
		{"read", "GET", "/get/", "?version=1", ""},
		{"read", "HEAD", "/get/", "?raw=true", ""},
		{"read", "GET", "/history/", "?values=true", ""},
		{"read", "GET", "/diff/", "?from=1&to=2", ""},
		{"write", "DELETE", "/delete/", "", ""},
		{"admin", "POST", "/destroy/", "?versions=2", ""},
		{"admin", "POST", "/destroy/", "?all=true", ""},
	}
	may := func(name, need string) bool {
		if name == "root" {
			return true
		}
		given := strings.Split(name, "-")
		for right := range strings.SplitSeq(need, ",") {
			if !slices.Contains(given, right) {
				return false
			}
		}
		return true
	}
	// Keys as they are spelled, and whether they begin with app/ or 日/.
	for spelling, inside := range map[string]bool{
		"app/k": true, "app%2Fk2": true, "%61pp/k3": true, "app//k": true, "app/../k": true, "app/%2E%2E/k": true, "%E6%97%A5/k": true, "app/a%25b": true,
		"other": false, "app": false, "App/k": false, "app%252Fk": false, "/app/k": false, "./app/k": false, "x/../app/k": false, "app%5Ck": false,
	} {
		for name := range rules {
			for _, v := range verbs {
				want := http.StatusForbidden
				if name == "root" || inside && may(name, v.need) {
					want = http.StatusOK
					for range 2 { // so that there is something
						g.as(t, "root", "PUT", "/put/"+spelling, `{"value":{"a":1}}`)
					}
				}
				response, body := g.as(t, name, v.method, v.path+spelling+v.query, v.body)
				if want == http.StatusOK && response.StatusCode == http.StatusGone {
					continue // it was destroyed before
				}
				if response.StatusCode != want {
					t.Errorf("%s %s%s%s as %s: %s %s, want %d", v.method, v.path, spelling, v.query, name, response.Status, body, want)
				}
			}
		}
	}
}

func TestBatchByRights(t *testing.T) {
	g := startGuarded(t, newRealBackend(t), map[string][]string{
		"root": {"read,write:"}, "reader": {"read:a/"}, "writer": {"write:a/"}, "both": {"read:a/", "read,write:b/"}, "admin": {"admin:"},
	})
	g.as(t, "root", "POST", "/batch", `{"operations":[{"op":"put","key":"a/k","value":1},{"op":"put","key":"b/k","value":1},{"op":"put","key":"c","value":1}]}`)
	const (
		getA, getC = `{"op":"get","key":"a/k"}`, `{"op":"get","key":"c"}`
		putA, putB = `{"op":"put","key":"a/k","value":2}`, `{"op":"put","key":"b/k","value":2}`
		condA      = `{"key":"a/k","version":1}`
		condC      = `{"key":"c","version":7}`
	)
	for _, c := range []struct {
		name, conditions, operations string
		detail                       string // "" when it is allowed, or its condition does not hold
	}{
		{"reader", condA, getA, ""},
		{"reader", "", getA + "," + getC, "operations[1]: The access token 'reader' does not have the right read for the key 'c'"},
		{"reader", "", putA, "operations[0]: The access token 'reader' does not have the right write for the key 'a/k'"},
		{"reader", condC, getA, "conditions[0]: The access token 'reader' does not have the right read for the key 'c'"},
		{"writer", "", `{"op":"put","key":"a/\u006b","value":2,"if_version":999}`, ""},
		{"writer", "", getA, "operations[0]: The access token 'writer' does not have the right read for the key 'a/k'"},
		{"writer", condA, putA, "conditions[0]: The access token 'writer' does not have the right read for the key 'a/k'"},
		{"both", condA, putB + "," + getA + `,{"op":"delete","key":"b/k"},{"op":"revert","key":"b/k","version":1}`, ""},
		{"both", "", putB + `,{"op":"delete","key":"a/k"}`, "operations[1]: The access token 'both' does not have the right write for the key 'a/k'"},
		{"both", "", putB + `,{"op":"revert","key":"c","version":1}`, "operations[1]: The access token 'both' does not have the right write for the key 'c'"},
		{"admin", "", getA, "The access token 'admin' has neither the right read nor write for any key"},
	} {
		response, body := g.as(t, c.name, "POST", "/batch", `{"conditions":[`+c.conditions+`],"operations":[`+c.operations+`]}`)
		switch {
		case c.detail != "":
			wantProblem(t, response, body, http.StatusForbidden, "forbidden", c.detail)
			if challenge := response.Header.Get("Www-Authenticate"); challenge != `Bearer realm="kv", error="insufficient_scope"` {
				t.Errorf("%s: challenge %q", c.detail, challenge)
			}
		case response.StatusCode != http.StatusOK && response.StatusCode != http.StatusPreconditionFailed:
			t.Errorf("%s %s: %s %s", c.name, c.operations, response.Status, body)
		}
	}
	_, history := g.as(t, "root", "GET", "/history/b/k", "")
	if n := strings.Count(history, `"author":"both"`); n != 3 {
		t.Errorf("%d versions are by both: %s", n, history)
	}
}

// listing reads all pages.
func (g *guarded) listing(t *testing.T, name, query string) (items []string) {
	t.Helper()
	after := ""
	for range 100 {
		response, body := g.as(t, name, "GET", "/keys?"+query+"&after="+url.QueryEscape(after), "")
		if response.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", response.Status, body)
		}
		var page struct {
			Keys      []struct{ Key string }
			Prefixes  []string
			NextAfter *string `json:"next_after"`
		}
		if err := json.Unmarshal([]byte(body), &page); err != nil {
			t.Fatal(err)
		}
		for _, k := range page.Keys {
			items = append(items, k.Key)
		}
		items = append(items, page.Prefixes...)
		if page.NextAfter == nil {
			slices.Sort(items)
			return items
		}
		after = *page.NextAfter
	}
	t.Fatal("the pages do not end")
	return nil
}

func TestListShowsWhatMayBeRead(t *testing.T) {
	g := startGuarded(t, newRealBackend(t), map[string][]string{
		"root": {"read,write:"}, "few": {"read:a/x", "read:a/y/", "read:a/y/inner", "read:c", "write:b"}, "blind": {"write:"},
	})
	visible := []string{"a/x", "a/x/1", "a/xx", "a/y/1", "a/y/2", "c", "c/1", "cc"}
	for _, key := range append([]string{"a", "a/", "a/w", "a/y", "a/z", "b", "b/1", "d", "\U0010FFFF"}, visible...) {
		g.as(t, "root", "PUT", "/put/"+url.PathEscape(key), `{"value":1}`)
	}
	for query, want := range map[string][]string{
		"":                       visible,
		"prefix=a":               visible[:5],
		"prefix=a/y/":            {"a/y/1", "a/y/2"},
		"prefix=a/x/":            {"a/x/1"},
		"delimiter=/":            {"a/", "c", "c/", "cc"},
		"prefix=a/&delimiter=/":  {"a/x", "a/x/", "a/xx", "a/y/"},
		"prefix=a/y/inner":       nil,
		"prefix=c&delimiter=%2F": {"c", "c/", "cc"},
	} {
		for limit := 1; limit <= 9; limit++ {
			if diff := cmp.Diff(want, g.listing(t, "few", fmt.Sprintf("%s&limit=%d", query, limit))); diff != "" {
				t.Errorf("%s by %d: %s", query, limit, diff)
			}
		}
	}
	for _, target := range []string{"/keys?prefix=b", "/keys?prefix=a/w", "/keys?prefix=&prefix=a&prefix=b&prefix=z", "/watch?prefix=b"} {
		response, body := g.as(t, "few", "GET", target, "")
		if strings.Contains(target, "&") { // which of them counts is no question
			wantProblem(t, response, body, http.StatusUnprocessableEntity, "repeated_parameter", "")
			continue
		}
		prefix := strings.Split(target, "=")[1]
		wantProblem(t, response, body, http.StatusForbidden, "forbidden",
			"The access token 'few' does not have the right read for any key with the prefix '"+prefix+"'")
	}
	for _, target := range []string{"/keys", "/watch"} {
		response, body := g.as(t, "blind", "GET", target, "")
		wantProblem(t, response, body, http.StatusForbidden, "forbidden", "The access token 'blind' does not have the right read for any key")
	}
}

// events sends the data of the events of a stream, and then closes the channel.
func (g *guarded) events(t *testing.T, name, target string) <-chan string {
	t.Helper()
	conn, r := g.dial(t)
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer %s\r\n\r\n", target, g.secrets[name])
	response, err := http.ReadResponse(r, nil)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatal(response, err)
	}
	events := make(chan string, 100)
	go func() {
		defer close(events)
		for lines := bufio.NewScanner(response.Body); lines.Scan(); {
			text, found := strings.CutPrefix(lines.Text(), "data: ")
			var data struct{ Key, Author string }
			if found && json.Unmarshal([]byte(text), &data) == nil {
				events <- data.Key + " by " + data.Author
			}
		}
	}()
	return events
}

func TestWatchShowsWhatMayBeRead(t *testing.T) {
	g := startGuarded(t, newRealBackend(t), map[string][]string{"root": {"read,write,admin:"}, "few": {"read:a/", "read:c/"}})
	put := func(keys ...string) {
		for _, key := range keys {
			g.as(t, "root", "PUT", "/put/"+key, `{"value":1}`)
		}
	}
	put("a/1", "b/1", "c/1", "a")
	past, under := g.events(t, "few", "/watch?since=0"), g.events(t, "few", "/watch?since=0&prefix=c")
	put("b/2", "c/2", "a/2", "ca")
	g.as(t, "root", "POST", "/batch", `{"operations":[{"op":"put","key":"c/3","value":1},{"op":"put","key":"d","value":1},{"op":"delete","key":"a/1"}]}`)
	g.as(t, "root", "POST", "/destroy/c/3?all=true", "")
	for _, key := range []string{"a/1", "c/1", "c/2", "a/2", "c/3", "a/1", "c/3"} {
		if got := receive(t, "an event of "+key, past); got != key+" by root" {
			t.Errorf("got %s, want %s", got, key)
		}
		if key[0] == 'c' {
			if got := receive(t, "an event of "+key, under); got != key+" by root" {
				t.Errorf("got %s, want %s", got, key)
			}
		}
	}
}

// A stream ends when its token does. The next request says why.
func TestStreamEndsWithItsToken(t *testing.T) {
	g := startGuarded(t, newRealBackend(t), map[string][]string{"revoked": {"read:"}, "changed": {"read:"}, "stays": {"read,write:"}})
	revoked, changed, stays := g.events(t, "revoked", "/watch"), g.events(t, "changed", "/watch"), g.events(t, "stays", "/watch")
	if err := access.Remove(g.path, "revoked"); err != nil {
		t.Fatal(err)
	}
	if event := receive(t, "the end", revoked); event != "" {
		t.Error(event)
	}
	response, body := g.as(t, "revoked", "GET", "/watch", "")
	wantProblem(t, response, body, http.StatusUnauthorized, "invalid_token", "")
	if err := access.Remove(g.path, "changed"); err != nil {
		t.Fatal(err)
	}
	if event := receive(t, "the end", changed); event != "" {
		t.Error(event)
	}
	g.as(t, "stays", "PUT", "/put/k", `{"value":1}`)
	if event := receive(t, "an event", stays); event != "k by stays" {
		t.Error(event)
	}
}
