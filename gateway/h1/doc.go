// Package h1 is an HTTP/1.1 server that forwards requests (RFC 9112). A Handler decides
// about each: it is forwarded, or answered with some bytes. The package knows how
// messages are framed and how connections begin and end, and no path, header or limit
// of a particular service. What it guarantees:
//
//   - What two readers might understand differently is refused and never sent on: a line
//     without CR LF, a folded header, white space before a colon, a control character,
//     more than one Content-Length or one beside Transfer-Encoding, a transfer coding
//     that is not exactly "chunked". What it accepts, net/http reads as the same message;
//     a fuzz test holds it to that. The length of a body is told anew, by what was
//     understood. Trailers are checked and dropped.
//   - A request reaches the backend as the client sent it, byte for byte, but for the
//     headers of one connection (RFC 9110, section 7.6.1) and those that the Handler
//     drops or adds; so does the answer reach the client.
//   - A request is sent again on another connection only when nothing of it was sent; a
//     GET or HEAD also when the connection was kept open from an earlier request and
//     broke before anything of an answer came. So no write is done twice.
//   - A request that came whole is answered, though its client has closed its sending
//     side. A client that resets its connection gives the request up, and so its
//     backend's connection is reset at once.
//   - No answer looks complete that is not: when a backend fails in the middle of one,
//     the client's connection is cut; when a client fails in the middle of its body, so
//     is the backend's.
//   - A refusal reaches a client that sends before it reads, through a proxy too: its
//     body is read first, within bounds, or read on after the answer.
//   - Nothing is buffered whole. Bodies flow both ways at once, as they arrive. An idle
//     connection keeps no more than a small message needs.
//
// It does not use net/http, whose server and client start goroutines, and switch between
// them, for every request: that took three quarters of the gateway's processor time. Here
// one goroutine reads a request, sends it, reads the answer and sends that. Only a body
// that is still on its way, and a client that waits long, have another one.
package h1
