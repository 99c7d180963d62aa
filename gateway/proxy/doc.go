// Package proxy is the gateway: it decides about requests, and package h1 forwards them. What it
// guarantees in addition to what h1 does:
//
//   - Requests go only to backends that serve one and the same store, and to healthy ones first.
//     While two backends are known to serve different stores, all requests are refused. So is a
//     request that came through this gateway before.
//   - Reads are spread over the healthy backends. Writes go to the first of them, in the order in
//     which they are configured, whichever gateway gets them; no answer depends on that.
//   - Every answer has exactly one X-Request-Id, the client's if it is sane, which the backend
//     gets too. Every answer has the same strict headers for browsers. The backend gets Via and
//     the X-Forwarded headers with this hop.
//   - With access control, a request goes on only with a token that gives the right to it. The
//     token itself ends here. A backend gets what package access says of its bearer, and a
//     client cannot forge that. A stream ends when its token does.
//   - No client has more than its share: of requests in a second, of requests and of streams in
//     flight. What is refused says which limit it exceeds.
//   - The questions that the gateway itself asks of backends do not multiply with clients: those
//     who wait for the same probe or report of health share it.
//   - Every request is counted, and its label is a route, never a path.
//
// Traefik bounds the size of headers and the time of a request as well. The gateway keeps its own
// bounds for clients that do not come through Traefik, and because its answers say why.
package proxy
