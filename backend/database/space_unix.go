//go:build linux || darwin

package database

import "syscall"

// freeSpace returns how many bytes this program may still write in the file system
// of that directory. It reports false when that cannot be known.
func freeSpace(dir string) (bytes int64, known bool) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return 0, false
	}
	return int64(fs.Bavail) * int64(fs.Bsize), true //nolint:unconvert // the types differ between systems
}
