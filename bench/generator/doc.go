// Package generator sends requests to a store and checks every answer.
//
// It is one thread with one epoll instance for all connections. Each connection
// has one request under way: the next is sent when the answer is there. Such a
// loop takes three system calls for a request, and fewer when several answers
// wait at once. A goroutine for each connection takes at least one more, to
// find that nothing is there to read yet, and the scheduler's work besides; here
// the generator and the store share the cores, so what one spends the other
// lacks. The loop is the same for every store that is reached over a socket.
// Once it runs it allocates nothing.
package generator
