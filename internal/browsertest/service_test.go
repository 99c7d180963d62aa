//go:build browser

package browsertest_test

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

const (
	service = "http://127.0.0.1:8000"
	root    = "../.." // of the repository
	// patience bounds the start of the service, also on a busy machine.
	patience = time.Minute
)

// startService runs the three programs with an empty store until the test ends.
func startService(t *testing.T) {
	t.Helper()
	var log bytes.Buffer
	up := exec.Command("bin/up")
	up.Dir, up.Stdout, up.Stderr = root, &log, &log
	up.Env = append(os.Environ(), "KV_DATABASE_URL=sqlite:"+filepath.Join(t.TempDir(), "kv_store.db"))
	if err := up.Start(); err != nil {
		t.Fatalf("start bin/up (task test:browser builds it): %v", err)
	}
	t.Cleanup(func() {
		_ = up.Process.Signal(syscall.SIGTERM)
		if err := up.Wait(); err != nil || t.Failed() {
			t.Logf("bin/up ended: %v; its log:\n%s", err, log.Bytes())
		}
	})
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		response, err := http.Get(service + "/health")
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("the service is not healthy after %v: %v", patience, err)
		}
	}
}

// startBrowser returns the context of a page in Chromium.
func startBrowser(t *testing.T) context.Context {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, // CI runs as root
		chromedp.WindowSize(1280, 2000),
	)
	allocated, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(allocated)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	return ctx
}
