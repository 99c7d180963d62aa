package sqlite

import (
	"context"
	"database/sql"
	"io"
	"os"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/mattn/go-sqlite3"
	"gorm.io/gorm"

	"kvstore/backend/database"
)

func fileOf(db *database.DB) *file { return db.Engine.(*file) }

var pragmaNames = []string{
	"journal_mode", "synchronous", "foreign_keys", "busy_timeout", "wal_autocheckpoint", "auto_vacuum", "query_only",
}

// Pragmas returns what is in force on the writer's connection and on every
// connection of the readers' pool, all of them opened at once.
func Pragmas(t *testing.T, db *database.DB) (writer map[string]string, readers []map[string]string) {
	t.Helper()
	read := func(pool *gorm.DB, n int) []map[string]string {
		conns, err := pool.DB()
		if err != nil {
			t.Fatal(err)
		}
		var all []map[string]string
		for range n {
			conn, err := conns.Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			found := map[string]string{}
			for _, name := range pragmaNames {
				var value string
				if err := conn.QueryRowContext(t.Context(), "PRAGMA "+name).Scan(&value); err != nil {
					t.Fatal(err)
				}
				found[name] = value
			}
			all = append(all, found)
		}
		return all
	}
	return read(fileOf(db).Writer, 1)[0], read(fileOf(db).Readers, max(4, 2*runtime.GOMAXPROCS(0)))
}

// CopyWith is the engine's Copy with something to do after each step.
func CopyWith(db *database.DB, ctx context.Context, between func()) (*database.Copy, error) {
	return fileOf(db).copy(ctx, between)
}

// ScrubWith is Scrub with something to do while a pass has let go of the writer.
func ScrubWith(db *database.DB, ctx context.Context, between func(pages int)) error {
	return fileOf(db).scrub(ctx, between)
}

// Passes is how many passes Scrub has begun.
func Passes(db *database.DB) int64 { return fileOf(db).passes.started.Load() }

// ScrubPages is how many pages a pass looks at while writes wait.
const ScrubPages = scrubPages

// MovePages has that many pages at the end of the file moved to where it has room.
func MovePages(db *database.DB, ctx context.Context, pages int) error {
	return fileOf(db).withWriter(ctx, func(conn *sql.Conn) error { return vacuumPages(ctx, conn, pages) })
}

// Plant puts a mark into the gap of every page of the file that has room for it, and
// returns how many these are. The database must not be open.
func Plant(t testing.TB, path, mark string) (planted int) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	data, err := io.ReadAll(file)
	if err != nil {
		t.Fatal(err)
	}
	for number := int64(mapsFirst); number*pageSize <= int64(len(data)); number++ {
		behind := (number - mapsFirst) % mapPages
		if behind == 0 {
			continue
		}
		offset := (number - 1) * pageSize
		from, to := gapOf(data[offset-behind*pageSize+mapEntry*(behind-1)], data[offset:offset+pageSize])
		if to-from < len(mark) {
			continue
		}
		if _, err := file.WriteAt([]byte(mark), offset+int64(from)); err != nil {
			t.Fatal(err)
		}
		planted++
	}
	return planted
}

// CountPlans returns the same database with other connections for reads, and how many times
// SQLite has asked there whether a statement may read a column, which it does when it plans one.
func CountPlans(t *testing.T, db *database.DB) (*database.DB, *atomic.Int64) {
	t.Helper()
	var asked atomic.Int64
	pool, err := openPool(fileOf(db).path, sharedPragmas(), 1, func(conn *sqlite3.SQLiteConn) error {
		conn.RegisterAuthorizer(func(action int, _, _, _ string) int {
			if action == sqlite3.SQLITE_READ {
				asked.Add(1)
			}
			return sqlite3.SQLITE_OK
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	pools := database.Pools{Writer: pool, Readers: pool, Pinger: pool}
	counting, err := database.New(t.Context(), fileOf(db), pools, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := (database.Pools{Readers: pool}).Close(); err != nil {
			t.Error(err)
		}
	})
	return counting, &asked
}
