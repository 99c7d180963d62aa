package database

import (
	"errors"
	"fmt"
	"strings"
)

// sqliteScheme begins the URL of an SQLite database.
const sqliteScheme = "sqlite:"

// ParseURL returns the path of the file that a database URL names. The form is
// sqlite:PATH; a relative path is relative to the working directory.
func ParseURL(url string) (path string, err error) {
	path, ok := strings.CutPrefix(url, sqliteScheme)
	if !ok {
		return "", fmt.Errorf("must be %sPATH, such as sqlite:data/kv_store.db; no other database is supported", sqliteScheme)
	}
	path = strings.TrimPrefix(path, "//")
	switch {
	case path == "":
		return "", errors.New("must name a file, as in sqlite:data/kv_store.db")
	case strings.HasPrefix(path, ":memory:"):
		return "", errors.New("must name a file: a database in memory would lose what it acknowledged")
	case strings.ContainsAny(path, "?#\x00"):
		return "", errors.New("must be a plain path without ?, # or NUL; it takes no options")
	}
	return path, nil
}
