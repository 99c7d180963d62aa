//go:build unix && !linux

package postgresql

import "syscall"

// ProcessAttributes makes a child run as the user of the servers.
func ProcessAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: User(), Setpgid: true}
}

// alone returns false: there are no user namespaces.
func alone() bool { return false }
