package api

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"kvstore/backend/kv"
	"kvstore/backend/store"
)

// A stream writes server-sent events. While it is idle it keeps no buffer.
type stream struct {
	writer  http.ResponseWriter
	control *http.ResponseController
	stall   time.Duration
	values  bool // are sent

	mu      sync.Mutex // guards the fields below and the order of deadlines
	hurried bool
	over    bool // the connection is the server's again
}

// newStream returns a stream on w, whose header must have been written.
func newStream(w http.ResponseWriter, stall time.Duration, values bool) *stream {
	return &stream{writer: w, control: http.NewResponseController(innermost(w)), stall: stall, values: values}
}

// innermost returns the server's own writer. Those around it hide the errors of a flush.
func innermost(w http.ResponseWriter) http.ResponseWriter {
	for {
		outer, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = outer.Unwrap()
	}
}

// hurry gives the client endTimeout to take what is being sent.
func (s *stream) hurry() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.hurried = true
	_ = s.control.SetWriteDeadline(time.Now().Add(endTimeout)) // a connection without deadlines has none to keep
}

// abandon gives the client no more time.
func (s *stream) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.hurried = true
	_ = s.control.SetWriteDeadline(time.Now()) // as above
}

// finish must be called before the handler returns.
func (s *stream) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
}

// allow gives the client time to take n bytes.
func (s *stream) allow(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.hurried {
		_ = s.control.SetWriteDeadline(time.Now().Add(s.stall + time.Duration(n/slowestStream)*time.Second)) // as above
	}
}

// send writes what fill adds and flushes it. Its errors are those of the connection.
func (s *stream) send(fill func(*chunk) error) error {
	c := chunks.Get().(*chunk)
	defer c.release()
	c.stream = s
	if err := fill(c); err != nil {
		return err
	}
	if err := c.drain(0); err != nil {
		return err
	}
	return s.control.Flush()
}

const (
	// chunkBytes is how much of a chunk is encoded before it is written.
	chunkBytes = 64 << 10
	// keptBytes is the largest buffer that is used again.
	keptBytes = 256 << 10
)

// A chunk is what goes out in one flush, as far as it is not written yet.
type chunk struct {
	stream *stream
	text   []byte
}

var chunks = sync.Pool{New: func() any { return new(chunk) }}

func (c *chunk) release() {
	c.stream, c.text = nil, c.text[:0]
	if cap(c.text) <= keptBytes {
		chunks.Put(c)
	}
}

// drain writes the text if it has more than most bytes.
func (c *chunk) drain(most int) error {
	if len(c.text) <= most {
		return nil
	}
	c.stream.allow(len(c.text))
	_, err := c.stream.writer.Write(c.text)
	c.text = c.text[:0]
	return err
}

// start says where the stream begins, and when to reconnect after it has ended. That time is
// random, so that clients do not reconnect all at once.
func (c *chunk) start(position int64) error {
	const soonest, spread = 1000, 2000 // milliseconds
	c.text = fmt.Appendf(c.text, ": watching from revision %d\nretry: %d\n",
		position, soonest+rand.IntN(spread)) //nolint:gosec // nobody gains from guessing it
	c.id(position)
	return nil
}

// id tells the client where to resume. Without data it is not an event.
func (c *chunk) id(position int64) { c.text = fmt.Appendf(c.text, "id: %d\n\n", position) }

// cut tells a slow client where to resume.
func (c *chunk) cut(position int64) error {
	c.text = fmt.Appendf(c.text, "id: %d\nevent: cut\ndata: {\"resume\":%d}\n\n", position, position)
	return nil
}

// compacted tells, before the events of a delivery, what history may lack after the
// requested revision, from which the client would still resume.
func (c *chunk) compacted(requested int64, d store.Delivery) {
	c.text = fmt.Appendf(c.text, "id: %d\nevent: compacted\ndata: {\"requested\":%d,\"compacted\":%d,\"oldest\":%d",
		requested, requested, d.Compacted, d.Compacted+1)
	if d.Reset {
		c.text = append(c.text, `,"reset":true`...)
	}
	c.text = append(c.text, "}\n\n"...)
}

