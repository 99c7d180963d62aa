package supervise

import (
	"bytes"
	"fmt"
	"io"
	"sync"
)

// maxLine bounds the bytes of an incomplete line; longer lines are split.
const maxLine = 64 << 10

// lines is a writer that several programs share, one whole line at a time.
type lines struct {
	mu  sync.Mutex
	out io.Writer
}

func newLines(out io.Writer) *lines { return &lines{out: out} }

// printf writes a line of the supervisor itself.
func (l *lines) printf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.out, format+"\n", args...)
}

// prefixed returns a writer that prefixes each line with name, padded to width.
func (l *lines) prefixed(name string, width int) *prefixWriter {
	return &prefixWriter{lines: l, prefix: fmt.Appendf(nil, "%-*s | ", width, name)}
}

// A prefixWriter is not safe for concurrent use.
type prefixWriter struct {
	lines   *lines
	prefix  []byte
	partial []byte // an incomplete line
}

// Write never fails, because a child must not die if its output cannot be written.
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

// flush writes an incomplete last line.
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
