// Package proxy is the gateway's work: it forwards requests to a backend and
// answers for itself only where no backend can. What it guarantees:
//
//   - A request reaches the backend as the client sent it: method, target (byte
//     for byte), Host, headers and body; the answer comes back the same way.
//     Exceptions are the headers that belong to one connection (RFC 9110,
//     section 7.6.1), the X-Forwarded ones and Via, which gain this hop, and
//     X-Request-Id, which every answer carries exactly once, and Authorization,
//     which ends here: what a backend is told of the bearer comes from package
//     access, and clients cannot say it. What tells browsers how careful to be is
//     the same in every answer, whoever made it.
//   - What two readers might understand differently is refused and never sent on;
//     package wire says what that is. The lengths of bodies are told anew, by what
//     was understood.
//   - A write is never sent twice. A request goes to another connection only when
//     nothing of it was sent; a GET or HEAD also when the connection was kept open
//     from an earlier request and broke before anything of an answer came.
//   - A request that came whole is answered, though its client has closed its sending
//     side. A client that resets its connection gives the request up, and so its
//     backend's connection is reset. A refusal reaches a client that sends before it
//     reads, through a proxy in front of the gateway too: its body is read first, for a
//     while, or read on after the answer.
//   - No answer looks complete that is not: when a backend fails in the middle
//     of one, the client's connection is cut; when a client fails in the middle
//     of its body, so is the backend's.
//   - Nothing is buffered whole. Bodies flow both ways as they arrive, without
//     trailers. An idle connection keeps no more than a small message needs.
//   - Requests are spread over backends that serve one and the same store. As
//     long as two are known to serve different ones, every request is refused.
//   - A request that has come through this gateway before is refused.
//   - What the gateway asks its backends for itself does not grow with its clients:
//     those who wait for the same probe or report of health share it.
//
// It does not use net/http between client and backend: its server and its client
// start goroutines, and switch between them, for every request, which took three
// quarters of the gateway's processor time. Here one goroutine reads a request,
// sends it, reads the answer and sends that; only a body that is still on its way,
// and a client that waits long, have another one.
package proxy
