package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// echoTarget answers with the method and the target of the request.
func echoTarget(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "%s %s", r.Method, r.RequestURI)
}

func TestTargetArrivesByteForByte(t *testing.T) {
	g := start(t, nil, newBackend(t, "s", echoTarget).URL)
	for _, target := range []string{
		"/", "/put/a//b", "/put/a/../b", "/put/a/./b", "/put/..", "/put/%2E%2E/x", "/put/%2e%2e/x",
		"/put/a%2Fb", "/put/a%2fb", "/put/100%25", "/put/a%3Fb", "/put/a;b", "/put/a%3Bb", "/put/a+b", "/put/a%20b",
		"/put/a/", "/put//", "/put///a", "/put/%61", "/put/~a!$&'()*,=:@", "/put/%00", "/put/%FF", "/put/a#b",
		"/put/日本", "/put/%E6%97%A5", "/put/\xff\xfe", `/put/"<>\^` + "`{|}", `/put/a%2Fb{"}`, "/put/[a]",
		"/get/k?", "/get/k??", "/get/k?a?b", "/get/k?version=1", "/get/k?version=1;x", "/get/k?a=%zz", "/get/k?a=%",
		"/get/k?b=2&a=1&b=1", "/get/k?a=日本", "/get/k?a=%2f%2F", "/get/k?a=b+c%20d", "/get/k?&&", "/get/k?=", "/get/k?a=#b",
		"/get/日本?a=%zz;b", "//", "//get/k", "//host:1/get//k?a=%zz", "///a%2Fb", "//a/..?", "//a/日本%2F{}?q={}", "*",
		"/keys?prefix=" + strings.Repeat("p", 8000),
	} {
		t.Run(target[:min(len(target), 40)], func(t *testing.T) {
			response, body := g.send(t, "GET "+target+" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
			if response.StatusCode != http.StatusOK || body != "GET "+target {
				t.Errorf("got %d %q", response.StatusCode, body)
			}
		})
	}
}

func TestTargetInAbsoluteForm(t *testing.T) {
	g := start(t, nil, newBackend(t, "s", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Host, " ", r.RequestURI)
	}).URL)
	for target, want := range map[string]string{
		"http://kv.example/put/a//b?x=%zz": "kv.example /put/a//b?x=%zz",
		"http://kv.example":                "kv.example /",
		"http://kv.example?a=/b":           "kv.example /?a=/b",
		"http://kv.example//a":             "kv.example //a",
	} {
		if _, body := g.send(t, "GET "+target+" HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n"); body != want {
			t.Errorf("%s: got %q, want %q", target, body, want)
		}
	}
}

func TestTargetWithoutPathIsRefused(t *testing.T) {
	g := start(t, nil, newBackend(t, "s", func(http.ResponseWriter, *http.Request) { t.Error("reached the backend") }).URL)
	for _, line := range []string{"CONNECT host:1", "CONNECT /put/k", "GET mailto:a"} {
		response, body := g.send(t, line+" HTTP/1.1\r\nHost: h\r\n\r\n")
		wantProblem(t, response, body, http.StatusBadRequest, "bad_request", "The request target has no path")
	}
}

func TestMethodsArrive(t *testing.T) {
	g := start(t, nil, newBackend(t, "s", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Method", r.Method)
		w.Header().Set("Content-Length", "5")
		_, _ = io.WriteString(w, "12345")
	}).URL)
	for _, method := range []string{"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get"} {
		response, body := g.send(t, method+" /put/k HTTP/1.1\r\nHost: h\r\n\r\n")
		if got := response.Header.Get("Method"); got != method {
			t.Errorf("%s arrived as %s", method, got)
		}
		if response.ContentLength != 5 || (body == "") != (method == "HEAD") {
			t.Errorf("%s: Content-Length %d, body %q", method, response.ContentLength, body)
		}
	}
}

// FuzzTarget checks that the backend reads the target that the client sent, if it is accepted.
func FuzzTarget(f *testing.F) {
	got := make(chan *http.Request, 1)
	for _, seed := range []string{"/put/a//b?c", "//x", "http://h/a", "*", "/%2F?%zz"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, target string) {
		if strings.ContainsAny(target, " \r\n") {
			return
		}
		if _, err := url.ParseRequestURI(target); err != nil || !strings.HasPrefix(target, "/") {
			return
		}
		g := start(t, nil, newBackend(t, "s", func(_ http.ResponseWriter, r *http.Request) { got <- r.Clone(r.Context()) }).URL)
		g.send(t, "DELETE "+target+" HTTP/1.1\r\nHost: h\r\n\r\n")
		select {
		case r := <-got:
			want, _ := url.ParseRequestURI(target)
			if r.URL.Path != want.Path || r.URL.RawQuery != want.RawQuery {
				t.Errorf("%q arrived as %q", target, r.RequestURI)
			}
			if r.RequestURI != target {
				t.Errorf("%q arrived as %q", target, r.RequestURI)
			}
		default: // one of the gateway's own
		}
	})
}
