package proxy_test

import (
	"fmt"
	"net/http"
	"testing"
)

// Every answer has each of the headers for browsers once, in place of the backend's. HSTS is for
// clients that used TLS.
func TestSecurityHeaders(t *testing.T) {
	g := start(t, nil, newBackend(t, "s", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Frame-Options", "SAMEORIGIN")
		w.Header().Set("referrer-policy", "unsafe-url")
		w.Header().Set("Strict-Transport-Security", "max-age=1")
		w.Header().Set("Content-Security-Policy", "sandbox")
		switch r.URL.Path {
		case "/get/none":
			w.WriteHeader(http.StatusNotFound)
		case "/get/chunked":
			fmt.Fprint(w, "a")
			_ = http.NewResponseController(w).Flush()
		}
	}).URL)
	for _, target := range []string{"/get/k", "/get/none", "/get/chunked", "/healthz", "/health", "/metrics", "/tls-required", "no-path"} {
		for proto, hsts := range map[string][]string{"": nil, "http": nil, "https": {"max-age=31536000"}} {
			request := "GET " + target + " HTTP/1.1\r\nHost: h\r\n"
			if proto != "" {
				request += "X-Forwarded-Proto: " + proto + "\r\n"
			}
			response, _ := g.send(t, request+"\r\n")
			for name, want := range map[string][]string{
				"X-Content-Type-Options": {"nosniff"}, "X-Frame-Options": {"DENY"}, "Referrer-Policy": {"no-referrer"},
				"Permissions-Policy":        {"camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()"},
				"Strict-Transport-Security": hsts,
			} {
				if got := response.Header[name]; fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("%s, %q: %s: %q, want %q", target, proto, name, got, want)
				}
			}
		}
	}
	response, _ := g.send(t, "GET /get/k HTTP/1.1\r\nHost: h\r\n\r\n")
	if got := response.Header.Get("Content-Security-Policy"); got != "sandbox" {
		t.Errorf("Content-Security-Policy: %q", got)
	}
	if response, _ = g.send(t, "nonsense\r\n\r\n"); response.Header.Get("X-Frame-Options") != "DENY" {
		t.Errorf("of what is no request: %v", response.Header)
	}
}

// A client's header of such a name is its own affair.
func TestSecurityHeadersOfARequest(t *testing.T) {
	got, _ := sentHeaders(t, "GET /get/k HTTP/1.1\r\nHost: h\r\nReferrer-Policy: origin\r\n\r\n")
	if got.Get("Referrer-Policy") != "origin" {
		t.Errorf("the backend got %v", got)
	}
}
