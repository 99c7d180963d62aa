package h1

// A Response is the head of an answer. Its slices point into what was parsed.
type Response struct {
	Status int
	Reason []byte
	Fields []Field
	// Length is the Content-Length, or Chunked, or UntilClose. NoBody reports whether a body
	// follows at all.
	Length int64
	// KeepAlive reports whether the backend allows another request on the connection.
	KeepAlive bool
}

// Interim reports whether another answer follows.
func (r *Response) Interim() bool { return r.Status < 200 }

// NoBody reports whether no body follows, whatever Length says.
func (r *Response) NoBody(toHEAD bool) bool {
	return toHEAD || r.Status < 200 || r.Status == 204 || r.Status == 304
}

// HasLength reports whether there is a Content-Length.
func (r *Response) HasLength() bool { return r.Length >= 0 }

// Parse parses a head as long as HeadLength says. It reuses r.Fields.
func (r *Response) Parse(head []byte) *Error {
	*r = Response{Fields: r.Fields[:0]}
	line, rest, err := cutLine(head)
	if err != nil {
		return err
	}
	const start = len("HTTP/1.1 200")
	if len(line) < start || len(line) > start && line[start] != ' ' ||
		!isVersion(line[:8]) || line[5] != '1' || line[8] != ' ' {
		return malformed("the first line is not HTTP/1.1 STATUS REASON")
	}
	status, ok := parseLength(line[9:start])
	if !ok || status < 100 || status > 599 {
		return malformed("the status is not one from 100 to 599")
	}
	r.Status = int(status)
	if len(line) > start {
		r.Reason = line[start+1:]
	}
	if !all(r.Reason, inValue) {
		return malformed("the first line has a control character")
	}
	if r.Fields, err = parseFields(rest, r.Fields); err != nil {
		return err
	}
	f, err := frame(r.Fields)
	if err != nil {
		return err
	}
	minor := line[7] - '0'
	if f.length == Chunked && minor == 0 {
		return malformed("HTTP/1.0 has no Transfer-Encoding")
	}
	r.Length = f.length
	r.KeepAlive = !f.closes && (minor > 0 || f.persists)
	return nil
}
