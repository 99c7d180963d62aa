package proxy_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// sayAll sends raw and closes the sending side, as nc -N does.
func (g *gateway) sayAll(t *testing.T, raw string) io.Reader {
	t.Helper()
	conn, r := g.dial(t)
	if _, err := io.WriteString(conn, raw); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	return r
}

// A request that came whole is answered, however long that takes, though the client has
// closed its sending side.
func TestHalfClosedClientIsAnswered(t *testing.T) {
	g := start(t, nil, newBackend(t, "s", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		select {
		case <-time.After(5 * short): // longer than the patrol takes to look
		case <-r.Context().Done():
			t.Errorf("%s was cancelled", r.RequestURI)
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(r.Method)+len(r.RequestURI)+len(body)+3))
		fmt.Fprintf(w, "%s %s %s.", r.Method, r.RequestURI, body)
	}).URL)
	for raw, want := range map[string]string{
		"GET /get/k HTTP/1.1\r\nHost: h\r\n\r\n":                                                                      "GET /get/k .",
		"GET /get/k HTTP/1.0\r\n\r\n":                                                                                 "GET /get/k .",
		"PUT /put/k HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc":                                              "PUT /put/k abc.",
		"PUT /put/k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n":                   "PUT /put/k abc.",
		"PUT /put/l HTTP/1.1\r\nHost: h\r\nContent-Length: 20000\r\n\r\n" + strings.Repeat("x", 20000):                "PUT /put/l " + strings.Repeat("x", 20000) + ".",
		"GET /get/1 HTTP/1.1\r\nHost: h\r\n\r\nGET /get/2 HTTP/1.1\r\nHost: h\r\n\r\n":                                "GET /get/1 .GET /get/2 .",
		"GET /get/3 HTTP/1.1\r\nHost: h\r\n\r\nPUT /put/4 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nabc":        "GET /get/3 .", // the second is not whole
		"GET /get/5 HTTP/1.1\r\nHost: h\r\n\r\nPUT /put/6 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3": "GET /get/5 .",
	} {
		t.Run(raw[:10], func(t *testing.T) {
			t.Parallel()
			said, err := io.ReadAll(g.sayAll(t, raw))
			if err != nil {
				t.Error(err)
			}
			var got strings.Builder
			for part := range strings.SplitSeq(string(said), "HTTP/1.1 200 OK\r\n") {
				_, body, _ := strings.Cut(part, "\r\n\r\n")
				got.WriteString(body)
			}
			if got.String() != want {
				t.Errorf("%.100q, want %.100q", said, want)
			}
		})
	}
}

// The backend of a stream learns that the client sends nothing more. What it sends then still
// arrives.
func TestHalfClosedClientOfAStream(t *testing.T) {
	g := start(t, nil, newBackend(t, "s", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "first ")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done() // of net/http: it reads the end
		fmt.Fprint(w, "last")
	}).URL)
	said, err := io.ReadAll(g.sayAll(t, "GET /watch HTTP/1.0\r\n\r\n"))
	if err != nil || !strings.HasSuffix(string(said), "first last") {
		t.Errorf("%q, %v", said, err)
	}
}
