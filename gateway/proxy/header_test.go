package proxy_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sentHeaders returns the headers that the backend gets of a raw request.
func sentHeaders(t *testing.T, raw string) (got http.Header, host string) {
	t.Helper()
	g := start(t, nil, newBackend(t, "s", func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set("Got-Host", r.Host)
		_ = json.NewEncoder(w).Encode(r.Header)
	}).URL)
	_, body := g.send(t, raw)
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	host = got.Get("Got-Host")
	got.Del("Got-Host")
	if len(got["Via"]) != 1 {
		t.Errorf("Via: %q", got["Via"])
	}
	got.Del("Via") // TestVia looks at it
	return got, host
}

func TestRequestHeaders(t *testing.T) {
	t.Run("of a plain client", func(t *testing.T) {
		got, host := sentHeaders(t, "GET /get/k HTTP/1.1\r\nHost: kv.example:99\r\nX-Request-Id: id\r\n\r\n")
		want := http.Header{
			"X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Host": {"kv.example:99"}, "X-Forwarded-Proto": {"http"},
			"X-Request-Id": {"id"},
		}
		if diff := cmp.Diff(want, got); diff != "" || host != "kv.example:99" {
			t.Errorf("host %s, %s", host, diff)
		}
	})
	t.Run("of Traefik", func(t *testing.T) {
		got, _ := sentHeaders(t, "GET /get/k HTTP/1.1\r\nHost: inner\r\nX-Request-Id: id\r\nX-Forwarded-For: 10.0.0.1, 10.0.0.2\r\n"+
			"X-Forwarded-Host: kv.example\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\nX-Real-Ip: 10.0.0.1\r\n"+
			"Forwarded: for=10.0.0.1\r\nUser-Agent: curl\r\nAccept-Encoding: br\r\nConnection: X-Forwarded-For, X-Forwarded-Proto\r\n\r\n")
		want := http.Header{
			"X-Forwarded-For": {"10.0.0.1, 10.0.0.2, 127.0.0.1"}, "X-Forwarded-Host": {"kv.example"}, "X-Forwarded-Proto": {"https"},
			"X-Forwarded-Port": {"443"}, "X-Real-Ip": {"10.0.0.1"}, "Forwarded": {"for=10.0.0.1"},
			"User-Agent": {"curl"}, "Accept-Encoding": {"br"}, "X-Request-Id": {"id"},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("hop by hop", func(t *testing.T) {
		got, _ := sentHeaders(t, "GET /get/k HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, X-Foo\r\nConnection: x-bar\r\nX-Foo: 1\r\nX-Bar: 1\r\n"+
			"Keep-Alive: timeout=5\r\nProxy-Connection: close\r\nProxy-Authorization: x\r\nTe: gzip\r\nUpgrade: websocket\r\nIf-Match: \"1\"\r\n"+
			"X-Multi: a\r\nX-Multi: b\r\n\r\n")
		for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Request-Id"} {
			got.Del(name)
		}
		want := http.Header{"If-Match": {`"1"`}, "X-Multi": {"a", "b"}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("upgrade", func(t *testing.T) {
		got, _ := sentHeaders(t, "GET /watch HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n")
		for _, name := range []string{"Connection", "Upgrade", "Http2-Settings"} {
			if got.Get(name) != "" {
				t.Errorf("%s arrived", name)
			}
		}
	})
	t.Run("idempotency key", func(t *testing.T) {
		got, _ := sentHeaders(t, "POST /revert/k HTTP/1.1\r\nHost: h\r\nIdempotency-Key: a\r\nX-Idempotency-Key: b\r\n\r\n")
		if got.Get("Idempotency-Key") != "a" || got.Get("X-Idempotency-Key") != "b" {
			t.Errorf("got %v", got)
		}
	})
}

func TestAnswerHeaders(t *testing.T) {
	g := start(t, nil, newBackend(t, "s", func(w http.ResponseWriter, _ *http.Request) {
		header := w.Header()
		header.Set("Connection", "X-Foo")
		header.Set("X-Foo", "1")
		header.Set("Keep-Alive", "timeout=5")
		header.Set("Etag", `"3"`)
		header["X-Multi"] = []string{"a", "b"}
		header.Set("Content-Encoding", "gzip") // not ours to undo
		header.Set("Content-Type", "text/x")
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprint(w, "not gzip")
	}).URL)
	response, body := get(t, g.URL+"/get/k")
	response.Header.Del("Date")
	response.Header.Del("X-Request-Id")
	for _, name := range []string{"X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy", "Permissions-Policy"} {
		response.Header.Del(name) // see TestSecurityHeaders
	}
	want := http.Header{
		"Etag": {`"3"`}, "X-Multi": {"a", "b"}, "Content-Encoding": {"gzip"}, "Content-Type": {"text/x"}, "Content-Length": {"8"},
	}
	response.Header.Del("Connection") // that of the client's own connection
	if diff := cmp.Diff(want, response.Header); diff != "" || response.StatusCode != http.StatusTeapot || body != "not gzip" {
		t.Errorf("%d %q %s", response.StatusCode, body, diff)
	}
}

func TestAnswerWithoutBody(t *testing.T) {
	g := start(t, nil, newBackend(t, "s", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Etag", `"3"`)
		w.WriteHeader(http.StatusNotModified)
	}).URL)
	response, body := get(t, g.URL+"/get/k")
	if response.StatusCode != http.StatusNotModified || body != "" || response.Header.Get("Etag") != `"3"` {
		t.Errorf("%d %q %v", response.StatusCode, body, response.Header)
	}
}

func TestRequestID(t *testing.T) {
	g := start(t, nil, newBackend(t, "s", func(w http.ResponseWriter, r *http.Request) {
		w.Header()["X-Request-Id"] = []string{r.Header.Get("X-Request-Id"), "another"}
		fmt.Fprint(w, r.Header["X-Request-Id"])
	}).URL)
	for name, raw := range map[string]string{
		"given":      "X-Request-Id: abc\r\n",
		"hop by hop": "X-Request-Id: abc\r\nConnection: X-Request-Id\r\n",
		"none":       "",
		"insane":     "X-Request-Id: a b\r\n",
		"two":        "X-Request-Id: abc\r\nX-Request-Id: def\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			response, body := g.send(t, "GET /get/k HTTP/1.1\r\nHost: h\r\n"+raw+"\r\n")
			ids := response.Header["X-Request-Id"]
			if len(ids) != 1 || len(ids[0]) < 3 || ids[0] == "a b" {
				t.Fatalf("answer has %q", ids)
			}
			if (name == "given" || name == "hop by hop" || name == "two") && ids[0] != "abc" {
				t.Errorf("answer has %q", ids)
			}
			if want := "[" + ids[0] + "]"; body != want {
				t.Errorf("backend got %s, client %s", body, want)
			}
		})
	}
}

func TestConflictingLengths(t *testing.T) {
	type seen struct {
		length int64
		coding []string
		given  []string
	}
	got := make(chan seen, 10)
	g := start(t, nil, newBackend(t, "s", func(_ http.ResponseWriter, r *http.Request) {
		got <- seen{r.ContentLength, r.TransferEncoding, r.Header["Content-Length"]}
	}).URL)
	for name, headers := range map[string]string{
		"two lengths":        "Content-Length: 3\r\nContent-Length: 4\r\n",
		"a list of lengths":  "Content-Length: 3, 4\r\n",
		"signed length":      "Content-Length: +3\r\n",
		"two codings":        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
		"a list of codings":  "Transfer-Encoding: gzip, chunked\r\n",
		"unknown coding":     "Transfer-Encoding: xchunked\r\n",
		"space before colon": "Transfer-Encoding : chunked\r\n",
		"the same twice":     "Content-Length: 3\r\nContent-Length: 3\r\n",
		"length and coding":  "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
		"coding and length":  "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			response, _ := g.send(t, "PUT /put/k HTTP/1.1\r\nHost: h\r\n"+headers+"\r\n3\r\nabc\r\n0\r\n\r\n")
			if response.StatusCode != http.StatusBadRequest && response.StatusCode != http.StatusNotImplemented {
				t.Errorf("got %s", response.Status)
			}
			if len(got) > 0 {
				t.Errorf("the backend got %+v", <-got)
			}
		})
	}
}
