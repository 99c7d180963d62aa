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
	// defaultInterval lets a change be in force within a second: two looks must see it.
	defaultInterval = 500 * time.Millisecond
	// A look that saw something new is repeated after this part of the interval.
	hurry = 10
	// mostDoubts is how many looks may see something new each. Somebody who changes the
	// file all the time must not keep a token that was revoked alive.
	mostDoubts = 5
)

// Config is what Open needs.
type Config struct {
	// Path is that of the file of tokens.
	Path string
	// Logger tells of changes of the file, and of its mistakes.
	Logger *slog.Logger
	// Interval is the time between two looks at the file. 0 means half a second.
	Interval time.Duration
	// Now is the clock that tokens expire by. nil means that of the machine.
	Now func() time.Time
}

// A Guard decides about requests. It is made by Open and ended by Close.
type Guard struct {
	path   string
	logger *slog.Logger
	now    func() time.Time

	// table is replaced as a whole: a request looks at one from its beginning to its end.
	table atomic.Pointer[table]

	cancel  context.CancelFunc
	watcher sync.WaitGroup

	text    []byte // of the file that is in force
	unsure  []byte // what the last look saw, when that was something new
	doubts  int    // how many looks in a row were unsure
	failure string // of the last look, "" when there was none
	failed  atomic.Bool
}

// A State is what operators want to know of the file.
type State struct {
	Tokens int  // that are in force, expired ones too
	Usable bool // false: the file has changed, and has mistakes or cannot be read
}

// State returns it as of the last look.
func (g *Guard) State() State {
	return State{Tokens: len(g.table.Load().tokens), Usable: !g.failed.Load()}
}

// A table is what one state of the file says.
type table struct {
	// A look into a map is not of constant time, but what it compares are digests: to
	// learn something about a stored digest from how long the look takes, one would have
	// to choose digests, and so invert SHA-256. What the bearer chose, the token, is
	// hashed whole in a time that depends on its length alone.
	tokens map[[sha256.Size]byte]*Token
}

// Open reads the file and looks at it again from time to time until Close. The error
// is a *FileError, with every mistake, or says why the file cannot be read.
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

// Close ends the looks at the file and waits for that.
func (g *Guard) Close() {
	g.cancel()
	g.watcher.Wait()
}

// watch compares the whole file each time: it is small, and neither a coarse clock of
// the file system nor a link that now leads elsewhere can hide a change.
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

// look takes the file over when it has changed, is whole, and is what the look before
// saw: whoever writes it in place may have written a part of it only.
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

// warnOf warns of a file that others than its owner and group may write. Who reads it
// learns no token.
func (g *Guard) warnOf(mode fs.FileMode) {
	if mode&0o002 != 0 {
		g.logger.Warn("everybody on this machine may write the file of tokens, and so decide who may do what; chmod o-w it",
			"path", g.path, "mode", fmt.Sprintf("%#o", mode))
	}
}

// use puts what text says in force, unless it has mistakes.
func (g *Guard) use(text []byte) error {
	tokens, err := Parse(text)
	if err != nil {
		var mistakes *FileError
		if errors.As(err, &mistakes) {
			mistakes.Path = g.path
		}
		return err
	}
	t := &table{tokens: make(map[[sha256.Size]byte]*Token, len(tokens))}
	for _, token := range tokens {
		t.tokens[token.Hash] = token
	}
	g.table.Store(t)
	return nil
}

// readFile returns what the file holds, and its permissions.
func readFile(path string) (text []byte, mode fs.FileMode, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("read the file of tokens: %w", err)
		}
		if errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w (this program runs as user %d)", err, os.Getuid())
		}
	}()
	// Else opening a pipe waits for somebody who writes into it.
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

// A Grant is what a request may do. The zero Grant is for open paths.
type Grant struct {
	// Head are header lines that tell the backend of the bearer, each with its CR LF.
	Head []byte

	table *table
	token *Token
}

// Holds reports whether the bearer's token still is what it was, as a long answer goes
// on: that it has not expired, and neither it nor its rules were taken out of the file.
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
