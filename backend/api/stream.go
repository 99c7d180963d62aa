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

	mu      sync.Mutex // guards all below and the order of deadlines
	hurried bool
	over    bool // the connection is the server's again
}

// newStream returns a stream on w, whose head must have been written.
func newStream(w http.ResponseWriter, stall time.Duration, values bool) *stream {
	return &stream{writer: w, control: http.NewResponseController(innermost(w)), stall: stall, values: values}
}

// innermost returns the writer of the server: those around it hide the errors of a
// flush.
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

// send flushes once what fill writes. It fails with the connection.
func (s *stream) send(fill func(*batch) error) error {
	b := batches.Get().(*batch)
	defer b.release()
	b.stream = s
	if err := fill(b); err != nil {
		return err
	}
	if err := b.drain(0); err != nil {
		return err
	}
	return s.control.Flush()
}

const (
	// batchBytes is how much is encoded before it is written.
	batchBytes = 64 << 10
	// keptBytes is the largest buffer that is kept for others.
	keptBytes = 256 << 10
)

// A batch is what goes out in one flush, as far as it is not written yet.
type batch struct {
	stream *stream
	text   []byte
}

var batches = sync.Pool{New: func() any { return new(batch) }}

func (b *batch) release() {
	b.stream, b.text = nil, b.text[:0]
	if cap(b.text) <= keptBytes {
		batches.Put(b)
	}
}

// drain writes the text when it has more than most bytes.
func (b *batch) drain(most int) error {
	if len(b.text) <= most {
		return nil
	}
	b.stream.allow(len(b.text))
	_, err := b.stream.writer.Write(b.text)
	b.text = b.text[:0]
	return err
}

// start says that there is a stream, where it begins, and when to come back after it
// has ended. The times differ, so that not all clients come back at once.
func (b *batch) start(position int64) error {
	const soonest, spread = 1000, 2000 // milliseconds
	b.text = fmt.Appendf(b.text, ": watching from revision %d\nretry: %d\n",
		position, soonest+rand.IntN(spread)) //nolint:gosec // nobody gains from guessing it
	b.id(position)
	return nil
}

// id tells the client where to resume; without data it makes no event.
func (b *batch) id(position int64) { b.text = fmt.Appendf(b.text, "id: %d\n\n", position) }

// cut tells a slow client where to resume.
func (b *batch) cut(position int64) error {
	b.text = fmt.Appendf(b.text, "id: %d\nevent: cut\ndata: {\"resume\":%d}\n\n", position, position)
	return nil
}

// compacted tells what history may lack behind a revision, in front of the events of a
// delivery. The client still resumes there.
func (b *batch) compacted(requested int64, d store.Delivery) {
	b.text = fmt.Appendf(b.text, "id: %d\nevent: compacted\ndata: {\"requested\":%d,\"compacted\":%d,\"oldest\":%d",
		requested, requested, d.Compacted, d.Compacted+1)
	if d.Reset {
		b.text = append(b.text, `,"reset":true`...)
	}
	b.text = append(b.text, "}\n\n"...)
}

// events writes a delivery; one without entries is a heartbeat.
func (b *batch) events(d store.Delivery) error {
	if len(d.Entries) == 0 {
		b.text = append(b.text, ": heartbeat\n"...)
		b.id(d.Position)
		return nil
	}
	encode := encodeBare
	if b.stream.values {
		encode = encodeWhole
	}
	for _, event := range d.Entries {
		if err := b.add(event.Text(encode)); err != nil {
			return err
		}
	}
	if last := d.Entries[len(d.Entries)-1].Revision; last < d.Position {
		b.id(d.Position)
	}
	return nil
}

// add adds the text of an event. What was gathered goes out when it would have more than
// batchBytes with it, and a text of that size goes out by itself.
func (b *batch) add(text []byte) error {
	if len(b.text)+len(text) <= batchBytes {
		b.text = append(b.text, text...)
		return nil
	}
	if err := b.drain(0); err != nil {
		return err
	}
	if len(text) <= batchBytes {
		b.text = append(b.text, text...)
		return nil
	}
	b.stream.allow(len(text))
	_, err := b.stream.writer.Write(text)
	return err
}

// encodeWhole and encodeBare append one event, with its value and without.
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

// appendLines appends a JSON text. Between its tokens it may have line ends, which
// end a line of data too: the reader of the stream puts one, \n, between two lines
// of data. So the text comes back as it was, but for a carriage return, which the
// format has no way to carry and JSON allows as white space alone.
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
