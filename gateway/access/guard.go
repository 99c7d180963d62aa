package access

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const defaultInterval = time.Second

// Config is what Open needs.
type Config struct {
	// Path is that of the file of tokens.
	Path string
	// Logger tells of changes of the file, and of its mistakes.
	Logger *slog.Logger
	// Interval is the time between two looks at the file. 0 means a second.
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

	text    []byte // of the file, as it was read last
	failure string // of the last look, "" when there was none
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
	text, err := readFile(g.path)
	if err != nil {
		return nil, err
	}
	if err := g.use(text); err != nil {
		return nil, err
	}
	g.text = text
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
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			g.look()
		}
	}
}

// look takes the file over when it has changed and is whole.
func (g *Guard) look() {
	text, err := readFile(g.path)
	if err == nil {
		if g.failure == "" && bytes.Equal(text, g.text) {
			return
		}
		err = g.use(text)
	}
	switch {
	case err == nil:
		g.text, g.failure = text, ""
		g.logger.Info("the file of tokens has changed and is in force", "path", g.path, "tokens", len(g.table.Load().tokens))
	case err.Error() != g.failure:
		g.failure = err.Error()
		g.logger.Error("the file of tokens cannot be used; what it said before stays in force", "path", g.path, "cause", g.failure)
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

func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the file of tokens: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the file of tokens: %w", err)
	}
	return text, nil
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
