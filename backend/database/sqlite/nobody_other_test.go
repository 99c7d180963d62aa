//go:build unix && !linux

package sqlite_test

import "syscall"

// asNobodyHere has a child of root run as the user nobody.
func asNobodyHere() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
}
