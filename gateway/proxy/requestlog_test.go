package proxy_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"kvstore/gateway/proxy"
)

// Requests that failed or were slow are logged once, without tokens, and no others. Those over a
// limit are logged elsewhere.
func TestRequestLog(t *testing.T) {
	g := start(t, nil, newBackend(t, "s", func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusOK
		if r.URL.Path == "/get/slow" {
			time.Sleep(proxy.SlowRequest) // it is what makes the request a slow one
		}
		_, _ = fmt.Sscanf(r.URL.Path, "/get/%d", &status)
		w.WriteHeader(status)
	}).URL)
	wants := []struct{ target, logged, line string }{
		{"/get/200", "/get/200", ""},
		{"/get/304", "/get/304", ""},
		{"/get/404", "/get/404", `level=INFO msg="request failed"`},
		{"/get/412?access_token=abc", `"/get/412?access_token=..."`, `level=INFO msg="request failed"`},
		{"/get/429", "/get/429", ""},
		{"/get/500", "/get/500", `level=WARN msg=request `},
		{"/get/503", "/get/503", `level=WARN msg=request `},
		{"/get/slow", "/get/slow", `level=INFO msg="slow request"`},
		{"/metrics", "/metrics", `level=INFO msg="request failed"`},
	}
	lines := 0
	for _, c := range wants {
		g.send(t, "GET "+c.target+" HTTP/1.1\r\nHost: h\r\n\r\n")
		if c.line != "" {
			lines++
		}
	}
	eventually(t, "all lines are there", func() bool { return g.log.count("status=") >= lines })
	for _, c := range wants {
		want := 1
		if c.line == "" {
			want = 0
		}
		if got := g.log.count(c.line, "method=GET uri="+c.logged+" status="); got != want {
			t.Errorf("%s has %d lines, want %d", c.target, got, want)
		}
	}
	if got := g.log.count("status="); got != lines {
		t.Errorf("%d lines, want %d", got, lines)
	}
}
