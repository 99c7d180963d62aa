// Package access decides who may do what. A Guard reads a file of tokens, and Check looks at
// the token that a request brings. It answers what the bearer may do, and what a backend is
// told of the bearer. What it guarantees:
//
//   - Without a valid token of the file, only the open routes answer (routes.go lists
//     them). A path that is not known here is not forwarded, so that what a backend learns
//     later is closed until it has a right of its own.
//   - A rule's prefix is compared with the key that the backend will read: the path is
//     percent-decoded once, whole, as the backend does it.
//   - A change of the file is in force within a second. Each request is decided by the old
//     rules or by the new ones, never by a mixture. A file that has mistakes, is gone, or is
//     still being written changes nothing.
//   - Tokens are stored and compared as SHA-256 digests only. A token is 256 random bits,
//     which nobody can guess, so a slow hash as for passwords would cost each request
//     milliseconds and gain nothing.
//
// It leaves to its user what a route does, and to drop from requests the headers that
// describe a bearer.
package access
