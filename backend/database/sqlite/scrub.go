package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/mattn/go-sqlite3"

	"kvstore/backend/database"
	"kvstore/backend/kv"
)

const (
	// scrubPatience is how long a step of a pass waits for readers in total.
	scrubPatience = 5 * time.Second
	scrubPause    = 50 * time.Millisecond
	// scrubWait is how long one attempt waits for readers, and writes for it.
	scrubWait = 10 * time.Millisecond
	// scrubPages and scrubLog bound the pages that one step reads and the bytes of the log that it
	// moves, and so how long writes wait.
	scrubPages = 512
	scrubLog   = 1 << 20
)

// Scrub removes what was overwritten or deleted before from the disk: it empties the write-ahead
// log, and overwrites the copies that SQLite leaves in pages when rows move (see gaps.go). Writes
// go on meanwhile. Calls during a pass share the next one. A pass waits for earlier readers; if
// they take longer than scrubPatience, or the disk fails, the error is kv.ErrUnavailable.
//
// A pass goes over the file once:
//
//  1. Empty the log: most of it beside writes, the rest while the writer is held. From then on
//     only the pass empties it, so the log has every page that was written since.
//  2. Read the file without a lock, and note the pages with something in their gaps.
//  3. In steps, each with the writer held: note the pages in the log, empty it, take SQLite's write
//     lock, overwrite the gaps of a bounded number of the noted pages, and drop the cache of
//     the connection. Then yield the writer for as long as that took. Steps run during the scan
//     too, whenever enough pages or enough of the log have gathered.
//  4. When a step leaves no noted page, sync the file.
//
// After that step the log is empty, and no page has been written since it was found clean or
// overwritten. That rows and pages move during the scan does no harm: whatever moves is written,
// and so noted. SQLite's lock and the empty log keep other processes from writing a page while its
// gap is overwritten, so they lose nothing. They could only bring back what they have in their own
// caches, but one process owns the file.
func (f *file) Scrub(ctx context.Context) (gone bool, err error) {
	err = f.scrub(ctx, func(int) {})
	return err == nil, err
}

// scrub calls between, for tests, whenever a pass has released the writer, with the number of
// pages since the last call.
func (f *file) scrub(ctx context.Context, between func(pages int)) error {
	return f.passes.share(ctx, func() error {
		return f.scrubFailed(ctx, (&pass{file: f, between: between, todo: map[int64]struct{}{}}).run(ctx))
	})
}

// scrubFailed tells a failing disk from others, since the values are erased by then.
func (f *file) scrubFailed(ctx context.Context, err error) error {
	failed := database.Translate(f.Writer.WithContext(ctx), "take erased values off the disk", err)
	if kv.ClassOf(failed) != kv.ClassDisk {
		return failed
	}
	return fmt.Errorf("%w: %w", &kv.Error{Kind: kv.ErrUnavailable, Detail: "The values are erased, but the disk failed before " +
		"all copies of them were overwritten; repeat the request"}, err)
}

// passes runs one pass at a time.
type passes struct {
	started atomic.Int64
	turn    chan struct{} // of capacity 1; whoever has filled it owns what follows
	ended   int64         // the number of the last pass that ended
	err     error         // of that pass
}

// share runs a pass, or returns the result of another that began after the call.
func (p *passes) share(ctx context.Context, run func() error) error {
	next := p.started.Load() + 1
	if err := p.begin(ctx); err != nil {
		return err
	}
	defer p.end()
	if p.ended >= next {
		return p.err
	}
	number := p.started.Add(1)
	err := run()
	if ctx.Err() == nil { // else it ended with its caller, and others need another
		p.ended, p.err = number, err
	}
	return err
}

// begin waits until no pass runs. None begins until end is called.
func (p *passes) begin(ctx context.Context) error {
	select {
	case p.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *passes) end() { <-p.turn }

// A pass goes over the file once, see Scrub.
type pass struct {
	file    *file
	between func(pages int)
	log     *os.File // the write-ahead log; nil until it was empty once
	// todo are the pages whose gaps may not be clean: those that the scan has noted, and all that
	// were written since it began.
	todo map[int64]struct{}
}

func (p *pass) run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, p.end(ctx)) }()
	if err := p.step(ctx); err != nil {
		return err
	}
	if err := findGaps(p.file.pages, func(pages []int64) error { return p.found(ctx, pages) }); err != nil {
		return err
	}
	for {
		if err := p.step(ctx); err != nil {
			return err
		}
		if len(p.todo) == 0 {
			return p.file.pages.Sync()
		}
	}
}

