package h1

import (
	"context"
	"errors"
	"time"
)

// A Handler decides about the requests of one connection, which come one after the
// other.
type Handler interface {
	// Decide says what becomes of a request. It is called again, to answer, when the
	// request could not be forwarded: then Exchange.Err says why.
	Decide(*Exchange) Decision
	// Done is called at the end of each request that Decide was called for. It is also
	// called, alone, for a connection that was closed at once (TooMany).
	Done(*Exchange)
}

// A Decision says what becomes of a request.
type Decision struct {
	// Answer is sent, and nothing is forwarded, unless it is nil.
	Answer *Answer
	// Order returns where the request may go. It is called for each attempt.
	Order func() Order
	// MaxBody bounds the body, in bytes.
	MaxBody int64
	// Late says that the answer may take any time to begin.
	Late bool
	// Stream says that the answer never ends, and may be silent for any time, unless it
	// is nil. It is called now and then during the answer, by another goroutine, and ends
	// it by returning an error, which becomes Exchange.Err.
	Stream func() error
}

// An Answer is one of the gateway's own.
type Answer struct {
	Status int
	Reason string // the phrase of Status
	Head   string // header lines, each with its CR LF, but for those of Exchange.ToClient
	Body   []byte
}

// An Exchange is one request and what became of it.
type Exchange struct {
	// Request is valid in Decide only, as long as Malformed and Err are nil.
	Request
	// Malformed says why what came is no request, which must be answered.
	Malformed *Error
	// Err says why the request got no answer from a backend; Done may find the cause of
	// End there. It is one of the errors of this package, or the one of Decision.Stream,
	// or tells how the connection to a backend failed: os.ErrDeadlineExceeded is among
	// its causes when a backend was too slow.
	Err error
	// Began is when the request began to arrive.
	Began time.Time
	// Surplus says that there are too many connections without this one.
	Surplus bool

	// ToBackend and ToClient are header lines, each with its CR LF, that Decide appends:
	// for the backend in addition to those of the client, and for the client in addition
	// to those of the answer, whoever makes it.
	ToBackend, ToClient []byte

	// Status is that of the answer, 0 as long as it has not begun.
	Status int
	// Pool is where the request was sent last, nil for nowhere, and Reused says that
	// another had been answered on that connection before.
	Pool   *Pool
	Reused bool
	// Answered is when the backend had sent the head of its answer.
	Answered time.Time
	// End says why the connection takes no further request, in Done.
	End End

	conn *conn
	line string // of Line, once it was asked for
}

// Line returns the method and the target of the request, and is valid in Done too.
func (x *Exchange) Line() string {
	if x.line == "" {
		x.line = string(x.Method) + " " + string(x.Target)
	}
	return x.line
}

// Wait runs do, which waits for something other than the client, within Decide. The
// context ends when the client goes away or the server stops. If so, Wait returns false,
// and whatever is decided then is not done.
func (x *Exchange) Wait(do func(context.Context)) bool {
	if x.conn.await(do) != nil {
		x.End = ClientGone
	}
	return x.End == Open
}

// Why a request is not forwarded or not answered.
var (
	ErrTooLarge      = errors.New("the body is over the limit")
	ErrBodyTimeout   = errors.New("the body did not arrive in time")
	ErrBodyMalformed = errors.New("the body is malformed")
	ErrNoBackend     = errors.New("there is no backend to try")
	ErrStreamsEnded  = errors.New("streams are ended")

	errClientGone = errors.New("the client went away")
	errAborted    = errors.New("the gateway stops")
)

// An End is why a connection takes no further request, and so how it is closed.
type End uint8

// The ends. From ClientGone on, the request got no whole answer.
const (
	Open          End = iota // it takes another request
	Closing                  // the last message said so, or the client has nothing more to ask
	Unread                   // the client may still be sending a request that is answered, so it is read on for a while
	ClientGone               // the client broke the connection, or stopped in the middle of a request
	ClientStalled            // the client did not take its answer in time
	BackendBroke             // the backend did not finish its answer; Exchange.Err is the cause
	Interrupted              // a stream was ended, or the server stops
	Panicked                 // the program has a mistake; Exchange.Err tells where
	TooMany                  // there were too many connections even to say so
)
