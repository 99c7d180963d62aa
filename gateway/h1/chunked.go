package h1

import "strconv"

const (
	// mostExtension bounds the extension of a chunk, which is dropped.
	mostExtension = 256
	// mostTrailer bounds the trailer section, as net/http does.
	mostTrailer = 4 << 10
	// mostSizeDigits keeps a size within 63 bits.
	mostSizeDigits = 15
)

type chunkState uint8

const (
	inSize chunkState = iota
	inExtension
	afterSize // expects LF
	inData
	afterData   // expects CR
	afterDataCR // expects LF
	inTrailer
	ended
)

// Chunks decodes a chunked body piece by piece. The zero value is ready to use.
type Chunks struct {
	state   chunkState
	left    int64 // of the chunk
	count   int   // of digits, or of bytes of an extension
	line    int   // start of the line in trailer
	trailer []byte
}

// Ended reports whether the whole body was decoded, including trailers. Trailers are checked and
// dropped (RFC 9110, section 6.5.1): merged into the headers, they could change a length or a
// token.
func (c *Chunks) Ended() bool { return c.state == ended }

// Next decodes b up to the next data, the end of the body, or the end of b. It returns the data,
// a part of b, and how much of b was used.
func (c *Chunks) Next(b []byte) (data []byte, used int, err *Error) {
	for used < len(b) && c.state != ended {
		if c.state == inData {
			n := int(min(c.left, int64(len(b)-used)))
			data = b[used : used+n]
			if c.left -= int64(n); c.left == 0 {
				c.state = afterData
			}
			return data, used + n, nil
		}
		if err := c.step(b[used]); err != nil {
			return nil, used, err
		}
		used++
	}
	return nil, used, nil
}

// step decodes a byte that is not data.
func (c *Chunks) step(b byte) *Error {
	switch c.state {
	case inSize:
		return c.size(b)
	case inExtension:
		if b == '\r' {
			c.state = afterSize
			return nil
		}
		if c.count++; c.count > mostExtension || classes[b]&inValue == 0 {
			return malformed("a chunk has an extension that is malformed or too long")
		}
	case afterSize:
		if b != '\n' {
			return malformed("a chunk's size does not end with CR LF")
		}
		if c.state = inData; c.left == 0 {
			c.state = inTrailer
		}
	case afterData:
		if b != '\r' {
			return malformed("a chunk does not end with CR LF")
		}
		c.state = afterDataCR
	case afterDataCR:
		if b != '\n' {
			return malformed("a chunk does not end with CR LF")
		}
		c.state, c.count = inSize, 0
	case inTrailer:
		return c.trail(b)
	case inData, ended: // not here
	}
	return nil
}

func (c *Chunks) size(b byte) *Error {
	digit, ok := hexDigit(b)
	switch {
	case ok && c.count < mostSizeDigits:
		c.left = c.left<<4 | int64(digit)
		c.count++
	case c.count == 0 || ok:
		return malformed("a chunk's size is no hexadecimal number, or too large")
	case b == '\r':
		c.state = afterSize
	case b == ';':
		c.state, c.count = inExtension, 0
	default:
		return malformed("a chunk's size is no hexadecimal number, or too large")
	}
	return nil
}

// trail collects the trailer section, which is checked at its end like headers.
func (c *Chunks) trail(b byte) *Error {
	if len(c.trailer) == mostTrailer {
		return malformed("the trailers are too large")
	}
	c.trailer = append(c.trailer, b)
	if b != '\n' {
		return nil
	}
	if len(c.trailer)-c.line != len("\r\n") {
		c.line = len(c.trailer)
		return nil
	}
	if _, err := parseFields(c.trailer, nil); err != nil {
		return err
	}
	c.trailer, c.state = nil, ended
	return nil
}

// AppendChunk appends data as one chunk, or nothing if there is no data: an empty chunk would end
// the body.
func AppendChunk(to, data []byte) []byte {
	if len(data) == 0 {
		return to
	}
	to = strconv.AppendInt(to, int64(len(data)), 16)
	to = append(to, "\r\n"...)
	to = append(to, data...)
	return append(to, "\r\n"...)
}

// AppendLastChunk appends the end of a chunked body.
func AppendLastChunk(to []byte) []byte { return append(to, "0\r\n\r\n"...) }

// AppendField appends a header line.
func AppendField[V string | []byte](to, name []byte, value V) []byte {
	to = append(to, name...)
	to = append(to, ": "...)
	to = append(to, value...)
	return append(to, "\r\n"...)
}
