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

// A lockedBuffer has a lock because a timer writes to it too.
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

// If there are too many lines with the same message, the log has some of them and the
// number of the rest. Other messages are not affected.
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
		t.Errorf("the other message is missing: %.300s", text)
	}
}

// Messages that contain the addresses of clients fill neither the memory nor the log.
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

// At debug level, which is for seeing every request, no line is dropped.
func TestLogDebugIsComplete(t *testing.T) {
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

func TestWithoutTokens(t *testing.T) {
	const token = "kv_KzVAlHO0RRVGcrIkg9sa0jJ_tzVhF3B2oYt30QVFB7w"
	for url, want := range map[string]string{
		"/get/app/k?version=1":                         "/get/app/k?version=1",
		"/get/kv_store/k":                              "/get/kv_store/k",
		"/get/k?access_token=" + token:                 "/get/k?access_token=...",
		"/get/k?raw=true&Token=a.b&x&%62earer=c&d=":    "/get/k?raw=true&Token=...&x&%62earer=...&d=",
		"/get/k?api_key=a=b&auth_token=a;b?c&token&":   "/get/k?api_key=...&auth_token=...&token&",
		"/get/k?a=%zz&%zz=1&nottoken=1":                "/get/k?a=%zz&%zz=1&nottoken=1",
		"/get/" + token + "?":                          "/get/kv_...?",
		"/get/k?a=" + token + "&b=" + token + "&raw=1": "/get/k?a=kv_...&b=kv_...&raw=1",
		"/get/" + token + "/k":                         "/get/kv_.../k",
		"/get/k?t=kv%5F" + token[3:]:                   "/get/k?t=kv_...",
	} {
		if got := telemetry.WithoutTokens(url); got != want {
			t.Errorf("%s is %s", url, got)
		}
	}
}
