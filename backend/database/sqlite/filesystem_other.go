//go:build !linux && !darwin

package sqlite

// diskSpace is not known here: a copy that finds no room fails when the disk is full.
func diskSpace(string) (free, size int64, known bool) { return 0, 0, false }

// ownerOf knows nothing here.
func ownerOf(string) (uid, gid int, ok bool) { return 0, 0, false }
