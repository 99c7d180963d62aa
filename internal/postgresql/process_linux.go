package postgresql

import "syscall"

// processAttributes lets the server die with this process.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: User(), Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
