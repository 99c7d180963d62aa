package proxy

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// A clientBody is a request body within its limits of size and time. It knows
// whether it failed, which tells the client's failures from the backend's.
type clientBody struct {
	io.ReadCloser

	mu    sync.Mutex // guards what follows; the transport reads in its own goroutine
	err   error
	ended bool
}

// newClientBody limits r's body to size bytes, and the time until its last byte
// is read to timeout.
//
// The deadline is the connection's. The server takes it off when the body has
// been read to its end, so that an answer may take longer than a body.
func newClientBody(w http.ResponseWriter, r *http.Request, size int64, timeout time.Duration) *clientBody {
	connection := http.NewResponseController(w)
	// A writer that can do neither, as tests may have, leaves the time unlimited.
	_ = connection.SetReadDeadline(time.Now().Add(timeout))
	// Else the server takes what is unread of the body, away from the backend, as
	// soon as the backend begins its answer.
	_ = connection.EnableFullDuplex()
	return &clientBody{ReadCloser: http.MaxBytesReader(w, r.Body, size)}
}

func (b *clientBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == nil {
		return n, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if errors.Is(err, io.EOF) {
		b.ended = true
	} else {
		b.err = err
	}
	return n, err
}

// atEnd reports whether the body was read to its end.
func (b *clientBody) atEnd() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ended
}

// failure returns why the body could not be read to its end, nil when it could
// or when nobody has tried.
func (b *clientBody) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}