// events adds a delivery. One without entries is a heartbeat.
func (c *chunk) events(d store.Delivery) error {
	if len(d.Entries) == 0 {
		c.text = append(c.text, ": heartbeat\n"...)
		c.id(d.Position)
		return nil
	}
	encode := encodeBare
	if c.stream.values {
		encode = encodeWhole
	}
	for _, event := range d.Entries {
		if err := c.add(event.Text(encode)); err != nil {
			return err
		}
	}
	if last := d.Entries[len(d.Entries)-1].Revision; last < d.Position {
		c.id(d.Position)
	}
	return nil
}

// add adds the text of an event. It first writes the chunk if that would grow beyond
// chunkBytes, and writes a larger text directly.
func (c *chunk) add(text []byte) error {
	if len(c.text)+len(text) <= chunkBytes {
		c.text = append(c.text, text...)
		return nil
	}
	if err := c.drain(0); err != nil {
		return err
	}
	if len(text) <= chunkBytes {
		c.text = append(c.text, text...)
		return nil
	}
	c.stream.allow(len(text))
	_, err := c.stream.writer.Write(text)
	return err
}

// encodeWhole and encodeBare append one event, with its value or without.
func encodeWhole(t []byte, e *kv.Entry) []byte { return appendEvent(t, e, true) }
func encodeBare(t []byte, e *kv.Entry) []byte  { return appendEvent(t, e, false) }

// appendEvent appends one event, with its value or without.
func appendEvent(t []byte, e *kv.Entry, value bool) []byte {
	t = append(t, "id: "...)
	t = strconv.AppendInt(t, e.Revision, 10)
	t = append(t, "\nevent: "...)
	t = append(t, e.Operation...)
	t = append(t, "\ndata: {\"key\":"...)
	t = appendString(t, e.Key)
	t = append(t, `,"version":`...)
	t = strconv.AppendInt(t, e.Version, 10)
	t = append(t, `,"revision":`...)
	t = strconv.AppendInt(t, e.Revision, 10)
	t = append(t, `,"timestamp":`...)
	t = e.Time.AppendJSON(t)
	t = append(t, `,"operation":"`...)
	t = append(t, e.Operation...)
	t = append(t, '"')
	switch {
	case e.Destroyed:
		t = append(t, `,"destroyed":true`...)
	case !e.Operation.Tombstone():
		if value {
			t = append(t, `,"value":`...)
			if e.ContentType == "" {
				t = appendLines(t, e.Value)
			} else {
				t = appendValue(t, *e)
			}
		}
		if e.ContentType != "" {
			t = appendString(append(t, `,"content_type":`...), e.ContentType)
		}
	}
	if e.Expires != 0 {
		t = append(t, `,"expires_at":`...)
		t = e.Expires.AppendJSON(t)
	}
	if e.Author != "" {
		t = append(t, `,"author":`...)
		t = appendText(t, e.Author)
	}
	return append(t, "}\n\n"...)
}

// appendLines appends a JSON text, which may have line ends between its tokens. Each
// begins a new line of data, and the reader of the stream joins lines of data by \n. So the
// text comes back as it was, except for carriage returns: the format cannot carry them, and
// in JSON they are only white space.
func appendLines(t, value []byte) []byte {
	for i, c := range value {
		switch {
		case c == '\n' && i > 0 && value[i-1] == '\r': // one end of a line
		case c == '\n', c == '\r':
			t = append(t, "\ndata: "...)
		default:
			t = append(t, c)
		}
	}
	return t
}

// appendText appends any text as a JSON string.
func appendText(t []byte, text string) []byte {
	encoded, err := json.Marshal(text)
	if err != nil { // a string never fails
		return append(t, `""`...)
	}
	return append(t, encoded...)
}
