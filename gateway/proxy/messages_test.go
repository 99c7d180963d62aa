package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"kvstore/gateway/proxy"
	"kvstore/internal/telemetry"
)

// echo answers with the request.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	fmt.Fprintf(w, "%s %s %s", r.Method, r.RequestURI, body)
}

// wantEnd fails the test unless the gateway has closed the connection.
func wantEnd(t *testing.T, r *bufio.Reader) {
	t.Helper()
	switch b, err := r.ReadByte(); {
	case err == nil:
		t.Errorf("the connection goes on with %q", b)
	case errors.Is(err, os.ErrDeadlineExceeded):
		t.Error("the connection is still open")
	}
}

// A malformed request is answered with a problem, is not forwarded, and ends the connection.
func TestMalformedRequests(t *testing.T) {
	g := start(t, nil, newBackend(t, "s", func(_ http.ResponseWriter, r *http.Request) { t.Errorf("forwarded: %s", r.RequestURI) }).URL)
	const head = "PUT /put/k HTTP/1.1\r\nHost: h\r\n"
	for raw, status := range map[string]int{
		head + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nabc":                     400,
		head + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n":      400,
		head + "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n":      400,
		head + "Transfer-Encoding: gzip\r\n\r\n":                                       501,
		head + "Content-Length : 1\r\n\r\na":                                           400,
		head + "X: a\r\n b\r\n\r\n":                                                    400,
		head + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n":                       400,
		head + "X\x00: a\r\n\r\n":                                                      400,
		head + "X: \x00\r\n\r\n":                                                       400,
		head + "X: a\rb\r\n\r\n":                                                       400,
		head + "Expect: wonders\r\n\r\n":                                               417,
		"GET / HTTP/1.1\nHost: h\n\n":                                                  400,
		"GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n":                                      400,
		"GET / HTTP/1.1\r\n\r\n":                                                       400,
		"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n":                                 400,
		"GET /get/100% HTTP/1.1\r\nHost: h\r\n\r\n":                                    400,
		"GET / HTTP/2.0\r\nHost: h\r\n\r\n":                                            505,
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":                                             505,
		"nonsense\r\n\r\n":                                                             400,
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\r\n\r\n":                       400, // TLS
		"GET / HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("x", 70<<10) + "\r\n\r\n":  431,
		"GET /" + strings.Repeat("x", 70<<10) + " HTTP/1.1\r\nHost: h\r\n\r\n":         431,
		"GET / HTTP/1.1\r\nHost: h\r\n" + strings.Repeat("X: y\r\n", 20<<10) + "\r\n":  431,
		"GET / HTTP/1.1\r\nHost: h\r\n" + strings.Repeat("X: y\r\n", 1000) + "\r\n":    431,
		"GET /watch HTTP/1.1\r\nHost: h\r\nConnection: close\r\nBad Header: x\r\n\r\n": 400,
	} {
		conn, r := g.dial(t)
		go func() { _, _ = io.WriteString(conn, raw) }()
		response, body := answer(t, r, "GET")
		wantProblem(t, response, body, status, "malformed_request", "")
		if !response.Close {
			t.Errorf("%.60q: the connection goes on", raw)
		}
		wantEnd(t, r)
	}
	if n := g.log.count("WARN"); n > 0 {
		t.Errorf("%d warnings for what clients do", n)
	}
}

func TestSlowHeaders(t *testing.T) {
	g := start(t, func(c *proxy.Config) { c.HeaderTimeout = short }, newBackend(t, "s", echo).URL)
	for _, raw := range []string{"G", "GET / HTTP/1.1\r\nHost: h\r\n", "\r\n"} {
		conn, r := g.dial(t)
		fmt.Fprint(conn, raw)
		response, body := answer(t, r, "GET")
		wantProblem(t, response, body, http.StatusRequestTimeout, "malformed_request", "headers: did not arrive within "+short.String()+" (KV_HEADER_TIMEOUT)")
		wantEnd(t, r)
	}
	// The timeout is that of a head, not of the connection.
	conn, r := g.dial(t)
	for range 3 {
		fmt.Fprint(conn, "GET /a HTTP/1.1\r\n")
		fmt.Fprint(conn, "Host: h\r\n\r\n")
		if _, body := answer(t, r, "GET"); body != "GET /a " {
			t.Errorf("got %q", body)
		}
	}
}

