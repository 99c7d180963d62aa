package sqlite

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/gofrs/flock"
)

// A Lock says that this process owns a database file. It stands beside the file,
// as FILE.lock, names its owner in plain text, and ends with the process however
// that dies.
type Lock struct {
	file *flock.Flock
}

// ErrInUse says that another process has the database open.
var ErrInUse = errors.New("is in use by another process")

// AcquireLock takes the lock of the database file at path, or fails with the name
// of the process that holds it; then the error wraps ErrInUse.
func AcquireLock(path string) (*Lock, error) {
	name := path + ".lock"
	file := flock.New(name, flock.SetPermissions(0o640))
	locked, err := file.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock the database: %w", err)
	}
	if !locked {
		owner, _ := os.ReadFile(name) // only for the message
		return nil, fmt.Errorf("%s %w (%s); stop it first, a store belongs to one process at a time. "+
			"(If that host is the id of a container, stop the container: docker compose stop backend)",
			path, ErrInUse, ownerOr("unknown", string(owner)))
	}
	host, _ := os.Hostname() // only for the message
	owner := fmt.Sprintf("pid %d on host %s\n", os.Getpid(), host)
	if err := os.WriteFile(name, []byte(owner), 0o640); err != nil {
		return nil, fmt.Errorf("lock the database: %w", errors.Join(err, file.Close()))
	}
	likeItsDirectory(name)
	return &Lock{file: file}, nil
}

func ownerOr(fallback, owner string) string {
	if owner = strings.TrimSpace(owner); owner == "" {
		return fallback
	}
	return owner
}

// Release gives the lock back.
func (l *Lock) Release() error { return l.file.Close() }
