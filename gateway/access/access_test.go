package access_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"kvstore/gateway/access"
	"kvstore/gateway/h1"
)

const patience = 10 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fields parses the headers of a request.
func fields(t *testing.T, lines ...string) []h1.Field {
	t.Helper()
	var r h1.Request
	if err := r.Parse([]byte(strings.Join(append([]string{"GET / HTTP/1.1", "Host: h"}, lines...), "\r\n") + "\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	return r.Fields
}

func bearer(t *testing.T, secret string) []h1.Field {
	t.Helper()
	return fields(t, "Authorization: Bearer "+secret)
}

// A vault is a file of tokens, and their secrets.
type vault struct {
	path    string
	secrets map[string]string
}

func newVault(t *testing.T) *vault {
	t.Helper()
	return &vault{filepath.Join(t.TempDir(), "tokens.yml"), map[string]string{}}
}

func (v *vault) add(t *testing.T, name string, expires time.Time, rules ...string) string {
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
	if err := access.Add(v.path, token); err != nil {
		t.Fatal(err)
	}
	v.secrets[name] = secret
	return secret
}

// check returns the status that a request would get from the guard, 200 if it goes on.
func check(g *access.Guard, path string, fields []h1.Field) int {
	_, denial := g.Check(access.Find([]byte(path)), fields)
	if denial == nil {
		return http.StatusOK
	}
	return denial.Problem.Status
}

func TestRules(t *testing.T) {
	v := newVault(t)
	never := time.Time{}
	v.add(t, "reader", never, "read:app/")
	v.add(t, "writer", never, "write:app/", "write:日本/")
	v.add(t, "both", never, "read,write:app/", "read:pub")
	v.add(t, "admin", never, "admin:app/")
	v.add(t, "root", never, "read,write,admin:")
	g := open(t, v, nil)
	const yes, no, gone = 200, 403, 404
	for _, row := range []struct {
		path                              string
		reader, writer, both, admin, root int
	}{
		{"/get/app/k", yes, no, yes, no, yes},
		{"/history/app/k", yes, no, yes, no, yes},
		{"/diff/app/k", yes, no, yes, no, yes},
		{"/put/app/k", no, yes, yes, no, yes},
		{"/delete/app/k", no, yes, yes, no, yes},
		{"/revert/app/k", no, yes, yes, no, yes},
		{"/patch/app/k", no, no, yes, no, yes},
		{"/destroy/app/k", no, no, no, yes, yes},

		// The decoded key counts, and nothing is cleaned.
		{"/get/app%2Fk", yes, no, yes, no, yes},
		{"/get%2Fapp/k", yes, no, yes, no, yes},
		{"/%67et/%61pp/k", yes, no, yes, no, yes},
		{"/get/app/", yes, no, yes, no, yes},
		{"/get/app/../x", yes, no, yes, no, yes},
		{"/get/app", no, no, no, no, yes},
		{"/get/app%252Fk", no, no, no, no, yes},
		{"/get//app/k", no, no, no, no, yes},
		{"/get/APP/k", no, no, no, no, yes},
		{"/get/x/../app/k", no, no, no, no, yes},
		{"/get/", no, no, no, no, yes},
		{"/get/public", no, no, yes, no, yes},
		{"/put/%E6%97%A5%E6%9C%AC/k", no, yes, no, no, yes},
		{"/put/日本/k", no, yes, no, no, yes},

		// The backend keeps to the prefixes.
		{"/keys", yes, no, yes, no, yes},
		{"/watch", yes, no, yes, no, yes},
		{"/batch", yes, yes, yes, no, yes},

		{"/cache/stats", no, no, no, no, yes},
		{"/db/stats", no, no, no, no, yes},
		{"/db/backup", no, no, no, no, yes},
		{"/db%2Fbackup", no, no, no, no, yes},
		{"/health", yes, yes, yes, yes, yes},
		{"/docs/index.html", yes, yes, yes, yes, yes},

		// What is not known goes nowhere.
		{"/", gone, gone, gone, gone, gone},
		{"/get", gone, gone, gone, gone, gone},
		{"/Get/app/k", gone, gone, gone, gone, gone},
		{"//get/app/k", gone, gone, gone, gone, gone},
		{"/keys/", gone, gone, gone, gone, gone},
		{"/db/compact", gone, gone, gone, gone, gone},
		{"/db/new", gone, gone, gone, gone, gone},
		{"*", gone, gone, gone, gone, gone},
	} {
		want := map[string]int{"reader": row.reader, "writer": row.writer, "both": row.both, "admin": row.admin, "root": row.root}
		for name, status := range want {
			if got := check(g, row.path, bearer(t, v.secrets[name])); got != status {
				t.Errorf("%s with %s: %d, want %d", row.path, name, got, status)
			}
		}
	}
}

func TestChallenges(t *testing.T) {
	v := newVault(t)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	good := v.add(t, "good", time.Time{}, "read:app/")
	old := v.add(t, "old", now, "read:app/")
	g := open(t, v, func() time.Time { return now })
	long := strings.Repeat("a", 5000)
	for _, c := range []struct {
		name      string
		lines     []string
		status    int
		code      string
		challenge string
	}{
		{"none", nil, 401, "unauthorized", `Bearer realm="kv"`},
		{"empty", []string{"Authorization:"}, 401, "unauthorized", `Bearer realm="kv"`},
		{"no token", []string{"Authorization: Bearer "}, 401, "unauthorized", `Bearer realm="kv"`},
		{"Basic", []string{"Authorization: Basic " + good}, 401, "unauthorized", `Bearer realm="kv"`},
		{"without a scheme", []string{"Authorization: " + good}, 401, "unauthorized", `Bearer realm="kv"`},
		{"in another header", []string{"X-Token: " + good, "Proxy-Authorization: Bearer " + good}, 401, "unauthorized", `Bearer realm="kv"`},
		{"unknown", []string{"Authorization: Bearer kv_x"}, 401, "invalid_token", `Bearer realm="kv", error="invalid_token"`},
		{"long", []string{"Authorization: Bearer " + long}, 401, "invalid_token", `Bearer realm="kv", error="invalid_token"`},
		{"a part", []string{"Authorization: Bearer " + good[:len(good)-1]}, 401, "invalid_token", `Bearer realm="kv", error="invalid_token"`},
		{"two in one", []string{"Authorization: Bearer " + good + " " + good}, 401, "invalid_token", `Bearer realm="kv", error="invalid_token"`},
		{"expired", []string{"Authorization: Bearer " + old}, 401, "invalid_token", `Bearer realm="kv", error="invalid_token"`},
		{"twice", []string{"Authorization: Bearer " + good, "authorization: Bearer " + good}, 400, "bad_request", `Bearer realm="kv", error="invalid_request"`},
		{"outside", []string{"Authorization: Bearer " + good}, 403, "forbidden", `Bearer realm="kv", error="insufficient_scope"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, denial := g.Check(access.Find([]byte("/get/other")), fields(t, c.lines...))
			if denial == nil {
				t.Fatal("goes on")
			}
			p := denial.Problem
			if p.Status != c.status || p.Code != c.code || denial.Challenge() != c.challenge {
				t.Errorf("%d %s %s", p.Status, p.Code, denial.Challenge())
			}
			if text := string(p.Encode()); strings.Contains(text, good) || strings.Contains(text, old) {
				t.Errorf("the answer has the token: %s", text)
			}
		})
	}
	for _, line := range []string{"Authorization: bearer " + good, "AUTHORIZATION: BEARER   " + good + "\t"} {
		if got := check(g, "/get/app/k", fields(t, line)); got != http.StatusOK {
			t.Errorf("%.25s: %d", line, got)
		}
	}
	_, denial := g.Check(access.Find([]byte("/get/other")), bearer(t, good))
	if want := "The access token 'good' does not have the right read for the key 'other'"; denial.Problem.Detail != want {
		t.Error(denial.Problem.Detail)
	}
	_, denial = g.Check(access.Find([]byte("/get/app/k")), bearer(t, old))
	if want := "The access token 'old' has expired at 2026-01-01T00:00:00Z"; denial.Problem.Detail != want {
		t.Error(denial.Problem.Detail)
	}
}

func TestExpiry(t *testing.T) {
	v := newVault(t)
	end := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	secret := v.add(t, "t", end, "read:")
	var mu sync.Mutex
	now := end.Add(-time.Nanosecond)
	g := open(t, v, func() time.Time { mu.Lock(); defer mu.Unlock(); return now })
	grant, denial := g.Check(access.Find([]byte("/get/k")), bearer(t, secret))
	if denial != nil || !g.Holds(grant) {
		t.Fatal(denial)
	}
	mu.Lock()
	now = end
	mu.Unlock()
	if g.Holds(grant) || check(g, "/get/k", bearer(t, secret)) != http.StatusUnauthorized {
		t.Error("it still holds")
	}
}

// A grant no longer holds if the file gives the token other rules or another name, or if the token
// has expired.
func TestGrantEndsWithChanges(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		change, from, to string
	}{
		{"fewer rights", "allow: [read, write]", "allow: [write]"},
		{"another prefix", "prefix: app/", "prefix: app/a/"},
		{"another name", "name: t", "name: u"},
		{"an end that has come", "expires: never", "expires: 2025-12-31T00:00:00Z"},
	} {
		t.Run(c.change, func(t *testing.T) {
			v := newVault(t)
			secret := v.add(t, "t", time.Time{}, "read,write:app/")
			g := open(t, v, func() time.Time { return now })
			grant, denial := g.Check(access.Find([]byte("/watch")), bearer(t, secret))
			if denial != nil || !g.Holds(grant) {
				t.Fatal(denial)
			}
			text, err := os.ReadFile(v.path)
			if err != nil {
				t.Fatal(err)
			}
			changed := strings.Replace(string(text), c.from, c.to, 1)
			if changed == string(text) {
				t.Fatalf("no %q in:\n%s", c.from, text)
			}
			write(t, v.path, changed)
			eventually(t, "the grant ends", func() bool { return !g.Holds(grant) })
		})
	}
}

func TestWhatTheBackendIsTold(t *testing.T) {
	v := newVault(t)
	v.add(t, "all", time.Time{}, "read,write:")
	v.add(t, "some", time.Time{}, "read:a,b/", "read,write:日本 %", "admin:z")
	g := open(t, v, nil)
	for _, c := range []struct{ name, path, head string }{
		{"all", "/get/k", "X-KV-Author: all\r\n"},
		{"all", "/keys", "X-KV-Author: all\r\n"},
		{"all", "/health", ""},
		{"some", "/get/a,b/c", "X-KV-Author: some\r\n"},
		{"some", "/watch", "X-KV-Author: some\r\nX-KV-Read-Prefixes: a%2Cb%2F,%E6%97%A5%E6%9C%AC%20%25\r\n" +
			"X-KV-Write-Prefixes: %E6%97%A5%E6%9C%AC%20%25\r\n"},
	} {
		grant, denial := g.Check(access.Find([]byte(c.path)), bearer(t, v.secrets[c.name]))
		if denial != nil || string(grant.Head) != c.head {
			t.Errorf("%s %s: %q, %v", c.name, c.path, grant.Head, denial)
		}
	}
}

// A decision allocates nothing unless the path must be decoded.
func TestCheckAllocatesNothing(t *testing.T) {
	v := newVault(t)
	secret := v.add(t, "t", time.Now().Add(time.Hour), "read:x", "read:app/")
	g := open(t, v, nil)
	headers, path := bearer(t, secret), []byte("/get/app/k")
	if n := testing.AllocsPerRun(100, func() {
		if _, denial := g.Check(access.Find(path), headers); denial != nil {
			t.Error("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCheck(b *testing.B) {
	path := filepath.Join(b.TempDir(), "tokens.yml")
	secret, hash := access.NewSecret()
	rules := []access.Rule{{Allow: access.Read, Prefix: "app/"}}
	if err := access.Add(path, &access.Token{Name: "t", Hash: hash, Rules: rules}); err != nil {
		b.Fatal(err)
	}
	g, err := access.Open(access.Config{Path: path})
	if err != nil {
		b.Fatal(err)
	}
	defer g.Close()
	var r h1.Request
	_ = r.Parse([]byte("GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " + secret + "\r\n\r\n"))
	target := []byte("/get/app/k")
	b.ReportAllocs()
	for b.Loop() {
		if _, denial := g.Check(access.Find(target), r.Fields); denial != nil {
			b.Fatal("refused")
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("not within %s: %s", patience, what)
		case <-ticker.C:
		}
	}
}

func entry(name, expires string, hash byte) string {
	return fmt.Sprintf("- name: %s\n  sha256: %064x\n  expires: %s\n  rules: [{allow: [read], prefix: ''}]\n", name, hash, expires)
}
