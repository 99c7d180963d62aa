package traefik_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A hopCase is a message that implementations might interpret differently, with the result at
// each hop: the statuses of the answers until the connection ends. "next" is the correct answer
// to a request that is sent after the first answer on the same connection. "-" is a connection
// that is closed without an answer.
type hopCase struct {
	name                      string
	traefik, gateway, backend string // alternatives separated by |
	cut                       bool   // the client closes its sending side
	text                      string
}

const (
	hopPut   = "PUT /put/bad HTTP/1.1\r\nHost: h\r\n"
	hopGet   = "GET /get/known HTTP/1.1\r\nHost: h\r\n"
	hopWrite = `{"value":1}`
	// hopHidden would be a request for a reader that ends the body too early.
	hopHidden = "PUT /put/bad HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n" + hopWrite
)

var hopCases = []hopCase{
	{"length and coding", "400 next", "400", "400 next", false, hopPut + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{"coding and length", "400 next", "400", "400 next", false, hopPut + "Transfer-Encoding: chunked\r\nContent-Length: 65\r\n\r\n0\r\n\r\n"},
	{"two lengths", "400", "400", "400", false, hopPut + "Content-Length: 0\r\nContent-Length: 65\r\n\r\n" + hopHidden},
	{"the same length twice", "400 next", "400", "400 next", false, hopPut + "Content-Length: 3\r\nContent-Length: 3\r\n\r\n{}x"},
	{"a list of lengths", "400", "400", "400", false, hopPut + "Content-Length: 11, 11\r\n\r\n" + hopWrite},
	{"a length with a sign", "400", "400", "400", false, hopPut + "Content-Length: +11\r\n\r\n" + hopWrite},
	{"two codings", "501", "400", "501", false, hopPut + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + "b\r\n" + hopWrite + "\r\n0\r\n\r\n"},
	{"an unknown coding", "501", "501", "501", false, hopPut + "Transfer-Encoding: xchunked\r\n\r\n" + "b\r\n" + hopWrite + "\r\n0\r\n\r\n"},
	{"a coding after a tab", "400", "400", "400", false, hopPut + "Transfer-Encoding:\x0bchunked\r\n\r\n" + "b\r\n" + hopWrite + "\r\n0\r\n\r\n"},
	{"coding of HTTP/1.0", "400", "400", "400", false, "PUT /put/bad HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + "b\r\n" + hopWrite + "\r\n0\r\n\r\n"},
	{"a space before the colon", "400", "400", "400", false, hopPut + "Content-Length : 11\r\n\r\n" + hopWrite},
	{"LF alone", "200 next", "400", "200 next", false, "GET /get/known HTTP/1.1\nHost: h\n\n"},
	{"LF alone after a header", "200 next", "400", "200 next", false, hopGet + "X: y\nContent-Length: 65\r\n\r\n" + hopHidden},
	{"CR alone in a header", "400", "400", "400", false, hopGet + "X: y\rContent-Length: 65\r\n\r\n"},
	{"a folded header", "200 next", "400", "200 next", false, hopGet + "X: y\r\n z\r\n\r\n"},
	{"a folded length", "400 next", "400", "400 next", false, hopPut + "Content-Length:\r\n 65\r\n\r\n" + hopHidden},
	{"a folded first header", "400", "400", "400", false, "GET /get/known HTTP/1.1\r\n Host: h\r\nHost: h\r\n\r\n"},
	{"NUL in a header", "400", "400", "400", false, hopGet + "X: a\x00b\r\n\r\n"},
	{"NUL in a name", "400", "400", "400", false, hopGet + "X\x00: a\r\n\r\n"},
	{"NUL in the target", "400", "400", "400", false, "GET /get/known\x00 HTTP/1.1\r\nHost: h\r\n\r\n"},
	{"a header without a name", "400", "400", "400", false, hopGet + ": a\r\n\r\n"},
	{"two hosts", "400", "400", "400", false, hopGet + "Host: i\r\n\r\n"},
	{"no host", "400", "400", "400", false, "GET /get/known HTTP/1.1\r\n\r\n"},
	{"absolute target", "200 next", "200 next", "200 next", false, "GET http://h/get/known HTTP/1.1\r\nHost: h\r\n\r\n"},
	{"absolute target, another host", "200 next", "200 next", "200 next", false, "GET http://other:81/get/known HTTP/1.1\r\nHost: h\r\n\r\n"},
	{"absolute target, a hidden path", "404 next", "404 next", "200 next", false, "GET http://h/db/backup HTTP/1.1\r\nHost: h\r\n\r\n"},
	{"absolute target, no host", "200 next", "400", "200 next", false, "GET http:///get/known HTTP/1.1\r\nHost: h\r\n\r\n"},
	{"absolute target, a user", "200 next", "400", "200 next", false, "GET http://u@h/get/known HTTP/1.1\r\nHost: h\r\n\r\n"},
	{"absolute target, half an address", "400", "400", "400", false, "GET http://[::1/get/known HTTP/1.1\r\nHost: h\r\n\r\n"},
	{"absolute target, no port", "400", "400", "400", false, "GET http://h:x/get/known HTTP/1.1\r\nHost: h\r\n\r\n"},
	{"absolute target, another scheme", "200 next", "400", "200 next", false, "GET ftp://h/get/known HTTP/1.1\r\nHost: h\r\n\r\n"},
	{"a bad host", "400", "400", "400", false, "GET /get/known HTTP/1.1\r\nHost: h/../x y\r\n\r\n"},
	{"a size over 64 bits", "499|500|502", "400", "400", false, hopPut + "Transfer-Encoding: chunked\r\n\r\n1000000000000000b\r\n" + hopWrite + "\r\n0\r\n\r\n"},
	{"a size with 0x", "499|500|502", "400", "400", false, hopPut + "Transfer-Encoding: chunked\r\n\r\n0xb\r\n" + hopWrite + "\r\n0\r\n\r\n"},
	{"a negative size", "499|500|502", "400", "400", false, hopPut + "Transfer-Encoding: chunked\r\n\r\n-b\r\n" + hopWrite + "\r\n0\r\n\r\n"},
	{"no size", "499|500|502", "400", "400", false, hopPut + "Transfer-Encoding: chunked\r\n\r\n\r\n" + hopWrite + "\r\n0\r\n\r\n"},
	{"LF alone after a size", "499|500|502", "400", "400", false, hopPut + "Transfer-Encoding: chunked\r\n\r\nb\n" + hopWrite + "\r\n0\r\n\r\n"},
	{"a chunk longer than its size", "499|500|502", "400", "400", false, hopPut + "Transfer-Encoding: chunked\r\n\r\na\r\n" + hopWrite + "\r\n0\r\n\r\n"},
	{"a huge extension", "499|500|502", "400", "400", false, hopPut + "Transfer-Encoding: chunked\r\n\r\nb;" + strings.Repeat("x", 100_000) + "\r\n" + hopWrite + "\r\n0\r\n\r\n"},
	{"LF alone in an extension", "499|500|502", "400", "400", false, hopPut + "Transfer-Encoding: chunked\r\n\r\n2;\nxx\r\n41\r\n0\r\n\r\n" + hopHidden},
	{"huge trailers", "499|500|502", "400", "400", false, hopPut + "Transfer-Encoding: chunked\r\n\r\nb\r\n" + hopWrite + "\r\n0\r\nX: " + strings.Repeat("x", 2<<20) + "\r\n\r\n"},
	{"HTTP/0.9", "400", "-", "400", true, "GET /get/known\r\n"},
	{"HTTP/1.2", "200 next", "505", "200 next", false, "GET /get/known HTTP/1.2\r\nHost: h\r\n\r\n"},
	{"the preface of HTTP/2", "-", "505", "404", true, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"},
	{"an upgrade to HTTP/2", "200 next", "200 next", "200 next", false, hopGet + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"},
	{"an upgrade to a web socket", "200 next", "200 next", "200 next", false, hopGet + "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\n\r\n"},
	{"CONNECT", "404 next", "400 next", "404 next", false, "CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n"},
	{"CONNECT with a path", "501 next", "400 next", "405 next", false, "CONNECT /put/bad HTTP/1.1\r\nHost: h\r\n\r\n"},
	{"TRACE", "405 next", "405 next", "405 next", false, "TRACE /get/known HTTP/1.1\r\nHost: h\r\n\r\n"},
	{"OPTIONS *", "200 next", "200 next", "200 next", false, "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"},
	{"a body cut short", "499|500|502", "-", "400", true, hopPut + "Content-Length: 12\r\n\r\n" + hopWrite},
	{"a chunk cut short", "499|500|502", "-", "400", true, hopPut + "Transfer-Encoding: chunked\r\n\r\nc\r\n" + hopWrite},
	{"no last chunk", "499|500|502", "-", "400", true, hopPut + "Transfer-Encoding: chunked\r\n\r\nb\r\n" + hopWrite + "\r\n"},
	{"the last chunk cut short", "499|500|502", "-", "400", true, hopPut + "Transfer-Encoding: chunked\r\n\r\nb\r\n" + hopWrite + "\r\n0\r\n"},
	{"a head cut short", "400", "-", "400", true, hopPut + "Content-Length: 11\r\n"},
}

// TestMalformedAtEachHop checks that none of these makes a version, changes the answer to the
// next request on its connection, or ends a process.
func TestMalformedAtEachHop(t *testing.T) {
	s := newStack(t)
	put(t, "known", `"known"`).wantStatus(t, http.StatusOK)
	for hop, address := range s.addresses() {
		for _, c := range hopCases {
			want := map[string]string{"traefik": c.traefik, "gateway": c.gateway, "backend": c.backend}[hop]
			if got := c.send(address); !slices.Contains(strings.Split(want, "|"), got) {
				t.Errorf("%s: %s: %s, want %s", hop, c.name, got, want)
			}
			if n := decode[databaseStats](t, get(t, "/db/stats")).Revision; n != 1 {
				t.Errorf("%s: %s has made a version %d", hop, c.name, n)
			}
		}
	}
	for _, p := range s.processes() {
		select {
		case <-p.done:
			t.Errorf("%s has ended", p.name)
		default:
		}
	}
}

// send returns the result of a case at one hop.
func (c *hopCase) send(address string) string {
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	go func() { // a hop may answer before it has read everything
		_, _ = io.WriteString(conn, c.text)
		if c.cut {
			_ = conn.(*net.TCPConn).CloseWrite() //nolint:forcetypeassert // it is TCP
		}
	}()
	var got []string
	for r := bufio.NewReader(conn); ; {
		answer, err := http.ReadResponse(r, nil)
		if err != nil {
			if len(got) == 0 {
				return "-"
			}
			return strings.Join(got, " ")
		}
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			return fmt.Sprintf("%d, broken off: %v", answer.StatusCode, err)
		}
		if answer.Header.Get("X-Request-Id") == "next" {
			if answer.StatusCode != http.StatusOK || !strings.Contains(string(body), `"value":"known"`) {
				return fmt.Sprintf("next is %d %s", answer.StatusCode, body)
			}
			return strings.Join(append(got, "next"), " ")
		}
		if got = append(got, strconv.Itoa(answer.StatusCode)); len(got) == 1 && !c.cut {
			// Not earlier: unread data could destroy the answer.
			_, _ = io.WriteString(conn, "GET /get/known?version=1 HTTP/1.1\r\nHost: h\r\nX-Request-Id: next\r\n\r\n")
		}
	}
}
