package access

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// defaultInterval puts a change in force within a second: two looks must see it.
	defaultInterval = 500 * time.Millisecond
	// After a look that saw something new, the next comes sooner by this factor.
	hurry = 10
	// mostDoubts is how many looks in a row may each see something new. A file that changes
	// all the time must not keep a revoked token alive.
	mostDoubts = 5
)

// Config is what Open needs.
type Config struct {
	// Path of the file of tokens.
	Path string
	// Logger reports changes of the file, and its mistakes.
	Logger *slog.Logger
	// Interval is the time between two looks at the file. 0 means half a second.
	Interval time.Duration
	// Now is the clock by which tokens expire. nil means time.Now.
	Now func() time.Time
}

// A Guard decides about requests. It is made by Open and ended by Close.
type Guard struct {
	path   string
	logger *slog.Logger
	now    func() time.Time

	// table is replaced as a whole, so that a request is decided by one state of the file.
	table atomic.Pointer[table]

	cancel  context.CancelFunc
	watcher sync.WaitGroup

	// What follows belongs to watch, but for failed.
	text    []byte // of the file that is in force
	unsure  []byte // what the last look saw, if that was new
	doubts  int    // how many looks in a row saw something new
	failure string // of the last look, "" if it succeeded
	failed  atomic.Bool
}

// A State describes the file for operators.
type State struct {
	Tokens int  // in force, expired ones too
	Usable bool // false when the file has changed, and has mistakes or cannot be read
}

// State returns the state at the last look.
func (g *Guard) State() State {
	return State{Tokens: len(g.table.Load().tokens), Usable: !g.failed.Load()}
}

// A table is what one state of the file says.
type table struct {
	// A map lookup does not take constant time, but it compares digests: to learn about a
	// stored digest from the time of a lookup, one would have to choose digests, and so
	// invert SHA-256. The token, which the bearer chooses, is hashed in a time that depends
	// on its length alone.
	tokens map[[sha256.Size]byte]*Token
}

// Open reads the file, and then looks for changes of it until Close. The error is a
// *FileError with every mistake, or says why the file cannot be read.
func Open(cfg Config) (*Guard, error) {
	g := &Guard{path: cfg.Path, logger: cfg.Logger, now: cfg.Now}
	if g.now == nil {
		g.now = time.Now
	}
	if cfg.Interval == 0 {
		cfg.Interval = defaultInterval
	}
	text, mode, err := readFile(g.path)
	if err != nil {
		return nil, err
	}
	if err := g.use(text); err != nil {
		return nil, err
	}
	g.text = text
	g.warnOf(mode)
	ctx, cancel := context.WithCancel(context.Background())
	g.cancel = cancel
	g.watcher.Go(func() { g.watch(ctx, cfg.Interval) })
	return g, nil
}

// Close stops looking at the file.
func (g *Guard) Close() {
	g.cancel()
	g.watcher.Wait()
}

// watch compares the whole file each time. It is small, and so neither a coarse clock of the
// file system nor a link that now leads elsewhere can hide a change.
func (g *Guard) watch(ctx context.Context, interval time.Duration) {
	timer := time.NewTimer(interval)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		g.look()
		if g.doubts > 0 {
			timer.Reset(interval / hurry)
		} else {
			timer.Reset(interval)
		}
	}
}

// look puts the file in force if it has changed, has no mistakes, and is what the previous
// look saw: if it is written in place, only a part of it may be there.
func (g *Guard) look() {
	text, mode, err := readFile(g.path)
	if err == nil {
		if g.failure == "" && bytes.Equal(text, g.text) {
			g.unsure, g.doubts = nil, 0
			return
		}
		if g.doubts < mostDoubts && (g.unsure == nil || !bytes.Equal(text, g.unsure)) {
			g.unsure = text
			g.doubts++
			return
		}
		err = g.use(text)
	}
	g.doubts = 0
	switch {
	case err == nil:
		g.text, g.unsure, g.failure = text, nil, ""
		g.failed.Store(false)
		g.logger.Info("the file of tokens has changed and is in force", "path", g.path, "tokens", len(g.table.Load().tokens))
		g.warnOf(mode)
	case err.Error() != g.failure:
		g.failure = err.Error()
		g.failed.Store(true)
		g.logger.Error("the file of tokens cannot be used; what it said before stays in force", "path", g.path, "cause", g.failure)
	}
}

// warnOf warns of a file that everybody may write. Reading it reveals no token.
func (g *Guard) warnOf(mode fs.FileMode) {
	if mode&0o002 != 0 {
		g.logger.Warn("everybody on this machine may write the file of tokens, and so decide who may do what; chmod o-w it",
			"path", g.path, "mode", fmt.Sprintf("%#o", mode))
	}
}

// use puts text in force unless it has mistakes.
func (g *Guard) use(text []byte) error {
	tokens, err := parse(g.path, text)
	if err != nil {
		return err
	}
	t := &table{tokens: make(map[[sha256.Size]byte]*Token, len(tokens))}
	for _, token := range tokens {
		t.tokens[token.Hash] = token
	}
	g.table.Store(t)
	return nil
}

// readFile returns the contents of the file and its permissions.
func readFile(path string) (text []byte, mode fs.FileMode, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("read the file of tokens: %w", err)
		}
		if errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w (this program runs as user %d)", err, os.Getuid())
		}
	}()
	// Without O_NONBLOCK, opening a pipe would wait for a writer.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s is not a regular file", path)
	}
	text, err = io.ReadAll(io.LimitReader(file, maxFileBytes+1))
	return text, info.Mode().Perm(), err
}

// A Grant is what a request may do. The zero Grant is that of open paths.
type Grant struct {
	// Head is the header lines that describe the bearer to a backend, each with its CR LF.
	Head []byte

	table *table
	token *Token
}

// Holds reports whether the grant is still valid, for long answers: the token has not
// expired, and it is still in the file with the same rules.
func (g *Guard) Holds(grant Grant) bool {
	if grant.token == nil {
		return true
	}
	if grant.token.ExpiredAt(g.now()) {
		return false
	}
	t := g.table.Load()
	if t == grant.table {
		return true
	}
	token := t.tokens[grant.token.Hash]
	return token != nil && token.Name == grant.token.Name && slices.Equal(token.Rules, grant.token.Rules) && !token.ExpiredAt(g.now())
}
