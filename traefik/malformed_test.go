package traefik_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// malformed are requests that are invalid, or that implementations might interpret differently.
var malformed = []string{
	"\x00", "\r\n\r\n\r\n", "GET\r\n\r\n", "GET / \r\n\r\n", "GET / HTTP/9.9\r\nHost: h\r\n\r\n", "G E T / HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET /get/k HTTP/1.1\r\n\r\n",
	"GET /get/k HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
	"GET /get/k HTTP/1.1\r\nHost: h\r\n folded: x\r\n\r\n",
	"GET /get/k HTTP/1.1\r\nHost : h\r\n\r\n",
	"GET /get/k HTTP/1.1\r\nHost: h\r\nX\x00: y\r\n\r\n",
	"GET /get/k HTTP/1.1\r\nHost: h\r\nX: y\x00\r\n\r\n",
	"GET /get/%zz HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET /get/%00 HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET get/k HTTP/1.1\r\nHost: h\r\n\r\n",
	"PUT /put/bad HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
	"PUT /put/bad HTTP/1.1\r\nHost: h\r\nContent-Length: 1x\r\n\r\n1",
	"PUT /put/bad HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n12",
	"PUT /put/bad HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\n",
	"PUT /put/bad HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
	"PUT /put/bad HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
	"PUT /put/bad HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n",
	"PUT /put/bad HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n{",
	"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	"GET /" + strings.Repeat("a", 100_000) + " HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("a", 100_000) + "\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\n" + strings.Repeat("X: y\r\n", 20_000) + "\r\n",
	"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n",
	strings.Repeat("\xff", 5000),
}

// malformedHTTP sends each of them to each hop, which must answer with an error of 4xx or 5xx,
// or close the connection, survive, and write nothing.
func malformedHTTP(t *testing.T, table *faultTable) {
	s := newStack(t)
	begin := time.Now()
	load := startTraffic(t, "k")
	var c counts
	for hop, address := range s.addresses() {
		for _, text := range malformed {
			status, err := sendRaw(address, text)
			switch {
			case err != nil:
				t.Errorf("%s: %.60q: %v", hop, text, err)
			case status == 0:
				c.cut++
			case status < 400 || status > 599:
				t.Errorf("%s: %.60q gets %d", hop, text, status)
			default:
				c.refused++
			}
			c.requests++
		}
	}
	for _, p := range s.processes() {
		select {
		case <-p.done:
			t.Errorf("%s has ended", p.name)
		default:
		}
	}
	get(t, "/get/bad").wantStatus(t, http.StatusNotFound)
	table.add("malformed HTTP, itself", c, 0)
	load.more(t, 100)
	if c := table.survived(t, load, begin); c.refused+c.cut > 0 {
		t.Errorf("%d requests of others failed", c.refused+c.cut)
	}
}

// sendRaw sends text, closes the sending side, and returns the status of the answer, which must
// be complete, or 0 if the connection was closed without one.
func sendRaw(address, text string) (status int, err error) {
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	go func() {
		_, _ = io.WriteString(conn, text)
		_ = conn.(*net.TCPConn).CloseWrite() //nolint:forcetypeassert // it is TCP
	}()
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, err
	}
	if err != nil {
		return 0, nil // closed, which is allowed
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode, err
}
