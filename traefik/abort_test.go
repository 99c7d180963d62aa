package traefik_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// dialWeb opens a connection to Traefik with a deadline.
func dialWeb(t *testing.T) net.Conn {
	t.Helper()
	connection, err := net.DialTimeout("tcp", webAddress, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	if err := connection.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return connection
}

// An answer that the gateway does not complete must not look complete.
func TestAbortedAnswers(t *testing.T) {
	newTraefikFor(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/get/known":
			w.Header().Set("Content-Length", "1000")
		case "/watch":
			w.Header().Set("Content-Type", "text/event-stream")
		case "/get/unknown":
		default:
			return
		}
		fmt.Fprint(w, "half\n")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	for _, target := range []string{"/get/known", "/get/unknown", "/watch"} {
		connection := dialWeb(t)
		fmt.Fprintf(connection, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", target)
		answer, err := http.ReadResponse(bufio.NewReader(connection), nil)
		if err != nil {
			continue // aborted before anything was forwarded
		}
		if body, err := io.ReadAll(answer.Body); err == nil || string(body) != "half\n" {
			t.Errorf("%s: %q, %v: looks complete", target, body, err)
		}
		_ = answer.Body.Close()
	}
}

// If a client goes away, its request is cancelled, so that streams end and no work is wasted.
func TestCancelledRequests(t *testing.T) {
	entered, left := make(chan struct{}, 1), make(chan struct{}, 1)
	newTraefikFor(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			return
		}
		if r.URL.Path == "/watch" {
			_ = http.NewResponseController(w).Flush()
		}
		entered <- struct{}{}
		<-r.Context().Done()
		left <- struct{}{}
	})
	for _, target := range []string{"/get/k", "/watch"} {
		connection := dialWeb(t)
		fmt.Fprintf(connection, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", target)
		<-entered
		_ = connection.Close()
		select {
		case <-left:
		case <-time.After(patience):
			t.Fatalf("%s: the gateway's request was not cancelled", target)
		}
	}
}

// A client that sends Expect: 100-continue gets its answer. Traefik forwards the type of a
// body unchanged: no type stays no type, which here means JSON.
func TestBodiesAndTheirTypes(t *testing.T) {
	newTraefikFor(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%q %q %v", r.Header.Values("Content-Type"), body, err)
	})
	for _, c := range []struct{ head, want string }{
		{"", `[] "abc" <nil>`},
		{"Content-Type: application/json\r\n", `["application/json"] "abc" <nil>`},
		{"Content-Type: application/octet-stream\r\n", `["application/octet-stream"] "abc" <nil>`},
		{"Content-Type: text/x; a=\"b\"\r\n", `["text/x; a=\"b\""] "abc" <nil>`},
		{"Expect: 100-continue\r\n", `[] "abc" <nil>`},
	} {
		connection := dialWeb(t)
		fmt.Fprintf(connection, "PUT /put/k HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n%s\r\n", c.head)
		reader := bufio.NewReader(connection)
		if strings.HasPrefix(c.head, "Expect") {
			interim, err := http.ReadResponse(reader, nil)
			if err != nil || interim.StatusCode != http.StatusContinue {
				t.Fatalf("%v, %v", interim, err)
			}
		}
		fmt.Fprint(connection, "abc")
		if answer, err := finalResponse(reader); err != nil || answer.body != c.want {
			t.Errorf("%q: %s, %v, want %s", c.head, answer.body, err, c.want)
		}
	}
}
