package proxy_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kvstore/internal/telemetry"
)

func TestOwnRoutes(t *testing.T) {
	asked := make(chan string, 100)
	g := start(t, neverAgain, newBackend(t, "s", func(w http.ResponseWriter, r *http.Request) {
		asked <- r.RequestURI
		w.WriteHeader(http.StatusNotFound)
	}).URL)
	t.Run("healthz", func(t *testing.T) {
		for _, method := range []string{"GET", "HEAD"} {
			response, body := do(t, method, g.URL+"/healthz", nil, nil)
			if response.StatusCode != http.StatusOK || response.ContentLength != 16 || response.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s: %s %v", method, response.Status, response.Header)
			}
			if want := "{\"status\":\"ok\"}\n"; method == "GET" && body != want {
				t.Errorf("got %q", body)
			}
		}
	})
	t.Run("not for the outside", func(t *testing.T) {
		for _, target := range []string{"/readyz", "/metrics", "/%72eadyz", "/metric%73", "/readyz?a", "http://h/metrics", "/db/compact", "/db%2Fcompact", "/%64%62%2f%63%6f%6d%70%61%63%74", "/db/backup", "/db%2Fbackup", "/%64%62%2f%62%61%63%6b%75%70"} {
			for _, method := range []string{"GET", "POST"} {
				response, body := g.send(t, method+" "+target+" HTTP/1.1\r\nHost: h\r\n\r\n")
				wantProblem(t, response, body, http.StatusNotFound, "not_found", "")
			}
		}
	})
	t.Run("wrong method", func(t *testing.T) {
		for _, path := range []string{"/health", "/healthz"} {
			for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS"} {
				response, body := do(t, method, g.URL+path, nil, nil)
				wantProblem(t, response, body, http.StatusMethodNotAllowed, "method_not_allowed", method+" is not allowed here; allowed: GET, HEAD")
				if allow := response.Header.Get("Allow"); allow != "GET, HEAD" {
					t.Errorf("Allow: %s", allow)
				}
			}
		}
	})
	t.Run("parameters", func(t *testing.T) {
		for _, path := range []string{"/health", "/healthz", "/%68ealthz"} {
			for query, code := range map[string]string{"x=1": "unknown_parameter", "_=1&verbose": "unknown_parameter", "=": "unknown_parameter"} {
				response, body := g.send(t, "GET "+path+"?"+query+" HTTP/1.1\r\nHost: h\r\n\r\n")
				wantProblem(t, response, body, http.StatusUnprocessableEntity, code, "")
			}
			response, body := g.send(t, "GET "+path+"?%zz HTTP/1.1\r\nHost: h\r\n\r\n")
			wantProblem(t, response, body, http.StatusBadRequest, "malformed_query", "")
			if response, _ := g.send(t, "GET "+path+"?_=1&_x&_=2 HTTP/1.1\r\nHost: h\r\n\r\n"); response.StatusCode == http.StatusUnprocessableEntity {
				t.Errorf("%s with what busts caches: %s", path, response.Status)
			}
		}
	})
	t.Run("conditions", func(t *testing.T) {
		for _, path := range []string{"/health", "/healthz"} {
			for _, name := range []string{"If-Match", "If-None-Match"} {
				response, body := g.send(t, "GET "+path+" HTTP/1.1\r\nHost: h\r\n"+name+": \"1\"\r\n\r\n")
				wantProblem(t, response, body, http.StatusBadRequest, "unsupported_condition", name+": is not a condition of this request")
			}
		}
	})
	if len(asked) > 0 {
		t.Fatalf("forwarded: %s", <-asked)
	}
	t.Run("all others are the backend's", func(t *testing.T) {
		for _, target := range []string{"/", "/healthz/", "/health/x", "//readyz", "/metrics/", "/Metrics", "/docs", "/get/readyz"} {
			response, _ := g.send(t, "GET "+target+" HTTP/1.1\r\nHost: h\r\n\r\n")
			if got := receive(t, "the request", asked); got != target || response.StatusCode != http.StatusNotFound {
				t.Errorf("%s: %s, %s", target, got, response.Status)
			}
		}
	})
}

