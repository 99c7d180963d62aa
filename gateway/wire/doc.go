// Package wire reads and writes the heads and bodies of HTTP/1.1 messages
// (RFC 9112) for a forwarder. It works on bytes that somebody else has read and
// allocates nothing for a message of the usual size.
//
// It is stricter than a recipient must be: whatever two readers might understand
// differently is refused and never forwarded. That is a line without CR LF, a
// folded header, white space before a colon, a control character, more than one
// Content-Length or one beside Transfer-Encoding, a transfer coding that is not
// exactly "chunked". Trailers are checked and dropped. What it accepts, net/http reads as the same message; a fuzz
// test holds it to that.
package wire
