package h1

import (
	"bytes"
	"net/url"
)

// A Request is the head of one. Its slices are parts of what was parsed.
type Request struct {
	Method []byte
	// Target is the path and query byte for byte as the client sent them, or "*".
	// It is empty when the request has none, as CONNECT.
	Target []byte
	// Host is that of the target when it has one, else that of the header. It may
	// be empty.
	Host   []byte
	Minor  int // of HTTP/1.x: 0 or 1
	Fields []Field
	// Length of the body; 0 also when there is none. Or Chunked.
	Length int64
	// HasLength says that the length was told, if only as 0.
	HasLength bool
	// KeepAlive says that the client lets the connection live on.
	KeepAlive bool
	// Continue says that the client waits for a 100 before it sends its body.
	Continue bool
}

// Path returns the target without its query, not decoded.
func (r *Request) Path() []byte {
	if i := bytes.IndexByte(r.Target, '?'); i >= 0 {
		return r.Target[:i]
	}
	return r.Target
}

// Query returns what follows the path in the target, not decoded and without the
// question mark.
func (r *Request) Query() []byte {
	_, query, _ := bytes.Cut(r.Target, []byte("?"))
	return query
}

// Parse reads a whole head, as long as HeadLength says. Nothing of a former
// request is left in r.
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
	case f.chunked && r.Minor == 0:
		return malformed("HTTP/1.0 has no Transfer-Encoding")
	case f.chunked:
		r.Length = Chunked
	case f.length != noLength:
		r.Length, r.HasLength = f.length, true
	}
	r.KeepAlive = !f.closes && (r.Minor == 1 || f.persists)
	if err := r.parseExpect(); err != nil {
		return err
	}
	if err := r.parseHost(); err != nil {
		return err
	}
	return r.parseTarget(target)
}

// parseLine reads the request line and returns the target as it is there.
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

func (r *Request) parseExpect() *Error {
	for i := range r.Fields {
		if r.Fields[i].Kind != Expect || len(r.Fields[i].Value) == 0 || r.Minor == 0 { // HTTP/1.0 does not know it
			continue
		}
		if !EqualFold(r.Fields[i].Value, "100-continue") {
			return &Error{Status: 417, Reason: "the only expectation that is known here is 100-continue"}
		}
		r.Continue = r.Length != 0
	}
	return nil
}

func (r *Request) parseHost() *Error {
	hosts := 0
	for i := range r.Fields {
		if r.Fields[i].Kind == Host {
			hosts++
			r.Host = r.Fields[i].Value
		}
	}
	switch {
	case hosts > 1:
		return malformed("there is more than one Host")
	case hosts == 0 && r.Minor == 1:
		return malformed("there is no Host")
	case !all(r.Host, inHost):
		return malformed("Host has a character that is not allowed")
	}
	return nil
}

// parseTarget takes the path out of a target in whichever form.
func (r *Request) parseTarget(target []byte) *Error {
	switch {
	case string(r.Method) == "CONNECT":
		return nil
	case target[0] == '/', string(target) == "*":
		r.Target = target
	default:
		scheme, rest, found := bytes.Cut(target, []byte("://"))
		if !found {
			return nil // mailto:a
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

// isAuthority is for a target that has a host, which few have: it leaves the brackets,
// ports and escapes in it to net/url, which must read it as it is.
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
