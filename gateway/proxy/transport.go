package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

const (
	// idleTimeout is how long an unused connection to a backend is kept. It must
	// be shorter than telemetry.IdleTimeout: a backend that closes a connection
	// while a write is being sent on it leaves the client without an answer.
	idleTimeout      = 90 * time.Second
	idlePerBackend   = 512
	dialTimeout      = 3 * time.Second
	continueTimeout  = time.Second
	maxAnswerHeaders = 256 << 10
)

// errNoBackend is the reason when not even a dial was tried.
var errNoBackend = errors.New("no backend whose store is known")

// dialError says that no connection was made and thus nothing was sent. It does
// not unwrap: a dial that timed out is not a backend that timed out.
type dialError struct{ cause error }

func (e *dialError) Error() string { return e.cause.Error() }

// A transport sends requests to the pool's backends. Requests arrive without a
// host; each attempt sets that of its backend.
type transport struct {
	pool    *pool
	answers *http.Transport // waits for an answer as long as the timeout says
	streams *http.Transport // waits as long as it takes
}

func newTransport(p *pool, timeout time.Duration) *transport {
	dialer := &net.Dialer{Timeout: dialTimeout}
	answers := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, &dialError{err}
			}
			return &backendConn{Conn: conn, timeout: timeout}, nil
		},
		DisableCompression:     true,
		MaxIdleConnsPerHost:    idlePerBackend,
		IdleConnTimeout:        idleTimeout,
		ResponseHeaderTimeout:  timeout,
		ExpectContinueTimeout:  continueTimeout,
		MaxResponseHeaderBytes: maxAnswerHeaders,
	}
	streams := answers.Clone()
	streams.ResponseHeaderTimeout = 0
	return &transport{pool: p, answers: answers, streams: streams}
}

func (t *transport) close() {
	t.answers.CloseIdleConnections()
	t.streams.CloseIdleConnections()
}

// RoundTrip sends r to the first backend that a connection can be made to.
//
// http.Transport sends a request again by itself when a connection that was kept
// open turns out to be closed. For a method that changes something it does so
// only when not a byte was written; see hideIdempotencyKeys for the exception.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	x := exchangeOf(r.Context())
	via := t.answers
	if x.stream {
		via = t.streams
	}
	err := errNoBackend
	for b := range t.pool.candidates(r.Context()) {
		x.backend = b.url.Host
		var response *http.Response
		response, err = via.RoundTrip(addressed(r, b)) //nolint:bodyclose // the caller closes it
		if dial := (*dialError)(nil); !errors.As(err, &dial) {
			return response, err
		}
		if r.Context().Err() != nil {
			return nil, err
		}
		t.pool.unreachable(b, err)
	}
	if differ := t.pool.differ(); differ != nil {
		err = differ
	}
	return nil, err
}

// addressed returns r for b. An attempt that fails closes its body, which the
// next attempt may need; so it gets one whose Close does nothing. Who called
// RoundTrip closes the body itself.
func addressed(r *http.Request, b *backend) *http.Request {
	to := r.WithContext(r.Context())
	target := *r.URL
	target.Host = b.url.Host
	to.URL = &target
	if r.Body != nil && r.Body != http.NoBody {
		to.Body = io.NopCloser(r.Body)
	}
	return to
}

// A backendConn bounds how long the backend may take to accept what is written:
// the response timeout begins only after the whole request was.
type backendConn struct {
	net.Conn
	timeout time.Duration
}

func (c *backendConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}
