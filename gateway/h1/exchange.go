package h1

import (
	"context"
	"errors"
	"time"
)

// A Handler decides about the requests of one connection, which come one after the other.
type Handler interface {
	// Decide decides about a request. If the request cannot be forwarded as decided, Decide
	// is called again with Exchange.Err set, and must answer.
	Decide(*Exchange) Decision
	// Done is called after each request that Decide was called for, and for a connection that
	// was closed without a word (TooMany). It must not block.
	Done(*Exchange)
}

// A Decision is what becomes of a request: it is answered, or forwarded.
type Decision struct {
	// Answer, if not nil, is sent, and nothing is forwarded.
	Answer *Answer
	// Order returns the backends to try. It is called for each attempt.
	Order func() Order
	// MaxBody is the largest body in bytes.
	MaxBody int64
	// Late lets the answer begin at any time.
	Late bool
	// Stream, if not nil, says that the answer never ends and may pause for any time. Another
	// goroutine calls it now and then meanwhile. If it returns an error, the answer is ended,
	// and Exchange.Err is that error.
	Stream func() error
}

// An Answer is sent without a backend.
type Answer struct {
	Status int
	Reason string // phrase of Status
	Head   string // header lines, each with its CR LF, in addition to Exchange.ToClient
	Body   []byte
}

// An Exchange is a request and what became of it.
type Exchange struct {
	// Request is valid in the first call of Decide, if Malformed is nil.
	Request
	// Malformed says why there is no request. Decide must answer.
	Malformed *Error
	// Err says why the request got no answer from a backend, or no whole one. It is one of
	// the errors of this package or of Decision.Stream, or an error of the connection to the
	// backend, which wraps os.ErrDeadlineExceeded if the backend was too slow.
	Err error
	// Began is when the request began to arrive.
	Began time.Time
	// Surplus reports whether the connection is one too many. Decide must answer.
	Surplus bool

	// ToBackend and ToClient are header lines, each with its CR LF, for Decide to append to.
	// The backend gets ToBackend in addition to the client's headers. The client gets
	// ToClient in addition to those of any answer.
	ToBackend, ToClient []byte

	// Status is that of the answer, 0 before it has begun.
	Status int
	// Pool is the backend that the request was sent to last, or nil. Reused reports whether
	// that connection had served another request.
	Pool   *Pool
	Reused bool
	// Answered is when the head of the backend's answer had arrived.
	Answered time.Time
	// End, in Done, says why the connection takes no further request.
	End End

	conn *conn
	line string // cached by Line
}

// Line returns the method and the target of the request. It is valid in Done too.
func (x *Exchange) Line() string {
	if x.line == "" {
		x.line = string(x.Method) + " " + string(x.Target)
	}
	return x.line
}

// Wait runs do, which waits for something, within Decide. The context ends if the client
// breaks the connection or the server stops. Then Wait returns false, and the decision does
// not matter.
func (x *Exchange) Wait(do func(context.Context)) bool {
	if x.conn.await(do) != nil {
		x.End = ClientGone
	}
	return x.End == Open
}

// The reasons why a request got no answer from a backend, beside errors of its connection.
var (
	ErrTooLarge      = errors.New("the body is over the limit")
	ErrBodyTimeout   = errors.New("the body did not arrive in time")
	ErrBodyMalformed = errors.New("the body is malformed")
	ErrNoBackend     = errors.New("no backend can be tried")
	ErrStreamsEnded  = errors.New("streams are ended")

	errClientGone = errors.New("the client went away")
	errAborted    = errors.New("the gateway stops")
)

// An End says why a connection takes no further request. It also determines how the
// connection is closed.
type End uint8

// The ends. From ClientGone on, the request got no answer, or not a whole one.
const (
	Open          End = iota // it takes another request
	Closing                  // a message said so, or the client sends nothing more
	Unread                   // the request was answered before it was read; it is read on for a while
	ClientGone               // the client broke the connection, or stopped within a request
	ClientStalled            // the client did not take its answer in time
	BackendBroke             // the backend did not finish its answer; Exchange.Err says why
	Interrupted              // a stream was ended, or the server stops
	Panicked                 // a handler, or this package, has a bug; Exchange.Err has the stack
	TooMany                  // there were too many connections even to answer
)
