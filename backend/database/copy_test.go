package database_test

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"kvstore/backend/database/databasetest"
	"kvstore/backend/database/postgres/postgrestest"
	"kvstore/backend/database/sqlite"
	"kvstore/backend/kv"
)

// TestCopyWithoutConnection: when the server gives no connection for a copy, that may work again later.
func TestCopyWithoutConnection(t *testing.T) {
	source := postgrestest.Database(t)
	db := databasetest.Open(t, source)
	databasetest.Put(t, db, "k", "1") // all connections that it keeps are open
	parsed, err := url.Parse(source)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(parsed.Path, "/")
	parsed.Path = "/postgres"
	raw := databasetest.Raw(t, parsed.String())
	for _, allow := range []bool{false, true} {
		if _, err := raw.ExecContext(t.Context(), fmt.Sprintf("ALTER DATABASE %s ALLOW_CONNECTIONS %t", name, allow)); err != nil {
			t.Fatal(err)
		}
		made, err := db.Copy(t.Context())
		if allow != (err == nil) || !allow && !errors.Is(err, kv.ErrUnavailable) {
			t.Errorf("connections %t: %v", allow, err)
		}
		if err == nil {
			err = made.Close()
		}
		if err != nil && allow {
			t.Error(err)
		}
	}
}

// TestCopyOnPostgres: a copy of a store on PostgreSQL is one moment, not before the call, and no
// write waits for its end.
func TestCopyOnPostgres(t *testing.T) {
	db := databasetest.Open(t, postgrestest.Database(t))
	keys := []string{"a", "b", "c"}
	write := func() {
		var all []kv.Entry
		for _, key := range keys { // one transaction
			all = append(all, kv.Entry{Key: key, Value: []byte("1")})
		}
		databasetest.Write(t, db, all...)
	}
	for range 300 {
		write()
	}
	var writing sync.WaitGroup
	stop := make(chan struct{})
	writing.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				write()
			}
		}
	})
	defer writing.Wait()
	defer close(stop)
	for range 3 {
		before, err := db.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		made, err := db.Copy(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Copy(t.Context()); !errors.Is(err, kv.ErrCopying) {
			t.Errorf("a second Copy = %v, want ErrCopying", err)
		}
		name := filepath.Join(t.TempDir(), "copy.db")
		data, err := io.ReadAll(made.File)
		if err = errors.Join(err, os.WriteFile(name, data, 0o640), made.Close()); err != nil {
			t.Fatal(err)
		}
		found, err := sqlite.Verify(t.Context(), name)
		if err != nil || found.Totals != made.Totals || found.Revision < before.Revision || found.Versions%3 != 0 || found.Revision != found.Versions {
			t.Errorf("the copy has %+v, %v, and says %+v; it was begun at %+v", found, err, made.Summary, before)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), fmt.Sprintf("kv_store-%d.*", os.Getpid()))); left != nil {
		t.Errorf("left behind: %q", left)
	}
}
