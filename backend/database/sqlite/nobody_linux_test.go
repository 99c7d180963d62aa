package sqlite_test

import (
	"os"
	"strings"
	"syscall"
)

// asNobodyHere has a child of root run without root's rights over files: as the user
// nobody, and in a name space of users that has no other user (what "unshare -r" makes)
// as the same user in a name space where it is nobody.
func asNobodyHere() *syscall.SysProcAttr {
	users, err := os.ReadFile("/proc/self/uid_map")
	if err == nil && len(strings.Fields(string(users))) == 3 && strings.Fields(string(users))[2] == "1" {
		return &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
}