// Pipelined requests are answered in their order.
func TestPipelinedRequests(t *testing.T) {
	g := start(t, nil, newBackend(t, "s", echo).URL)
	conn, r := g.dial(t)
	long := strings.Repeat("x", 20<<10)
	go fmt.Fprint(conn, "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n"+
		"PUT /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"+
		"\r\nPUT /3 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n3\r\ndef\r\n0\r\nSum: 1\r\n\r\n"+
		"GET /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"+
		"HEAD /5 HTTP/1.1\r\nHost: h\r\n\r\n"+
		"PUT /6 HTTP/1.1\r\nHost: h\r\nContent-Length: 20480\r\n\r\n"+long+
		"PUT /7 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5000\r\n"+long+"\r\n0\r\n\r\n"+
		"GET /8 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"+
		"GET /9 HTTP/1.1\r\nHost: h\r\n\r\n")
	for _, want := range []string{
		"GET /1 ", "PUT /2 abc", "PUT /3 abcdef", "{\"status\":\"ok\"}\n", "", "PUT /6 " + long, "PUT /7 " + long, "GET /8 ",
	} {
		method := "GET"
		if want == "" {
			method = "HEAD"
		}
		if response, body := answer(t, r, method); body != want || response.Close != (want == "GET /8 ") {
			t.Errorf("got %.40q, close %t, want %.40q", body, response.Close, want)
		}
	}
	wantEnd(t, r)
}

