package proxy_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
)

// The headers that describe a bearer never arrive from a client, with access control or without.
func TestClientsCannotForgeTheBearer(t *testing.T) {
	echo := newBackend(t, "s", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		for name, values := range r.Header {
			if strings.HasPrefix(name, "X-Kv") || name == "Authorization" {
				fmt.Fprintf(w, "%s=%q ", name, values)
			}
		}
		fmt.Fprintf(w, "%q", r.Trailer)
	})
	const forged = "X-KV-Author: root\r\nx-kv-author: root\r\nX-Kv-Read-Prefixes: a\r\nX-KV-WRITE-PREFIXES:\r\n" +
		"Connection: close, X-KV-Author, X-KV-Read-Prefixes\r\nTrailer: X-KV-Author\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-KV-Author: root\r\n\r\n"
	open := start(t, nil, echo.URL)
	if _, body := open.send(t, "PUT /put/k HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer x\r\n"+forged); !strings.HasPrefix(body, "map[") {
		t.Errorf("arrives: %s", body)
	}
	g := startGuarded(t, echo.URL, map[string][]string{"me": {"write:"}})
	_, body := g.send(t, "PUT /put/k HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer "+g.secrets["me"]+"\r\n"+forged)
	if !strings.HasPrefix(body, `X-Kv-Author=["me"] map`) {
		t.Errorf("arrives: %s", body)
	}
	if strings.Contains(body, "Bearer") {
		t.Error("the token arrives")
	}
}

func TestOpenAndHiddenPaths(t *testing.T) {
	backend := newRealBackend(t)
	g := startGuarded(t, backend, map[string][]string{"root": {"read,write,admin:"}, "some": {"read,write,admin:a"}})
	for _, path := range []string{"/health", "/healthz", "/docs/index.html", "/openapi.json"} {
		if response, body := get(t, g.URL+path); response.StatusCode != http.StatusOK {
			t.Errorf("%s: %s %.100s", path, response.Status, body)
		}
	}
	for _, path := range []string{"/readyz", "/metrics", "/db/compact", "/nothing"} {
		response, body := g.as(t, "root", "GET", path, "")
		wantProblem(t, response, body, http.StatusNotFound, "not_found", "There is no such endpoint; /docs lists them")
	}
	for _, path := range []string{"/cache/stats", "/db/stats"} {
		if response, body := g.as(t, "root", "GET", path, ""); response.StatusCode != http.StatusOK {
			t.Errorf("%s: %s %s", path, response.Status, body)
		}
		response, body := g.as(t, "some", "GET", path, "")
		wantProblem(t, response, body, http.StatusForbidden, "forbidden", "The access token 'some' does not have the right read for all keys")
	}
	// Hidden without access control.
	open := start(t, nil, newBackend(t, "s", func(http.ResponseWriter, *http.Request) { t.Error("reached the backend") }).URL)
	for _, path := range []string{"/db/backup", "/db%2fbackup", "/%64b/backup?x=1"} {
		response, body := get(t, open.URL+path)
		wantProblem(t, response, body, http.StatusNotFound, "not_found", "")
		response, body = g.as(t, "some", "GET", path, "")
		wantProblem(t, response, body, http.StatusForbidden, "forbidden", "The access token 'some' does not have the right admin for all keys")
	}
}

// However a target is spelled, the rules apply to the key that the backend reads.
func TestTargetsAreReadAsTheBackendReadsThem(t *testing.T) {
	echo := newBackend(t, "s", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) })
	g := startGuarded(t, echo.URL, map[string][]string{"t": {"read:a/", "write:é"}})
	conn, r := g.dial(t)
	random := rand.New(rand.NewPCG(1, 2))
	pieces := []string{
		"/", "/", "get", "put", "g%65t", "a", "%61", "a/", "a%2F", "%2f", "é", "%C3%A9", "%c3", "\xc3\xa9", "\xc3", "%25", "%2561", ".", "..", "%2e", "\\", "%5c",
		";", "?", "#", "%3F", "%23", "%00", "+", "%20", "keys", "docs", "http://h/", "//", "*", "@", ":",
	}
	through := 0
	for range 20_000 {
		target := ""
		switch random.IntN(4) {
		case 0:
			target = "/get/a/"
		case 1:
			target = "/put/%C3%A9"
		case 2:
			target = "/"
		}
		for range 1 + random.IntN(6) {
			target += pieces[random.IntN(len(pieces))]
		}
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer %s\r\n\r\n", target, g.secrets["t"])
		response, body := answer(t, r, "GET")
		if response.StatusCode == http.StatusOK {
			through++
			if !strings.HasPrefix(body, "/get/a/") && !strings.HasPrefix(body, "/put/é") && !strings.HasPrefix(body, "/docs") && body != "/keys" {
				t.Errorf("%q is let through as %q", target, body)
			}
		}
		if response.Close {
			conn, r = g.dial(t)
		}
	}
	if through < 1000 {
		t.Errorf("only %d were let through", through)
	}
}

// After a refusal the connection can be used again.
func TestRefusedRequests(t *testing.T) {
	g := startGuarded(t, newBackend(t, "s", func(http.ResponseWriter, *http.Request) { t.Error("reached the backend") }).URL,
		map[string][]string{"t": {"read:app/"}})
	conn, r := g.dial(t)
	fmt.Fprint(conn, "PUT /put/k HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcGET /get/k HTTP/1.1\r\nHost: h\r\n\r\n")
	for range 2 {
		response, body := answer(t, r, "GET")
		wantProblem(t, response, body, http.StatusUnauthorized, "unauthorized", "")
		if response.Close {
			t.Error("closes")
		}
	}
	response, body := g.send(t, "PUT /put/k HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3000000\r\n\r\n")
	wantProblem(t, response, body, http.StatusUnauthorized, "unauthorized", "")
	if strings.Contains(g.log.String(), g.secrets["t"]) {
		t.Error("the log has the token")
	}
}
