// Package proxy is the gateway's work: it forwards requests to a backend and
// answers for itself only where no backend can. What it guarantees:
//
//   - A request reaches the backend as the client sent it: method, target (byte
//     for byte), Host, headers and body; the answer comes back the same way.
//     Exceptions are the headers that belong to one connection (RFC 9110,
//     section 7.6.1), the X-Forwarded ones, which gain this hop, and
//     X-Request-Id, which every answer carries exactly once.
//   - A write is never sent twice. A request goes to another backend only when
//     the connection to the first could not be made, so that nothing was sent.
//   - No answer looks complete that is not: when a backend fails in the middle
//     of one, the client's connection is cut; when a client fails in the middle
//     of its body, so is the backend's.
//   - Nothing is buffered whole. Bodies flow both ways as they arrive.
//   - Requests are spread over backends that serve one and the same store. As
//     long as two are known to serve different ones, every request is refused.
//
// Only forward.go and transport.go know how a request is forwarded; another
// forwarder replaces these two.
package proxy
