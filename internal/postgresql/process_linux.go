package postgresql

import "syscall"

// ProcessAttributes makes a child run as the user of the servers, and die with this process.
func ProcessAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: User(), Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
