//go:build linux || darwin

package sqlite

import (
	"os"
	"syscall"
)

// diskSpace returns how many bytes this program may still write in the file system
// of that path, and the size of it. It reports false when that cannot be known.
func diskSpace(path string) (free, size int64, known bool) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(path, &fs); err != nil {
		return 0, 0, false
	}
	block := int64(fs.Bsize) //nolint:unconvert // the types differ between systems
	return int64(fs.Bavail) * block, int64(fs.Blocks) * block, true
}

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