func TestHTTP10(t *testing.T) {
	g := start(t, nil, newBackend(t, "s", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/chunked" {
			fmt.Fprint(w, "one ")
			_ = http.NewResponseController(w).Flush()
		}
		fmt.Fprintf(w, "%q %s", r.Host, r.Proto)
	}).URL)
	t.Run("closes", func(t *testing.T) {
		conn, r := g.dial(t)
		fmt.Fprint(conn, "GET /get/k HTTP/1.0\r\n\r\n")
		if response, body := answer(t, r, "GET"); body != `"" HTTP/1.1` || !response.Close {
			t.Errorf("%q %v", body, response.Header)
		}
		wantEnd(t, r)
	})
	t.Run("keeps alive when asked", func(t *testing.T) {
		conn, r := g.dial(t)
		for range 3 {
			fmt.Fprint(conn, "GET /get/k HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
			if response, body := answer(t, r, "GET"); body != `"a" HTTP/1.1` || response.Header.Get("Connection") != "keep-alive" {
				t.Errorf("%q %v", body, response.Header)
			}
		}
	})
	t.Run("gets no chunks", func(t *testing.T) {
		conn, r := g.dial(t)
		fmt.Fprint(conn, "GET /chunked HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
		response, body := answer(t, r, "GET")
		if body != `one "a" HTTP/1.1` || response.TransferEncoding != nil || !response.Close {
			t.Errorf("%q %v", body, response)
		}
	})
	t.Run("is not told to continue", func(t *testing.T) {
		response, _ := g.send(t, "PUT /put/k HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx")
		if response.StatusCode != http.StatusOK {
			t.Error(response.Status)
		}
	})
}

// answering returns a backend that writes said to each request, and then serves
// the connection on.
func answering(t *testing.T, said string) (url string, served *atomic.Int32) {
	t.Helper()
	served = &atomic.Int32{}
	return rawBackend(t, func(conn net.Conn, r *bufio.Reader) {
		for {
			request, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if request.URL.Path == "/readyz" {
				fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\n"+`{"status":"ok","store":"s"}`)
				continue
			}
			served.Add(1)
			_, _ = io.Copy(io.Discard, request.Body)
			fmt.Fprint(conn, said)
		}
	}), served
}

// What a backend sends after its answer must not become the answer to another request.
func TestAnswersAreNotMixedUp(t *testing.T) {
	const evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"
	for name, test := range map[string]struct {
		method, said string
		status       int
		body         string
	}{
		"more than its length":     {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + evil, 200, "ok"},
		"behind the last chunk":    {"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + evil, 200, "ok"},
		"a body for HEAD":          {"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 46\r\n\r\n" + evil, 200, ""},
		"chunks for HEAD":          {"HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, ""},
		"a body with 304":          {"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 46\r\n\r\n" + evil, 304, ""},
		"a body with 204":          {"GET", "HTTP/1.1 204 No Content\r\nContent-Length: 46\r\n\r\n" + evil, 204, ""},
		"two lengths":              {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 48\r\n\r\nok" + evil, 503, ""},
		"length and coding":        {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 503, ""},
		"unknown coding":           {"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\nok", 503, ""},
		"a folded header":          {"GET", "HTTP/1.1 200 OK\r\nX: a\r\n Content-Length: 1\r\n\r\nok", 503, ""},
		"bare LF":                  {"GET", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", 503, ""},
		"a control character":      {"GET", "HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 2\r\n\r\nok", 503, ""},
		"a huge header":            {"GET", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 600<<10) + "\r\n\r\n", 503, ""},
		"interim without end":      {"GET", strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 100), 503, ""},
		"HTTP/1.0 answer":          {"GET", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok"},
		"a continue nobody wanted": {"PUT", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok"},
	} {
		t.Run(name, func(t *testing.T) {
			backend, _ := answering(t, test.said)
			g := start(t, neverAgain, backend)
			conn, r := g.dial(t)
			for range 3 {
				fmt.Fprint(conn, test.method+" /get/k HTTP/1.1\r\nHost: h\r\n\r\n")
				response, body := answer(t, r, test.method)
				for response.StatusCode == http.StatusEarlyHints {
					response, body = answer(t, r, test.method)
				}
				if test.status == http.StatusServiceUnavailable {
					wantProblem(t, response, body, 503, "backend_unavailable", "Backend service is unavailable")
				} else if response.StatusCode != test.status || body != test.body {
					t.Errorf("got %s %q", response.Status, body)
				}
				if response.StatusCode == http.StatusNoContent && response.ContentLength > 0 {
					t.Errorf("a 204 with a length: %v", response.Header)
				}
			}
		})
	}
}

// An idle connection on which the backend sends something is closed.
func TestUnaskedAnswer(t *testing.T) {
	spoken := make(chan struct{}, 1)
	next := make(chan struct{})
	g := start(t, neverAgain, rawBackend(t, func(conn net.Conn, r *bufio.Reader) {
		for {
			request, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			if request.URL.Path == "/get/first" {
				<-next // so that it is no part of that answer
				fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL")
				spoken <- struct{}{}
			}
		}
	}))
	for range 20 {
		if _, body := get(t, g.URL+"/get/first"); body != "ok" {
			t.Fatalf("got %q", body)
		}
		next <- struct{}{}
		receive(t, "the unasked answer", spoken)
		if _, body := get(t, g.URL+"/get/second"); body != "ok" {
			t.Fatalf("got %q", body)
		}
	}
}

func TestInterimAnswers(t *testing.T) {
	backend, _ := answering(t, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	g := start(t, neverAgain, backend)
	conn, r := g.dial(t)
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	hints, _ := answer(t, r, "GET")
	if hints.StatusCode != http.StatusEarlyHints || hints.Header.Get("Link") != "</x>" || hints.Header.Get("X-Hop") != "" {
		t.Errorf("%s %v", hints.Status, hints.Header)
	}
	if _, body := answer(t, r, "GET"); body != "ok" {
		t.Errorf("got %q", body)
	}
	if response, body := g.send(t, "GET / HTTP/1.0\r\n\r\n"); response.StatusCode != http.StatusOK || body != "ok" {
		t.Errorf("HTTP/1.0 gets %s", response.Status)
	}
}

// An answer that ends with its connection does so for the client too.
func TestAnswerUntilClose(t *testing.T) {
	g := start(t, neverAgain, rawBackend(t, func(conn net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err == nil {
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\n\r\n"+strings.Repeat("x", 100<<10))
		}
	}))
	conn, r := g.dial(t)
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	response, body := answer(t, r, "GET")
	if len(body) != 100<<10 || !response.Close || response.ContentLength != -1 {
		t.Errorf("%d bytes, %v", len(body), response)
	}
	wantEnd(t, r)
}

// If its connection is reset, so is the client's.
func TestAnswerUntilReset(t *testing.T) {
	g := start(t, neverAgain, rawBackend(t, func(conn net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		fmt.Fprint(conn, "HTTP/1.1 200 OK\r\n\r\nhalf")
		_, _ = r.ReadByte() // until the test ends it
	}))
	conn, r := g.dial(t)
	fmt.Fprint(conn, "GET /watch HTTP/1.1\r\nHost: h\r\n\r\n")
	response, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.ReadFull(response.Body, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	g.proxy.EndStreams()
	if rest, err := io.ReadAll(response.Body); err == nil {
		t.Errorf("looks complete: %q", rest)
	}
}

// With HTTP/1.0, which has no chunks, a reset says that an answer broke off.
func TestBrokenAnswerToHTTP10(t *testing.T) {
	g := start(t, neverAgain, rawBackend(t, func(conn net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err == nil {
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
		}
	}))
	conn, r := g.dial(t)
	fmt.Fprint(conn, "GET / HTTP/1.0\r\n\r\n")
	if said, err := io.ReadAll(r); err == nil {
		t.Errorf("looks complete: %q", said)
	}
}

// A client that sends a large body without waiting can read why it is refused.
func TestLargeBodyIsRefusedAudibly(t *testing.T) {
	g := start(t, smallBodies, newBackend(t, "s", echo).URL)
	for range 5 {
		response, body := do(t, http.MethodPut, g.URL+"/put/k", nil, strings.NewReader(strings.Repeat("x", 3<<20)))
		wantProblem(t, response, body, http.StatusRequestEntityTooLarge, "value_too_large", "")
	}
	t.Run("behind its head", func(t *testing.T) {
		conn, r := g.dial(t)
		fmt.Fprintf(conn, "PUT /put/k HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n", 3<<20)
		response, body := answer(t, r, "PUT") // while nothing of the body was sent
		wantProblem(t, response, body, http.StatusRequestEntityTooLarge, "value_too_large", "")
		for range 3 << 10 {
			if _, err := conn.Write(make([]byte, 1<<10)); err != nil {
				t.Fatalf("the client is not heard to the end of its body: %v", err)
			}
		}
	})
}

// A body may arrive in single bytes.
func TestBodyInPieces(t *testing.T) {
	g := start(t, nil, newBackend(t, "s", echo).URL)
	for _, raw := range []string{
		"PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nabcdef",
		"PUT /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n3\r\ndef\r\n0\r\nA: b\r\n\r\n",
	} {
		conn, r := g.dial(t)
		for range 3 {
			for i := range len(raw) {
				if _, err := io.WriteString(conn, raw[i:i+1]); err != nil {
					t.Fatal(err)
				}
			}
			if response, body := answer(t, r, "PUT"); body != "PUT /a abcdef" || response.Close {
				t.Errorf("%q, close %t", body, response.Close)
			}
		}
	}
}

// A head of just under telemetry.MaxHeaderBytes passes.
func TestLargestHead(t *testing.T) {
	g := start(t, nil, newBackend(t, "s", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, len(r.Header.Get("X"))) }).URL)
	length := telemetry.MaxHeaderBytes - 1000
	_, body := g.send(t, "GET / HTTP/1.1\r\nHost: h\r\nX: "+strings.Repeat("x", length)+"\r\n\r\n")
	if body != fmt.Sprint(length) {
		t.Errorf("got %.100q", body)
	}
}
