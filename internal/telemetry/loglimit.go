package telemetry

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// mostLines is how many lines with one message a log has in one window: enough to
	// see what happens, and little however many clients are refused.
	mostLines = 20
	logWindow = time.Second
	// mostMessages bounds what is kept. Messages are constants, but for those of
	// net/http, which name clients.
	mostMessages = 256
	otherMessage = "(others)"
)

// limitHandler leaves out what one message has too many of within a second, and tells
// at its end how many lines that were. Of the libraries that sample lines none tells
// it.
type limitHandler struct {
	slog.Handler

	limit *lineLimit
}

func newLimitHandler(to slog.Handler) limitHandler {
	return limitHandler{to, &lineLimit{to: to, counts: map[string]*lineCount{}}}
}

func (h limitHandler) Handle(ctx context.Context, record slog.Record) error {
	if !h.limit.admit(record.Message, record.Level) {
		return nil
	}
	return h.Handler.Handle(ctx, record)
}

func (h limitHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return limitHandler{h.Handler.WithAttrs(attrs), h.limit}
}

func (h limitHandler) WithGroup(name string) slog.Handler {
	return limitHandler{h.Handler.WithGroup(name), h.limit}
}

// lineLimit counts the lines of the window that runs. A window begins with its first
// line and ends by a timer, so that an idle program has none.
type lineLimit struct {
	to slog.Handler

	mu      sync.Mutex // guards all below
	counts  map[string]*lineCount
	running bool
}

type lineCount struct {
	lines int
	level slog.Level // the highest
}

func (l *lineLimit) admit(message string, level slog.Level) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	count := l.counts[message]
	if count == nil && len(l.counts) >= mostMessages {
		message = otherMessage
		count = l.counts[message]
	}
	if count == nil {
		count = &lineCount{level: level}
		l.counts[message] = count
	}
	if !l.running {
		l.running = true
		time.AfterFunc(logWindow, l.endWindow)
	}
	count.lines++
	count.level = max(count.level, level)
	return count.lines <= mostLines
}

func (l *lineLimit) endWindow() {
	l.mu.Lock()
	ended := l.counts
	l.counts, l.running = map[string]*lineCount{}, false
	l.mu.Unlock()
	for message, count := range ended {
		if count.lines <= mostLines {
			continue
		}
		record := slog.NewRecord(time.Now(), count.level, "lines were left out", 0)
		record.AddAttrs(slog.String("message", message), slog.Int("count", count.lines-mostLines))
		_ = l.to.Handle(context.Background(), record) // who could be told?
	}
}
