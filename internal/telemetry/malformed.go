package telemetry

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/google/uuid"

	"kvstore/internal/problem"
)

// net/http answers a request that it cannot parse by itself, in plain text, before
// any handler: a bad percent-encoding, a header that is too large, a header that
// breaks the syntax. It writes such an answer to the connection in one call, and
// these bytes follow the status line of that answer and of no other.
var plainTextAnswer = []byte("\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n")

// plainTextHead is more than the bytes before them, and they, may have.
const plainTextHead = 512

// malformedAnswer returns the problem in the place of b and the id of the request, if
// b is an answer of net/http's own to a request that it could not parse.
func malformedAnswer(b []byte) (problemAnswer []byte, id string, ok bool) {
	const protocol = "HTTP/1.1 "
	if !bytes.Contains(b[:min(len(b), plainTextHead)], plainTextAnswer) {
		return nil, "", false
	}
	line, reason, _ := bytes.Cut(b, plainTextAnswer)
	if !bytes.HasPrefix(line, []byte(protocol)) || len(line) < len(protocol)+3 || bytes.ContainsRune(line, '\r') {
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
