//go:build unix

package postgres

import (
	"net"
	"syscall"
)

// hasInput reports whether there is something to read from a connection that nobody has asked for: most
// often its end.
func hasInput(conn net.Conn) (found bool) {
	for {
		wrapped, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		conn = wrapped.NetConn()
	}
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return true
	}
	// Not by raw.Read, which would wait for a goroutine of the driver that may be reading.
	err = raw.Control(func(fd uintptr) {
		var one [1]byte
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK)
		found = err != syscall.EAGAIN && err != syscall.EWOULDBLOCK
	})
	return found || err != nil
}
