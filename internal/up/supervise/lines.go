package supervise

import (
	"bytes"
	"fmt"
	"io"
	"sync"
)

// maxLine bounds what is kept of a line that has not ended yet; a longer one is
// cut in pieces.
const maxLine = 64 << 10

// lines lets several writers share one, a whole line at a time.
type lines struct {
	mu  sync.Mutex
	out io.Writer
}

func newLines(out io.Writer) *lines { return &lines{out: out} }

// printf writes one line of the supervisor itself.
func (l *lines) printf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.out, format+"\n", args...)
}

// prefixed returns a writer that puts name, padded to width, before each line.
func (l *lines) prefixed(name string, width int) *prefixWriter {
	return &prefixWriter{lines: l, prefix: fmt.Appendf(nil, "%-*s | ", width, name)}
}

// A prefixWriter is for one goroutine at a time.
type prefixWriter struct {
	lines   *lines
	prefix  []byte
	partial []byte // the start of a line whose end has not been written yet
}

// Write never fails: a child must not die because nobody reads what it writes.
func (w *prefixWriter) Write(p []byte) (int, error) {
	w.partial = append(w.partial, p...)
	rest := w.partial
	for {
		line, after, found := bytes.Cut(rest, []byte("\n"))
		if !found {
			break
		}
		w.emit(line)
		rest = after
	}
	w.partial = append(w.partial[:0], rest...)
	if len(w.partial) > maxLine {
		w.flush()
	}
	return len(p), nil
}

// flush writes out a last line that has no end.
func (w *prefixWriter) flush() {
	if len(w.partial) > 0 {
		w.emit(w.partial)
		w.partial = w.partial[:0]
	}
}

func (w *prefixWriter) emit(line []byte) {
	w.lines.mu.Lock()
	defer w.lines.mu.Unlock()
	text := make([]byte, 0, len(w.prefix)+len(line)+1)
	text = append(append(append(text, w.prefix...), line...), '\n')
	_, _ = w.lines.out.Write(text)
}
