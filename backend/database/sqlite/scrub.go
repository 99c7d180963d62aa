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
	// scrubPatience is how long a step of a pass waits for readers in all.
	scrubPatience = 5 * time.Second
	scrubPause    = 50 * time.Millisecond
	// scrubWait is how long one attempt waits for readers. Writes wait for it.
	scrubWait = 10 * time.Millisecond
	// scrubPages and scrubLog bound what one step does, and so how long writes wait for
	// it: pages that it looks at, and bytes of the log that it moves into the file.
	scrubPages = 512
	scrubLog   = 1 << 20
)

// Scrub takes what was overwritten or deleted before off the disk: it moves the
// whole write-ahead log into the file and empties it, and overwrites the copies that
// SQLite leaves in pages when rows move (see findGaps). Writes go on meanwhile. Calls that come
// while a pass runs share the next one. A pass waits
// for readers that began before; when they take longer than some seconds, or the disk
// fails, Scrub returns kv.ErrUnavailable.
//
// A pass goes over the file once:
//
//  1. Move the log into the file beside writes, and the rest while the writer is held, until the
//     log is empty. From then on only the pass moves it, so that it has every page that
//     was written since.
//  2. Read the file without a lock. Remember the pages that have something in their gap.
//  3. In steps, each with the writer held: add the pages that the log has to those, empty
//     the log, take SQLite's lock for writes, look at a bounded number of the pages again,
//     overwrite what is in their gaps, and have the connection forget its pages. Then yield
//     the writer for as long. A step comes when enough pages or enough of the
//     log have gathered, while the file is still being read.
//  4. When a step leaves no page to look at, sync the file.
//
// At the end of that step the log is empty, and each page was either clean when it was read
// and not written since, or has been looked at since it was last written. Rows and whole
// pages may move meanwhile, to where the pass has been: whatever moves is written.
// SQLite's lock and the empty log keep other processes from writing a page between the look
// and the overwriting, so they lose nothing. What they may bring back is what they had in
// memory themselves: one process owns the file.
func (f *file) Scrub(ctx context.Context) error { return f.scrub(ctx, func(int) {}) }

// scrub calls between, for tests, whenever a pass has let go of the writer, with how many
// pages it has looked at since the call before.
func (f *file) scrub(ctx context.Context, between func(pages int)) error {
	return f.passes.share(ctx, func() error {
		return f.scrubFailed(ctx, (&pass{file: f, between: between, todo: map[int64]struct{}{}}).run(ctx))
	})
}

// scrubFailed has words for a disk that fails, since something was done.
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
	turn    chan struct{} // has room for one; whoever has put something there owns what follows
	ended   int64         // the number of the last pass that came to its end
	err     error         // of that pass
}

// share runs a pass, or returns what another did that began after the call of share.
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
	if ctx.Err() == nil { // else the pass ended with its own caller, and the next one runs another
		p.ended, p.err = number, err
	}
	return err
}

// begin waits until no pass runs, and keeps others from running until end.
func (p *passes) begin(ctx context.Context) error {
	select {
	case p.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *passes) end() { <-p.turn }

// A pass looks through the file once.
type pass struct {
	file    *file
	between func(pages int)
	log     *os.File // the write-ahead log; nil until it was empty once
	// todo are the pages that may have something left in their gaps: those in which the
	// scan has found something, and all that were written since it began.
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

// end has SQLite move the log into the file by itself again.
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

// found takes what the scan has found in some pages of the file.
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

// step empties the log and overwrites what is left in some pages of todo. It tries until
// no reader is in the way.
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

// moveMost moves what the log has into the file while writes go on, so that little is left
// for the first step. Later it would not do: SQLite may write the log from its beginning
// again afterwards, over frames that changedPages has not read.
func (p *pass) moveMost(ctx context.Context) error {
	var busy, frames, moved int64
	err := p.file.Readers.WithContext(ctx).Raw("PRAGMA wal_checkpoint(PASSIVE)").Row().Scan(&busy, &frames, &moved)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

// try is one attempt at a step, and returns how long writes waited for it. It reports false
// when a reader, or a write of another process, is in the way.
func (p *pass) try(ctx context.Context) (done bool, pages int, took time.Duration, err error) {
	err = p.file.withWriter(ctx, func(conn *sql.Conn) error {
		began := time.Now()
		// It is short, and the connection must not be left within a transaction.
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

// emptyLog reports whether the log is empty now. Before that it notes the pages that were
// written since it was empty the last time.
func (p *pass) emptyLog(ctx context.Context, conn *sql.Conn) (empty bool, err error) {
	if p.log == nil { // from now on nobody but the pass moves the log
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

// overwrite clears the gaps of scrubPages pages of todo at most. The log must be empty.
//
// It has SQLite's lock for writes meanwhile, and while the log is empty nobody can move
// anything into the file, so no other process writes a page between the look at its layout
// and the overwriting. When one writes now, or has written since the log was emptied,
// overwrite reports false.
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
	// The connection must forget the pages as they were, or it writes them again.
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