// end lets SQLite empty the log by itself again.
func (p *pass) end(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	err := p.file.withWriter(ctx, func(conn *sql.Conn) error {
		_, err := conn.ExecContext(ctx, "PRAGMA wal_autocheckpoint = "+autoCheckpoint)
		return err
	})
	if p.log != nil {
		err = errors.Join(err, p.log.Close())
	}
	return err
}

// found notes pages that the scan has found.
func (p *pass) found(ctx context.Context, pages []int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, number := range pages {
		p.todo[number] = struct{}{}
	}
	p.between(0)
	if size, err := p.file.LogBytes(); err != nil || size < scrubLog && len(p.todo) < scrubPages {
		return err
	}
	return p.step(ctx)
}

// step empties the log and overwrites the gaps of some pages of todo. It tries until no reader is
// in the way.
func (p *pass) step(ctx context.Context) error {
	for began := time.Now(); ; {
		if p.log == nil {
			if err := p.moveMost(ctx); err != nil {
				return err
			}
		}
		done, pages, took, err := p.try(ctx)
		if err != nil {
			return err
		}
		p.between(pages)
		if done && len(p.todo) == 0 {
			return nil
		}
		if done { // another step may follow at once
			yield(ctx, took)
			return ctx.Err()
		}
		if time.Since(began) > scrubPatience {
			return &kv.Error{Kind: kv.ErrUnavailable, Detail: "The values are erased, but a long read (of Litestream or another program) " +
				"still needs the log that has them; repeat the request when it has ended"}
		}
		yield(ctx, scrubPause)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// moveMost moves the log into the file while writes go on, so that little is left for the first
// step. Later steps must not: SQLite may then start the log anew, over frames that changedPages has
// not read.
func (p *pass) moveMost(ctx context.Context) error {
	var busy, frames, moved int64
	err := p.file.Readers.WithContext(ctx).Raw("PRAGMA wal_checkpoint(PASSIVE)").Row().Scan(&busy, &frames, &moved)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

// try is one attempt at a step. It returns how long writes waited for it, and reports false if a
// reader, or a write of another process, is in the way.
func (p *pass) try(ctx context.Context) (done bool, pages int, took time.Duration, err error) {
	err = p.file.withWriter(ctx, func(conn *sql.Conn) error {
		began := time.Now()
		// It is short, and must not leave the connection in a transaction.
		ctx := context.WithoutCancel(ctx)
		err := waitAtMost(ctx, conn, scrubWait, func() (err error) {
			done, err = p.emptyLog(ctx, conn)
			if err == nil && done && len(p.todo) > 0 {
				done, pages, err = p.overwrite(ctx, conn)
			}
			return err
		})
		took = time.Since(began)
		return err
	})
	return done, pages, took, err
}

// emptyLog notes the pages that were written since the log was last empty, empties it, and reports
// whether it could.
func (p *pass) emptyLog(ctx context.Context, conn *sql.Conn) (empty bool, err error) {
	if p.log == nil { // from now on only the pass empties the log
		_, err = conn.ExecContext(ctx, "PRAGMA wal_autocheckpoint = 0")
	} else {
		var frames int
		err = conn.QueryRowContext(ctx, "PRAGMA wal_autocheckpoint").Scan(&frames)
		if err == nil && frames != 0 {
			err = errors.New("the connection that writes was replaced meanwhile")
		}
		if err == nil {
			err = changedPages(p.log, p.todo)
		}
	}
	if err == nil {
		empty, err = truncateLog(ctx, conn)
	}
	if err == nil && empty && p.log == nil {
		p.log, err = os.Open(p.file.logName())
	}
	return empty, err
}

// overwrite clears the gaps of up to scrubPages pages of todo. It holds SQLite's write lock, and
// from an empty log nothing can be moved into the file, so no other process writes those pages
// meanwhile. If one writes now, or has written since the log was emptied, it reports false.
func (p *pass) overwrite(ctx context.Context, conn *sql.Conn) (done bool, pages int, err error) {
	var failure sqlite3.Error
	_, err = conn.ExecContext(ctx, "BEGIN IMMEDIATE")
	if errors.As(err, &failure) && failure.Code == sqlite3.ErrBusy {
		return false, 0, nil
	}
	if err != nil {
		return false, 0, err
	}
	size, err := p.file.LogBytes()
	if done = err == nil && size == 0; done {
		pages, err = p.clearSome()
	}
	// The connection must drop the pages from its cache, or it would write them again.
	_, ended := conn.ExecContext(ctx, "ROLLBACK; PRAGMA shrink_memory")
	return done, pages, errors.Join(err, ended)
}

func (p *pass) clearSome() (pages int, err error) {
	for number := range p.todo {
		if pages == scrubPages {
			break
		}
		if err := clearGap(p.file.pages, number); err != nil {
			return pages, err
		}
		delete(p.todo, number)
		pages++
	}
	return pages, nil
}
