//go:build unix

package database

import (
	"os"
	"syscall"
)

// ownerOf returns who owns that file.
func ownerOf(name string) (uid, gid int, ok bool) {
	info, err := os.Stat(name)
	if err != nil {
		return 0, 0, false
	}
	found, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return int(found.Uid), int(found.Gid), true
}
