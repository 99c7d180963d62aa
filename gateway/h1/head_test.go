package h1_test

import (
	"strings"
	"testing"

	"kvstore/gateway/h1"
)

// A message, and the status of its refusal or 0.
type message struct {
	raw    string
	status int
}

var large = strings.Repeat("a", 300)

var requests = []message{
	{"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 0},
	{"get /put/a//b/../%2f?x=%zz#y HTTP/1.1\r\nhOST:\th:1 \r\nX: a\tb\r\nX:\r\n\r\n", 0},
	{"GET /\xff\xe6 HTTP/1.1\r\nHost: h\r\nX: \xff\r\n\r\n", 0},
	{"GET http://a.b:1/c?d HTTP/1.1\r\nHost: other\r\n\r\n", 0},
	{"GET HTTP://a?b HTTP/1.1\r\nHost: a\r\n\r\n", 0},
	{"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", 0},
	{"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n", 0},
	{"GET / HTTP/1.0\r\n\r\n", 0},
	{"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 0},
	{"GET / HTTP/1.1\r\nHost:\r\nConnection: close, X\r\nX: 1\r\n\r\n", 0},
	{"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcGET", 0},
	{"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", 0},
	{"PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\nx", 0},
	{"PUT / HTTP/1.1\r\nHost: h\r\nExpect:\r\nContent-Length: 1\r\n\r\nx", 0},
	{"PUT / HTTP/1.1\r\nHost: h\r\nExpect: \t\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx", 0},
	{"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: CHUNKED\r\nTrailer: Sum\r\n\r\n3;x=\"y\"\r\nabc\r\n0\r\nSum: 1\r\n\r\nGET", 0},

	{"GET / HTTP/1.1\nHost: h\r\n\r\n", 400},
	{"GET / HTTP/1.1\r\nHost: h\n\r\n", 400},
	{"GET / HTTP/1.1\r\nHost: h\r\n\n", 400},
	{"GET / HTTP/1.1\r\nHost: h\rX: y\r\n\r\n", 400},
	{"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", 400},
	{"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n\tb\r\n\r\n", 400},
	{"GET / HTTP/1.1\r\n Host: h\r\n\r\n", 400},
	{"GET / HTTP/1.1\r\nHost : h\r\n\r\n", 400},
	{"GET / HTTP/1.1\r\nHost: h\r\nX\t: y\r\n\r\n", 400},
	{"GET / HTTP/1.1\r\nHost: h\r\n: y\r\n\r\n", 400},
	{"GET / HTTP/1.1\r\nHost: h\r\nnothing\r\n\r\n", 400},
	{"GET / HTTP/1.1\r\nHost: h\r\nX\x00: y\r\n\r\n", 400},
	{"GET / HTTP/1.1\r\nHost: h\r\nX\x7f: y\r\n\r\n", 400},
	{"GET / HTTP/1.1\r\nHost: h\r\nX\xc3\xa9: y\r\n\r\n", 400},
	{"GET / HTTP/1.1\r\nHost: h\r\nX(y): y\r\n\r\n", 400},
	{"GET / HTTP/1.1\r\nHost: h\r\nX: a\x00b\r\n\r\n", 400},
	{"GET / HTTP/1.1\r\nHost: h\r\nX: a\x0bb\r\n\r\n", 400},
	{"GET / HTTP/1.1\r\n\r\n", 400},
	{"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400},
	{"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
	{"GET / HTTP/1.1\r\nHost: u@h\r\n\r\n", 400},
	{"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", 400},
	{"GET / a HTTP/1.1\r\nHost: h\r\n\r\n", 400},
	{"GET / HTTP/1.1 \r\nHost: h\r\n\r\n", 400},
	{" GET / HTTP/1.1\r\nHost: h\r\n\r\n", 400},
	{"GET /\r\nHost: h\r\n\r\n", 400},
	{"G\x01T / HTTP/1.1\r\nHost: h\r\n\r\n", 400},
	{"GET /\x01 HTTP/1.1\r\nHost: h\r\n\r\n", 400},
	{"GET /\x7f HTTP/1.1\r\nHost: h\r\n\r\n", 400},
	{"GET /get/100% HTTP/1.1\r\nHost: h\r\n\r\n", 400},
	{"GET /%2 HTTP/1.1\r\nHost: h\r\n\r\n", 400},
	{"GET /%g0?a HTTP/1.1\r\nHost: h\r\n\r\n", 400},
	{"GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n", 400},
	{"GET http:///a HTTP/1.1\r\nHost: h\r\n\r\n", 400},
	{"GET http://u@h/a HTTP/1.1\r\nHost: h\r\n\r\n", 400},
	{"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505},
	{"GET / HTTP/1.2\r\nHost: h\r\n\r\n", 505},
	{"GET / http/1.1\r\nHost: h\r\n\r\n", 400},
	{"GET / HTTP/11\r\nHost: h\r\n\r\n", 400},
	{"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400},
	{"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400},
	{"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 1\r\n\r\n", 400},
	{"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\n", 400},
	{"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", 400},
	{"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x1\r\n\r\n", 400},
	{"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n\r\n", 400},
	{"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 9999999999999999999\r\n\r\n", 400},
	{"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
	{"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
	{"PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
	{"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501},
	{"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, identity\r\n\r\n", 501},
	{"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", 400},
	{"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\r\n\r\n", 501},
	{"PUT / HTTP/1.1\r\nHost: h\r\nExpect: something\r\n\r\n", 417},
	{"GET / HTTP/1.1\r\nHost: h\r\n" + strings.Repeat("X: y\r\n", 600) + "\r\n", 431},
}

var responses = []message{
	{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcrest", 0},
	{"HTTP/1.1 200\r\n\r\nuntil the end", 0},
	{"HTTP/1.0 404 Not Found\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", 0},
	{"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\nTrailer: Sum\r\n\r\n3\r\nabc\r\n0\r\nSum: 1\r\n\r\nrest", 0},
	{"HTTP/1.1 304 Not Modified\r\nEtag: \"1\"\r\nContent-Length: 7\r\n\r\n", 0},
	{"HTTP/1.1 204 No Content\r\n\r\n", 0},
	{"HTTP/1.1 100 Continue\r\n\r\n", 0},

	{"HTTP/2.0 200 OK\r\n\r\n", 400},
	{"HTTP/1.1 2000 OK\r\n\r\n", 400},
	{"HTTP/1.1 20 OK\r\n\r\n", 400},
	{"HTTP/1.1 +20 OK\r\n\r\n", 400},
	{"HTTP/1.1 099 OK\r\n\r\n", 400},
	{"HTTP/1.1 600 OK\r\n\r\n", 400},
	{"HTTP/1.1  200 OK\r\n\r\n", 400},
	{"HTTP/1.1 200 O\x00K\r\n\r\n", 400},
	{"220 ready\r\n\r\n", 400},
	{"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", 400},
	{"HTTP/1.1 200 OK\nX: a\r\n\r\n", 400},
	{"HTTP/1.1 200 OK\r\nX : a\r\n\r\n", 400},
	{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400},
	{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc", 400},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc", 501},
	{"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
}

// check parses the messages and compares the status of each refusal.
func check(t *testing.T, messages []message, parse func([]byte) *h1.Error) {
	t.Helper()
	for _, m := range messages {
		n, err := h1.HeadLength([]byte(m.raw), 0)
		if err == nil && n == 0 {
			t.Errorf("%q: no end", m.raw)
			continue
		}
		if err == nil {
			err = parse([]byte(m.raw)[:n])
		}
		switch {
		case err == nil && m.status != 0:
			t.Errorf("%q is accepted", m.raw)
		case err != nil && (err.Status != m.status || err.Reason == ""):
			t.Errorf("%q: %d %s, want %d", m.raw, err.Status, err.Reason, m.status)
		}
	}
}

func TestRequests(t *testing.T) {
	var r h1.Request // one for all: nothing of a former one may be left
	check(t, requests, r.Parse)
}

func TestResponses(t *testing.T) {
	var r h1.Response
	check(t, responses, r.Parse)
}

func TestHeadLength(t *testing.T) {
	const head = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
	for i := range len(head) { // in every two pieces
		if n, err := h1.HeadLength([]byte(head[:i]), 0); n != 0 || err != nil {
			t.Errorf("%q: %d, %v", head[:i], n, err)
		}
		if n, err := h1.HeadLength([]byte(head+"more"), i); n != len(head) || err != nil {
			t.Errorf("after %d bytes: %d, %v", i, n, err)
		}
	}
}

func TestChunks(t *testing.T) {
	for raw, want := range map[string]string{
		"0\r\n\r\n":                                 "",
		"3\r\nabc\r\n0\r\n\r\n":                     "abc",
		"3\r\nabc\r\n00000\r\n\r\n":                 "abc",
		"03\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n": "abc0123456789",
		"3;a=\"b\";c\r\nabc\r\n0;d\r\n\r\n":         "abc",
		"3\r\nabc\r\n0\r\nA: b\r\nC: d\r\n\r\n":     "abc",
	} {
		for size := 1; size <= len(raw); size++ {
			if data, rest, ok := unchunk([]byte(raw), size); !ok || string(data) != want || len(rest) > 0 {
				t.Errorf("%q in pieces of %d: %q, %q, %t", raw, size, data, rest, ok)
			}
		}
	}
	for _, raw := range []string{
		"\r\n", "x\r\n", "-1\r\n", "+1\r\n", " 1\r\n", "1 \r\n", "0x1\r\n", "1\n", "1\rx", "1\r\nab", "1\r\na\n", "1\r\na\rx", ";a\r\n", "1;\x00\r\n", "1;a\n",
		"1000000000000000\r\n", "1;" + large + "\r\n", "0\r\nA : b\r\n\r\n", "0\r\nA: b\n\r\n", "0\r\n b\r\n\r\n", "0\r\nA\r\n\r\n", "0\r\nA: b\rc\r\n\r\n",
		"0\r\nA: " + strings.Repeat("b", 9<<10) + "\r\n\r\n",
	} {
		var chunks h1.Chunks
		for b := []byte(raw); ; {
			if len(b) == 0 {
				t.Errorf("%.40q is accepted", raw)
				break
			}
			_, used, err := chunks.Next(b)
			if err != nil {
				break
			}
			b = b[used:]
		}
	}
}

// The work for a Connection header is bounded. 65 KB of options times 500 fields took 90 ms.
func TestConnectionOptions(t *testing.T) {
	for value, status := range map[string]int{
		strings.Repeat(",", 60<<10):                       0, // empty ones say nothing
		strings.Repeat(" ,\t", 20<<10) + "close":          0,
		"close" + strings.Repeat(", x", 31):               0,
		"close" + strings.Repeat(", x", 32):               431,
		strings.Repeat("x,", 30<<10):                      431,
		strings.Repeat(strings.Repeat("x", 300)+",", 200): 431,
	} {
		fields := "Connection: " + value + "\r\n" + strings.Repeat("X: y\r\n", 500)
		var request h1.Request
		err := request.Parse([]byte("GET / HTTP/1.1\r\nHost: h\r\n" + fields + "\r\n"))
		var response h1.Response
		answered := response.Parse([]byte("HTTP/1.1 200 OK\r\n" + fields + "\r\n"))
		for _, err := range []*h1.Error{err, answered} {
			if got := statusOf(err); got != status {
				t.Errorf("%.20q, %d bytes: %d, want %d", value, len(value), got, status)
			}
		}
		if status == 0 && strings.Contains(value, "close") == request.KeepAlive {
			t.Errorf("%.20q: keep alive %t", value, request.KeepAlive)
		}
	}
	// Options in several fields are counted together.
	var request h1.Request
	err := request.Parse([]byte("GET / HTTP/1.1\r\nHost: h\r\n" + strings.Repeat("Connection: X\r\n", 33) + "\r\n"))
	if got := statusOf(err); got != 431 {
		t.Errorf("33 fields of one option: %d", got)
	}
}

func statusOf(err *h1.Error) int {
	if err == nil {
		return 0
	}
	return err.Status
}
