package proxy_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"kvstore/gateway/proxy"
)

// An answer of a backend without Date gets one. There is never a second one.
func TestDate(t *testing.T) {
	for said, want := range map[string]string{
		"": "",
		"Date: Mon, 02 Jan 2006 15:04:05 GMT\r\n": "Mon, 02 Jan 2006 15:04:05 GMT",
		"dAte: x\r\nConnection: Date\r\n":         "x",
	} {
		backend, _ := answering(t, "HTTP/1.1 200 OK\r\n"+said+"Content-Length: 0\r\n\r\n")
		g := start(t, neverAgain, backend)
		response, _ := g.send(t, "GET /get/k HTTP/1.1\r\nHost: h\r\n\r\n")
		dates := response.Header["Date"]
		if len(dates) != 1 || want != "" && dates[0] != want {
			t.Errorf("%q: %q", said, dates)
			continue
		}
		if at, err := http.ParseTime(dates[0]); want == "" && (err != nil || time.Since(at).Abs() > time.Minute) {
			t.Errorf("%q: %q", said, dates)
		}
	}
}

// The wait for a backend that stalls within its answer is bounded.
func TestAnswerThatStalls(t *testing.T) {
	for name, said := range map[string]string{
		"known length": "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
		"chunked":      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
		"until close":  "HTTP/1.1 200 OK\r\n\r\nhalf",
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, func(c *proxy.Config) { neverAgain(c); c.BackendTimeout = short }, rawBackend(t, func(conn net.Conn, r *bufio.Reader) {
				if _, err := http.ReadRequest(r); err == nil {
					fmt.Fprint(conn, said)
					_, _ = r.ReadByte() // until the gateway gives up
				}
			}))
			conn, r := g.dial(t)
			fmt.Fprint(conn, "GET /get/k HTTP/1.1\r\nHost: h\r\n\r\n")
			if response, err := http.ReadResponse(r, nil); err != nil {
				t.Error(err)
			} else if _, err = response.Body.Read(make([]byte, 4)); err != nil {
				t.Error(err)
			}
			wantEnd(t, r)
		})
	}
}

// A malformed answer of which nothing was sent becomes a 503.
func TestMalformedChunkAtTheBeginning(t *testing.T) {
	for _, body := range []string{"nonsense\r\n", "3\r\nabc\r\nx\r\n", "3\r\nabcd\r\n"} {
		backend, _ := answering(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"+body)
		g := start(t, neverAgain, backend)
		for _, request := range []string{
			"GET /get/k HTTP/1.1\r\nHost: h\r\n\r\n", "GET /get/k HTTP/1.0\r\n\r\n",
			"PUT /put/k HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx",
		} {
			response, text := g.send(t, request)
			wantProblem(t, response, text, http.StatusServiceUnavailable, "backend_unavailable", "Backend service is unavailable")
		}
		if n := g.log.count("no answer from backend"); n != 3 {
			t.Errorf("%d lines", n)
		}
	}
}
