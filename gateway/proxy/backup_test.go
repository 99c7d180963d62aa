package proxy_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"kvstore/gateway/proxy"
)

// A backup may begin later than any other answer, since a copy of the whole store is made first.
func TestBackupBeginsLate(t *testing.T) {
	const patience = 50 * time.Millisecond
	release := make(chan struct{})
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/db/backup" || r.URL.Path == "/get/slow" {
			<-release
		}
		io.WriteString(w, "a copy")
	}))
	defer backend.Close()
	g := startGuarded(t, backend.URL, map[string][]string{"operator": {"read,write,admin:"}},
		func(c *proxy.Config) { c.BackendTimeout = patience })
	type answer struct {
		status int
		body   string
	}
	backup := make(chan answer)
	go func() {
		response, body := g.as(t, "operator", "GET", "/db/backup", "")
		backup <- answer{response.StatusCode, body}
	}()
	// A later request times out before the backup begins.
	if response, _ := g.as(t, "operator", "GET", "/get/slow", ""); response.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("another request: %s, want 504", response.Status)
	}
	close(release)
	if got := <-backup; got != (answer{200, "a copy"}) {
		t.Errorf("the backup: %+v", got)
	}
}
