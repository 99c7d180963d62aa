package main_test

import (
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// TestStopEndsStreams checks that the program stops even if a client watches, that all
// events are complete, and that the stream can be resumed after a restart.
func TestStopEndsStreams(t *testing.T) {
	env := map[string]string{"KV_DATABASE_URL": "sqlite:" + filepath.Join(t.TempDir(), "kv.db"), "KV_MAX_WATCHERS": "1"}
	first := boot(t, env)
	response, err := http.Get(first.url + "/watch")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if status, body := first.request(t, "GET", "/watch", ""); status != 503 || !strings.Contains(body, "too_many_watchers") {
		t.Errorf("a second watcher of one: %d %s", status, body)
	}
	for range 2 {
		if status, body := first.request(t, "PUT", "/put/k", `{"value":1}`); status != 200 {
			t.Fatal(status, body)
		}
	}
	first.stop()
	if err := <-first.result; err != nil { // a drain that took too long would be an error
		t.Errorf("the stopped program returned %v", err)
	}
	text, err := io.ReadAll(response.Body)
	if err != nil || !strings.Contains(string(text), "\nid: 1\n") || !strings.HasSuffix(string(text), "}\n\n") || strings.Count(string(text), "event: put\n") != 2 {
		t.Errorf("the stream was %q, %v", text, err)
	}
	second := boot(t, env)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, second.url+"/watch", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Last-Event-ID", "1")
	if response, err = http.DefaultClient.Do(request); err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	second.stop()
	if err := <-second.result; err != nil {
		t.Errorf("the stopped program returned %v", err)
	}
	if _, err := io.ReadAll(response.Body); err != nil {
		t.Errorf("the stream ends with %v", err)
	}
}
