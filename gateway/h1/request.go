package h1

import (
	"bytes"
	"net/url"
)

// A Request is the head of a request. Its slices point into what was parsed.
type Request struct {
	Method []byte
	// Target is the path and query, byte for byte as the client sent them, or "*". It is
	// empty if the request has none, as with CONNECT.
	Target []byte
	// Host is the host in the target, if there is one, or else the header. It may be empty.
	Host   []byte
	Minor  int // version of HTTP/1.x, 0 or 1
	Fields []Field
	// Length is the length of the body, 0 if there is none, or Chunked.
	Length int64
	// HasLength reports whether there is a Content-Length.
	HasLength bool
	// KeepAlive reports whether the client allows another request on the connection.
	KeepAlive bool
	// Continue reports whether the client waits for 100 (Continue) before it sends its body.
	Continue bool
}

// Path returns the target without its query. It is not decoded.
func (r *Request) Path() []byte {
	if i := bytes.IndexByte(r.Target, '?'); i >= 0 {
		return r.Target[:i]
	}
	return r.Target
}

// Query returns what follows the question mark in the target. It is not decoded.
func (r *Request) Query() []byte {
	_, query, _ := bytes.Cut(r.Target, []byte("?"))
	return query
}

// Parse parses a head as long as HeadLength says. It reuses r.Fields.
func (r *Request) Parse(head []byte) *Error {
	*r = Request{Fields: r.Fields[:0]}
	line, rest, err := cutLine(head)
	if err != nil {
		return err
	}
	target, err := r.parseLine(line)
	if err != nil {
		return err
	}
	if r.Fields, err = parseFields(rest, r.Fields); err != nil {
		return err
	}
	f, err := frame(r.Fields)
	if err != nil {
		return err
	}
	switch {
	case f.length == Chunked && r.Minor == 0:
		return malformed("HTTP/1.0 has no Transfer-Encoding")
	case f.unknown && r.Minor == 1: // HTTP/1.0 has no Expect
		return &Error{Status: 417, Reason: "the only expectation that is known here is 100-continue"}
	case f.hosts > 1:
		return malformed("there is more than one Host")
	case f.hosts == 0 && r.Minor == 1:
		return malformed("there is no Host")
	case !all(f.host, inHost):
		return malformed("Host has a character that is not allowed")
	}
	r.Host = f.host
	if f.length != UntilClose {
		r.Length, r.HasLength = f.length, f.length >= 0
	}
	r.Continue = f.expects && r.Minor == 1 && r.Length != 0
	r.KeepAlive = !f.closes && (r.Minor == 1 || f.persists)
	return r.parseTarget(target)
}

// parseLine parses the request line and returns the target in whichever form.
func (r *Request) parseLine(line []byte) (target []byte, err *Error) {
	method, rest, _ := bytes.Cut(line, []byte(" "))
	target, version, found := bytes.Cut(rest, []byte(" "))
	if !found || !isToken(method) || len(target) == 0 {
		return nil, malformed("the first line is not METHOD TARGET HTTP/1.1")
	}
	if !all(target, inTarget) {
		return nil, malformed("the target has a control character")
	}
	switch string(version) {
	case "HTTP/1.1":
		r.Minor = 1
	case "HTTP/1.0":
	default:
		if isVersion(version) {
			return nil, &Error{Status: 505, Reason: "the version of HTTP is not 1.0 or 1.1"}
		}
		return nil, malformed("the first line is not METHOD TARGET HTTP/1.1")
	}
	r.Method = method
	return target, nil
}

func isVersion(b []byte) bool {
	digit := func(c byte) bool { return c >= '0' && c <= '9' }
	return len(b) == len("HTTP/1.1") && string(b[:5]) == "HTTP/" && digit(b[5]) && b[6] == '.' && digit(b[7])
}

// parseTarget sets Target, and Host if the target has one.
func (r *Request) parseTarget(target []byte) *Error {
	switch {
	case string(r.Method) == "CONNECT":
		return nil
	case target[0] == '/', string(target) == "*":
		r.Target = target
	default:
		scheme, rest, found := bytes.Cut(target, []byte("://"))
		if !found {
			r.KeepAlive = false // net/http refuses some of these, and so all that follows
			return nil
		}
		if !EqualFold(scheme, "http") && !EqualFold(scheme, "https") {
			return malformed("the scheme of the target is not http")
		}
		host := rest
		r.Target = []byte("/")
		if i := bytes.IndexAny(rest, "/?"); i >= 0 {
			host = rest[:i]
			if r.Target = rest[i:]; rest[i] == '?' {
				r.Target = append([]byte("/"), r.Target...)
			}
		}
		if !isAuthority(host) {
			return malformed("the host of the target is malformed")
		}
		r.Host = host
	}
	if !escapesAreWhole(r.Path()) {
		return malformed("the path has a % that two hexadecimal digits do not follow")
	}
	return nil
}

// isAuthority reports whether net/url reads host, with its brackets, port and escapes, as it
// is. Few targets have a host.
func isAuthority(host []byte) bool {
	if len(host) == 0 || !all(host, inHost) {
		return false
	}
	u, err := url.Parse("http://" + string(host))
	return err == nil && u.Host == string(host)
}

func escapesAreWhole(path []byte) bool {
	for {
		i := bytes.IndexByte(path, '%')
		if i < 0 {
			return true
		}
		if i+2 >= len(path) || !isHex(path[i+1]) || !isHex(path[i+2]) {
			return false
		}
		path = path[i+3:]
	}
}

func isHex(c byte) bool {
	_, ok := hexDigit(c)
	return ok
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
