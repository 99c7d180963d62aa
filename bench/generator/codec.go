package generator

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// NoVersion is the version in answers of stores without versions.
const NoVersion = -1

// An Answer is the answer of a store. Value is valid until the next call of the codec.
type Answer struct {
	Version int64
	Value   []byte // of a read, as JSON
	NoValue bool   // of a read: there is no value to check
}

// A Codec writes requests and reads answers of a protocol. It is not safe for concurrent use.
type Codec interface {
	AppendPut(dst []byte, key string, value []byte) []byte
	AppendGet(dst []byte, key string) []byte
	// Parse reads the answer at the start of buffer and returns its length, or 0 if it is not
	// complete. A *WrongError means that the answer is complete but wrong. After any other error,
	// the connection is unusable.
	Parse(buffer []byte, put bool) (Answer, int, error)
}

// A WrongError is an answer with the wrong status or content.
type WrongError struct{ What string }

func (e *WrongError) Error() string { return e.What }

func wrong(format string, args ...any) error {
	return &WrongError{What: fmt.Sprintf(format, args...)}
}

var errBroken = errors.New("not an answer of this protocol")

// parseHTTP returns the status, body and length of the HTTP answer at the start of buffer. It
// requires a Content-Length, which all sides send for small bodies.
func parseHTTP(buffer []byte) (status int, body []byte, length int, err error) {
	head := bytes.Index(buffer, []byte("\r\n\r\n"))
	if head < 0 {
		return 0, nil, 0, nil
	}
	if head < len("HTTP/1.1 200") || string(buffer[:9]) != "HTTP/1.1 " {
		return 0, nil, 0, fmt.Errorf("%w: %q", errBroken, buffer[:head])
	}
	status, err = strconv.Atoi(string(buffer[9:12]))
	if err != nil {
		return 0, nil, 0, fmt.Errorf("%w: %q", errBroken, buffer[:head])
	}
	size, err := contentLength(buffer[:head+2])
	if err != nil {
		return 0, nil, 0, err
	}
	length = head + 4 + size
	if len(buffer) < length {
		return 0, nil, 0, nil
	}
	return status, buffer[head+4 : length], length, nil
}

func contentLength(head []byte) (int, error) {
	const name = "content-length:"
	for line := head; ; {
		end := bytes.IndexByte(line, '\n')
		if end < 0 {
			return 0, fmt.Errorf("%w: no Content-Length in %q", errBroken, head)
		}
		if end > len(name) && line[len(name)-1] == ':' && bytes.EqualFold(line[:len(name)], []byte(name)) {
			return strconv.Atoi(string(bytes.TrimSpace(line[len(name):end])))
		}
		line = line[end+1:]
	}
}

// number returns the number that follows name in body.
func number(body []byte, name string) (int64, bool) {
	at := bytes.Index(body, []byte(name))
	if at < 0 {
		return 0, false
	}
	var n int64
	digits := 0
	for _, c := range body[at+len(name):] {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int64(c-'0')
		digits++
	}
	return n, digits > 0
}

// text returns the JSON string, with its quotes, that follows name in body. The strings here have no
// escapes.
func text(body []byte, name string) ([]byte, bool) {
	at := bytes.Index(body, []byte(name))
	if at < 0 {
		return nil, false
	}
	rest := body[at+len(name):]
	if len(rest) == 0 || rest[0] != '"' {
		return nil, false
	}
	end := bytes.IndexByte(rest[1:], '"')
	if end < 0 {
		return nil, false
	}
	return rest[:end+2], true
}
