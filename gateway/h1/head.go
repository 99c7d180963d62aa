package h1

import (
	"bytes"
	"fmt"
)

// An Error says why a message is malformed, or not supported.
type Error struct {
	Status int // of the answer
	Reason string
}

func (e *Error) Error() string { return e.Reason }

func malformed(reason string) *Error { return &Error{Status: 400, Reason: reason} }

// A Kind says what a header means to this package.
type Kind uint8

// The kinds of headers.
const (
	Plain Kind = iota // nothing
	Host
	ContentLength
	TransferEncoding
	Connection
	Expect
	HopByHop // any other that is for one connection only; and Trailer, since trailers are dropped
	Date
)

// A Field is one header line.
type Field struct {
	Name, Value []byte
	Kind        Kind
	// Dropped says that a Plain field is not forwarded, because a Connection header names
	// it. Handler.Decide may change that.
	Dropped bool
}

// Both are more than any client sends. Their product bounds the work for Connection headers,
// each option of which is looked up among the fields.
const (
	mostFields  = 512
	mostOptions = 32
)

var kinds = NewNames(map[string]Kind{
	"host": Host, "content-length": ContentLength, "transfer-encoding": TransferEncoding,
	"connection": Connection, "expect": Expect, "date": Date,
	"trailer": HopByHop, "te": HopByHop, "upgrade": HopByHop, "keep-alive": HopByHop, "proxy-connection": HopByHop,
	"proxy-authenticate": HopByHop, "proxy-authorization": HopByHop,
})

// Names maps header names, in any case, to what they mean. A lookup does not allocate.
type Names[K any] struct {
	byLength [32][]meaning[K] // of the name, modulo the length of the array
}

type meaning[K any] struct {
	name string
	is   K
}

// NewNames returns the table of names, which must be in lower case.
func NewNames[K any](names map[string]K) *Names[K] {
	n := &Names[K]{}
	for name, is := range names {
		at := &n.byLength[len(name)%len(n.byLength)]
		*at = append(*at, meaning[K]{name, is})
	}
	return n
}

// Find returns what name means, the zero value if it is not in the table.
func (n *Names[K]) Find(name []byte) (is K) {
	for _, known := range n.byLength[len(name)%len(n.byLength)] {
		if EqualFold(name, known.name) {
			return known.is
		}
	}
	return is
}

// EqualFold reports whether name equals lower, which is in lower case, but for the case of
// ASCII letters.
func EqualFold(name []byte, lower string) bool {
	if len(name) != len(lower) {
		return false
	}
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// The classes of bytes.
const (
	inToken = 1 << iota
	inValue // of a header: visible characters, space, tab, and bytes over 127
	inTarget
	inHost
)

var classes = func() (table [256]uint8) {
	for c := range 256 {
		if c == '\t' || c >= ' ' && c != 0x7F {
			table[c] |= inValue
		}
		if c > ' ' && c != 0x7F {
			table[c] |= inTarget
		}
	}
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") {
		table[c] |= inToken | inHost
	}
	for _, c := range []byte("!#$%&'*+-.^_`|~") {
		table[c] |= inToken
	}
	for _, c := range []byte("!$%&'()*+,-._~:;=[]") {
		table[c] |= inHost
	}
	return table
}()

func all(b []byte, class uint8) bool {
	for _, c := range b {
		if classes[c]&class == 0 {
			return false
		}
	}
	return true
}

func isToken(b []byte) bool { return len(b) > 0 && all(b, inToken) }

// HeadLength returns the length of the head at the start of b, including its empty line, or 0
// if b has only a part of it. The first checked bytes were looked at before.
func HeadLength(b []byte, checked int) (int, *Error) {
	from := max(0, checked-3)
	if i := bytes.Index(b[from:], []byte("\r\n\r\n")); i >= 0 {
		return from + i + 4, nil
	}
	// Otherwise a client that ends its lines with LF alone would wait for an answer.
	for i := from; i < len(b); i++ {
		if b[i] == '\n' && (i == 0 || b[i-1] != '\r') {
			return 0, malformed("a line does not end with CR LF")
		}
	}
	return 0, nil
}

// cutLine returns the first line of b without its CR LF, and what follows.
func cutLine(b []byte) (line, rest []byte, err *Error) {
	i := bytes.IndexByte(b, '\n')
	if i < 1 || b[i-1] != '\r' {
		return nil, nil, malformed("a line does not end with CR LF")
	}
	return b[:i-1], b[i+1:], nil
}

