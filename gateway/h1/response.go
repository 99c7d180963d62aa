package h1

// A Response is the head of an answer. Its slices are parts of what was parsed.
type Response struct {
	Status int
	Reason []byte
	Fields []Field
	// Length is what Content-Length says, or Chunked, or UntilClose; NoBody says
	// whether a body of that length follows.
	Length int64
	// KeepAlive says that the server lets the connection live on.
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

// Parse reads a whole head, as long as HeadLength says. Nothing of a former
// answer is left in r.
func (r *Response) Parse(head []byte) *Error {
	*r = Response{Fields: r.Fields[:0]}
	line, rest, err := cutLine(head)
	if err != nil {
		return err
	}
	const start = len("HTTP/1.1 200")
	if len(line) < start || len(line) > start && line[start] != ' ' || !isVersion(line[:8]) || line[5] != '1' || line[8] != ' ' {
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
	switch {
	case f.chunked && minor == 0:
		return malformed("HTTP/1.0 has no Transfer-Encoding")
	case f.chunked:
		r.Length = Chunked
	case f.length != noLength:
		r.Length = f.length
	default:
		r.Length = UntilClose
	}
	r.KeepAlive = !f.closes && (minor > 0 || f.persists)
	return nil
}
