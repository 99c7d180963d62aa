package store

import (
	"sync"
	"sync/atomic"

	"kvstore/backend/kv"
)

// An Event is a write as all watches share it: nobody may change it.
type Event struct {
	kv.Entry

	last bool // of its transaction

	text atomic.Pointer[[]byte]
	bare atomic.Pointer[Event]

	mu      sync.Mutex    // guards what is made later, and all below
	counted *atomic.Int64 // has the bytes of text, and of that of bare; nil when nobody counts them
}

// Text returns the event as encode, which must be the same function for all watches with
// values and the same for all without, appends it. It is made once and shared: nobody may
// change it.
func (e *Event) Text(encode func([]byte, *kv.Entry) []byte) []byte {
	if text := e.text.Load(); text != nil {
		return *text
	}
	text := encode(make([]byte, 0, e.Size()+textBytes), &e.Entry)
	e.mu.Lock()
	defer e.mu.Unlock()
	if made := e.text.Load(); made != nil {
		return *made
	}
	e.text.Store(&text)
	if e.counted != nil {
		e.counted.Add(int64(cap(text)))
	}
	return text
}

// textBytes is what the text of an event has besides the texts of its entry, about.
const textBytes = 256

// withoutValue returns the event as watches without values share it.
func (e *Event) withoutValue() *Event {
	if bare := e.bare.Load(); bare != nil {
		return bare
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if made := e.bare.Load(); made != nil {
		return made
	}
	bare := &Event{Entry: e.Entry, counted: e.counted}
	bare.Value = nil
	e.bare.Store(bare)
	return bare
}

// drop ends the count of its texts: the event is kept no more for those who come to it.
func (e *Event) drop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if text := e.text.Load(); text != nil && e.counted != nil {
		e.counted.Add(-int64(cap(*text)))
	}
	e.counted = nil
	if bare := e.bare.Load(); bare != nil {
		bare.drop()
	}
}
