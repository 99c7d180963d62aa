package postgresql

import (
	"os"
	"strings"
	"syscall"
)

// ProcessAttributes makes a child run as the user of the servers, and die with this process.
func ProcessAttributes() *syscall.SysProcAttr {
	attributes := &syscall.SysProcAttr{Credential: User(), Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 && alone() { // the child is root here too, but does not see it
		const anybody = 1000
		one := []syscall.SysProcIDMap{{ContainerID: anybody, HostID: 0, Size: 1}}
		attributes.Cloneflags, attributes.UidMappings, attributes.GidMappings = syscall.CLONE_NEWUSER, one, one
	}
	return attributes
}

// alone reports whether this process is in a user namespace with a single user, as "unshare -r" makes it.
func alone() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	fields := strings.Fields(string(text))
	return err == nil && len(fields) == 3 && fields[2] == "1"
}
