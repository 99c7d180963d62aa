package telemetry_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"kvstore/internal/telemetry"
)

// lockedBuffer is written by a timer too.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// However many lines a message has, the log has some of them and the number of the
// rest, and all of another message.
func TestLogFlood(t *testing.T) {
	const flood = 10_000
	var out lockedBuffer
	logger, err := telemetry.NewLogger(&out, "info", "json")
	if err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for range flood / 4 {
				logger.Warn("flood", "status", 503)
			}
		})
	}
	writers.Wait()
	logger.With("a", 1).WithGroup("g").Error("another", "b", 2)
	kept, leftOut := 0, 0
	for deadline := time.Now().Add(30 * time.Second); kept+leftOut < flood && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		kept, leftOut = strings.Count(out.String(), `"msg":"flood"`), 0
		for line := range strings.Lines(out.String()) {
			var l struct {
				Level, Msg, Message string
				Count               int
			}
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				t.Fatalf("%v: %q", err, line)
			}
			if l.Msg == "lines were left out" && l.Message == "flood" && l.Level == "WARN" {
				leftOut += l.Count
			}
		}
	}
	if kept+leftOut != flood || kept == 0 || kept > flood/10 {
		t.Errorf("%d lines, %d left out, of %d", kept, leftOut, flood)
	}
	if text := out.String(); !strings.Contains(text, `"msg":"another","a":1,"g":{"b":2}`) {
		t.Errorf("the other message is not there: %.300s", text)
	}
}

// Messages that name clients do not make the memory grow, nor the log.
func TestLogFloodOfManyMessages(t *testing.T) {
	var out lockedBuffer
	logger, err := telemetry.NewLogger(&out, "info", "text")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10_000 {
		logger.Warn("from client " + time.Duration(i).String())
	}
	if n := strings.Count(out.String(), "\n"); n > 3000 {
		t.Errorf("%d lines", n)
	}
}

// At debug level, which is asked for to see each request, no line is left out.
func TestLogDebugHasAll(t *testing.T) {
	var out lockedBuffer
	logger, err := telemetry.NewLogger(&out, "debug", "json")
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		logger.Info("line")
	}
	if n := strings.Count(out.String(), "\n"); n != 1000 {
		t.Errorf("%d lines of 1000", n)
	}
}
