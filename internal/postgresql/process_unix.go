//go:build unix && !linux

package postgresql

import "syscall"

func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: User(), Setpgid: true}
}