// parseFields reads header lines up to the empty one, which ends b.
func parseFields(b []byte, fields []Field) ([]Field, *Error) {
	for {
		line, rest, err := cutLine(b)
		if err != nil {
			return fields, err
		}
		if len(line) == 0 {
			if len(rest) > 0 {
				return fields, malformed("the head goes on after its end")
			}
			return fields, nil
		}
		if len(fields) == mostFields {
			return fields, &Error{Status: 431, Reason: fmt.Sprintf("headers: are more than %d, which is a fixed limit", mostFields)}
		}
		field, err := parseField(line)
		if err != nil {
			return fields, err
		}
		fields = append(fields, field)
		b = rest
	}
}

func parseField(line []byte) (Field, *Error) {
	if line[0] == ' ' || line[0] == '\t' {
		return Field{}, malformed("a header is folded over several lines")
	}
	colon := bytes.IndexByte(line, ':')
	if colon < 0 {
		return Field{}, malformed("a header has no colon")
	}
	name := line[:colon]
	if !isToken(name) {
		return Field{}, malformed("a header has a name with a character that is not allowed")
	}
	value := line[colon+1:]
	if !all(value, inValue) {
		return Field{}, malformed("a header has a control character in its value")
	}
	return Field{Name: name, Value: trim(value), Kind: kinds.Find(name)}, nil
}

func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// The lengths of bodies that are not numbers.
const (
	Chunked    = -1
	UntilClose = -2 // answers only
)

// framing is what the headers say about the message itself.
type framing struct {
	length           int64 // UntilClose if nothing tells it
	closes, persists bool  // Connection says so
	options          int   // of Connection
	host             []byte
	hosts            int
	expects, unknown bool // Expect says 100-continue, or something else
}

// frame reads the headers that are about the message itself, and drops the fields that
// Connection names.
func frame(fields []Field) (f framing, err *Error) {
	f.length = UntilClose
	for i := range fields {
		field := &fields[i]
		switch field.Kind {
		case ContentLength:
			length, ok := parseLength(field.Value)
			switch {
			case f.length >= 0:
				return f, malformed("there is more than one Content-Length")
			case f.length == Chunked:
				return f, errTwoLengths
			case !ok:
				return f, malformed("Content-Length is no number of bytes")
			}
			f.length = length
		case TransferEncoding:
			switch {
			case f.length == Chunked:
				return f, malformed("there is more than one Transfer-Encoding")
			case f.length >= 0:
				return f, errTwoLengths
			case !EqualFold(field.Value, "chunked"):
				return f, &Error{Status: 501, Reason: "the only transfer coding that is known here is chunked"}
			}
			f.length = Chunked
		case Connection:
			if err := f.connection(field.Value, fields); err != nil {
				return f, err
			}
		case Host:
			f.host = field.Value
			f.hosts++
		case Expect:
			f.expects = f.expects || EqualFold(field.Value, "100-continue")
			f.unknown = f.unknown || len(field.Value) > 0 && !EqualFold(field.Value, "100-continue")
		case Plain, HopByHop, Date:
		}
	}
	return f, nil
}

var errTwoLengths = malformed("there are both Content-Length and Transfer-Encoding")

// parseLength takes digits only, and fewer than could overflow.
func parseLength(text []byte) (n int64, ok bool) {
	if len(text) == 0 || len(text) > 18 {
		return 0, false
	}
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

func (f *framing) connection(value []byte, fields []Field) *Error {
	for len(value) > 0 {
		var option []byte
		option, value, _ = bytes.Cut(value, []byte(","))
		if option = trim(option); len(option) == 0 {
			continue
		}
		if f.options++; f.options > mostOptions {
			return &Error{Status: 431, Reason: fmt.Sprintf("Connection: has more than %d options, which is a fixed limit", mostOptions)}
		}
		switch {
		case EqualFold(option, "close"):
			f.closes = true
		case EqualFold(option, "keep-alive"):
			f.persists = true
		default:
			for i := range fields {
				if fields[i].Kind == Plain && len(fields[i].Name) == len(option) && bytes.EqualFold(fields[i].Name, option) {
					fields[i].Dropped = true
				}
			}
		}
	}
	return nil
}
