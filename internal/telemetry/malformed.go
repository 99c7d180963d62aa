package telemetry

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"strconv"

	"github.com/google/uuid"

	"kvstore/internal/problem"
)

// net/http answers a request that it cannot parse by itself, in plain text, before
// any handler: a bad percent-encoding, a header that is too large, a header that
// breaks the syntax. It writes such an answer to the connection in one call, and
// these bytes follow the status line of that answer and of no other.
var plainTextAnswer = []byte("\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n")

// problemListener makes these answers problems too, so that a client reads one
// shape of error, and logs each at debug level. It leaves everything else as it is.
type problemListener struct {
	net.Listener

	logger *slog.Logger
}

func (l problemListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if tcp, ok := conn.(*net.TCPConn); ok {
		return problemConn{tcp, l.logger}, err
	}
	return conn, err
}

// problemConn embeds the type and not the interface: net/http looks for methods
// that net.Conn does not have.
type problemConn struct {
	*net.TCPConn

	logger *slog.Logger
}

func (c problemConn) Write(b []byte) (int, error) {
	answer, id, ok := malformedAnswer(b)
	if !ok {
		return c.TCPConn.Write(b)
	}
	status, _, _ := bytes.Cut(b, []byte("\r\n"))
	c.logger.Debug("request refused", "request_id", id, "answer", string(status), "remote", c.RemoteAddr().String())
	if n, err := c.TCPConn.Write(answer); err != nil {
		return min(n, len(b)), err
	}
	return len(b), nil
}

// malformedAnswer returns the problem in the place of b and the id of the request, if
// b is an answer of net/http's own to a request that it could not parse.
func malformedAnswer(b []byte) (problemAnswer []byte, id string, ok bool) {
	const protocol = "HTTP/1.1 "
	line, reason, ok := bytes.Cut(b, plainTextAnswer)
	if !ok || !bytes.HasPrefix(line, []byte(protocol)) || len(line) < len(protocol)+3 || bytes.ContainsRune(line, '\r') {
		return nil, "", false
	}
	status, err := strconv.Atoi(string(line[len(protocol) : len(protocol)+3]))
	if err != nil {
		return nil, "", false
	}
	id = uuid.NewString()
	body := problem.New(status, "malformed_request", "The request is not valid HTTP: "+string(reason)).Encode()
	var answer bytes.Buffer
	fmt.Fprintf(&answer, "%s%d %s\r\n", protocol, status, problem.Phrase(status))
	fmt.Fprintf(&answer, "Content-Type: %s\r\nContent-Length: %d\r\nCache-Control: no-store\r\n", problem.ContentType, len(body))
	fmt.Fprintf(&answer, "%s: %s\r\nConnection: close\r\n\r\n%s", RequestIDHeader, id, body)
	return answer.Bytes(), id, true
}
