// Package generator sends requests to a store and checks every answer.
//
// It uses one thread with one epoll instance for all connections. Each connection sends its next
// request after it has received the answer. This takes three system calls for a request, or fewer
// if several answers arrive at once. A goroutine for each connection would take at least one more,
// to find that there is nothing to read yet, and the work of the scheduler. Generator and store
// share the cores, so the store gets whatever the generator saves. The loop is the same for all
// stores that are reached over a socket, and it does not allocate.
package generator
