// Package access decides who may do what. A Guard reads a file of tokens, looks at
// the token that a request brings, and says whether the request may go on to a
// backend and what it may see there. What it guarantees:
//
//   - Nobody but the bearer of a token that is in the file and has not expired gets
//     anything but the few open paths (routes.go says which). A path that is not known here
//     is not forwarded, so that what a backend learns later is closed until it has a
//     right of its own.
//   - A rule's prefix is compared with the key that the backend will read: the path
//     is percent-decoded once, whole, as the backend does it.
//   - A change of the file is in force within a second. From one request to the next
//     either the old rules hold or the new ones, never a mixture. A file that has
//     mistakes, is gone, or is still being written changes nothing.
//   - Tokens are kept and compared as SHA-256 digests only. A token is 256 random
//     bits, which nobody finds by trying, so that a slow hash as passwords need it
//     would cost every request milliseconds and gain nothing.
package access