// saying returns a backend that answers /health like this.
func saying(t *testing.T, status int, body string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" {
			fmt.Fprint(w, `{"status":"ok","store":"s"}`)
			return
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func rawBackendThatHangs(t *testing.T) string {
	t.Helper()
	return rawBackend(t, func(_ net.Conn, r *bufio.Reader) { _, _ = r.ReadString(0) })
}

func TestHealth(t *testing.T) {
	const (
		well       = `{"status":"ok","backend":{"status":"ok","version":"v","store":"s"},"database":{"status":"ok","extra":1}}`
		noDatabase = `{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"d","code":"unhealthy",` +
			`"backend":{"status":"ok","version":"v","store":"s"},"database":{"status":"failed","detail":"disk is full"}}`
		broken  = `{"status":503,"backend":{"status":"failed","detail":"writer has stopped"},"database":{"status":"ok"}}`
		unknown = `{"status":"unknown","detail":"no backend has told"}`
	)
	gone := `{"status":"failed","healthy":0,"configured":1,"detail":"Backend service is unavailable"}`
	for name, test := range map[string]struct {
		backends          []string
		ok                bool
		backend, database string
	}{
		"well":            {[]string{saying(t, 200, well)}, true, `{"status":"ok","version":"v","healthy":1,"configured":1,"store":"s"}`, `{"status":"ok","extra":1}`},
		"no database":     {[]string{saying(t, 503, noDatabase)}, false, `{"status":"ok","version":"v","healthy":0,"configured":1,"store":"s"}`, `{"status":"failed","detail":"disk is full"}`},
		"backend failed":  {[]string{saying(t, 503, broken)}, false, `{"status":"failed","healthy":0,"configured":1,"detail":"writer has stopped"}`, `{"status":"ok"}`},
		"contradiction":   {[]string{saying(t, 503, well)}, false, `{"status":"failed","version":"v","healthy":0,"configured":1,"store":"s","detail":"/health answers 503"}`, `{"status":"ok","extra":1}`},
		"no report":       {[]string{saying(t, 200, `{"status":"ok"}`)}, false, gone, unknown},
		"no JSON":         {[]string{saying(t, 200, `hello`)}, false, gone, unknown},
		"unreachable":     {[]string{closedAddress(t)}, false, gone, unknown},
		"hangs":           {[]string{rawBackendThatHangs(t)}, false, gone, unknown},
		"one of two":      {[]string{closedAddress(t), saying(t, 200, well)}, true, `{"status":"ok","version":"v","healthy":1,"configured":2,"store":"s"}`, `{"status":"ok","extra":1}`},
		"the second well": {[]string{saying(t, 503, noDatabase), saying(t, 200, well)}, true, `{"status":"ok","version":"v","healthy":1,"configured":2,"store":"s"}`, `{"status":"ok","extra":1}`},
		"none of two":     {[]string{closedAddress(t), saying(t, 503, noDatabase)}, false, `{"status":"ok","version":"v","healthy":0,"configured":2,"store":"s"}`, `{"status":"failed","detail":"disk is full"}`},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, neverAgain, test.backends...)
			response, body := get(t, g.URL+"/health")
			var got struct {
				Status                     any
				Gateway, Backend, Database json.RawMessage
			}
			if err := json.Unmarshal([]byte(body), &got); err != nil {
				t.Fatal(err)
			}
			if test.ok {
				if response.StatusCode != http.StatusOK || got.Status != "ok" || response.Header.Get("Cache-Control") != "no-store" {
					t.Errorf("%s %s", response.Status, body)
				}
			} else {
				wantProblem(t, response, body, http.StatusServiceUnavailable, "unhealthy", "Service is unhealthy")
			}
			parts := []string{string(got.Gateway), string(got.Backend), string(got.Database)}
			want := []string{`{"status":"ok","version":"` + telemetry.Version + `"}`, test.backend, test.database}
			if diff := cmp.Diff(want, parts); diff != "" {
				t.Error(diff)
			}
			if strings.Contains(body, "127.0.0.1") {
				t.Errorf("shows an address: %s", body)
			}
			if head, empty := do(t, http.MethodHead, g.URL+"/health", nil, nil); head.StatusCode != response.StatusCode || empty != "" {
				t.Errorf("HEAD: %s", head.Status)
			}
		})
	}
}
