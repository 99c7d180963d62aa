//go:build !unix

package postgres

import "net"

func hasInput(net.Conn) bool { return false }
