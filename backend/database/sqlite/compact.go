package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"kvstore/backend/database"
	"kvstore/backend/kv"
)

// compactPages bounds one step of Compact.
const compactPages = 256

// Compact gives up to compactPages free pages of the file back to the disk, in one short
// transaction. It waits for a pass of Scrub. The file shrinks when the write-ahead log is moved into
// it: with the call that leaves nothing free, unless a read is in the way, or within some
// thousand pages of writes.
func (f *file) Compact(ctx context.Context) (kv.Compaction, error) {
	var done kv.Compaction
	if err := f.passes.begin(ctx); err != nil { // a pass must see all of the log before it is emptied
		return done, err
	}
	defer f.passes.end()
	err := f.withWriter(ctx, func(conn *sql.Conn) error {
		before, _, err := countPages(ctx, conn)
		if err != nil {
			return err
		}
		if err := vacuumPages(ctx, conn, compactPages); err != nil {
			return err
		}
		after, free, err := countPages(ctx, conn)
		if err != nil {
			return err
		}
		done = kv.Compaction{Freed: (before - after) * pageSize, Free: free * pageSize, Bytes: after * pageSize}
		if free == 0 {
			err = waitAtMost(ctx, conn, scrubWait, func() error {
				_, err := truncateLog(ctx, conn)
				return err
			})
		}
		return err
	})
	return done, database.Translate(f.Writer.WithContext(ctx), "compact", err)
}

// vacuumPages reads all rows of the pragma, which frees one page for each.
func vacuumPages(ctx context.Context, conn *sql.Conn, pages int) error {
	rows, err := conn.QueryContext(ctx, fmt.Sprintf("PRAGMA incremental_vacuum(%d)", pages))
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // rows.Err has told of it
	for rows.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return rows.Err()
}

func countPages(ctx context.Context, conn *sql.Conn) (all, free int64, err error) {
	err = conn.QueryRowContext(ctx, "SELECT (SELECT page_count FROM pragma_page_count), (SELECT freelist_count FROM pragma_freelist_count)").
		Scan(&all, &free)
	return all, free, err
}
