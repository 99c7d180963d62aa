package traefik_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// newCertificate writes a self-signed certificate for this machine and its key to dir.
func newCertificate(t *testing.T, dir string) (trusted *x509.CertPool, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kv"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	trusted = x509.NewCertPool()
	trusted.AddCert(parsed)
	return trusted, write("tls.crt", "CERTIFICATE", der), write("tls.key", "PRIVATE KEY", encoded)
}

// newSecureClient returns a client that uses TLS and does not follow redirects.
func newSecureClient(t *testing.T, trusted *x509.CertPool, http2 bool) *http.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}, ForceAttemptHTTP2: http2}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func exchange(t *testing.T, client *http.Client, method, url string, header http.Header, body string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		request.Header[name] = values
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(text)
}

func TestTLS(t *testing.T) {
	trusted, certFile, keyFile := newCertificate(t, t.TempDir())
	file := tokenFile(filepath.Join(t.TempDir(), "tokens.yml"))
	secret := file.add(t, "ci", "read,write:")
	s := startStack(t, "KV_TLS_CERT="+certFile, "KV_TLS_KEY="+keyFile, "KV_TOKENS_FILE="+string(file))
	const url = "https://" + webAddress
	http2, http1 := newSecureClient(t, trusted, true), newSecureClient(t, trusted, false)
	eventually(t, "the service is healthy over TLS", func() error {
		response, err := http2.Get(url + "/health")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d", response.StatusCode)
		}
		return nil
	})

	for version, client := range map[int]*http.Client{1: http1, 2: http2} {
		t.Run(fmt.Sprintf("HTTP %d", version), func(t *testing.T) {
			for _, named := range uglyKeys {
				path := "/put/" + named.spellings[0]
				response, body := exchange(t, client, http.MethodPut, url+path, bearer(secret), `{"value":1}`)
				if response.StatusCode != http.StatusOK || response.ProtoMajor != version {
					t.Errorf("PUT %s: %s over %s: %s", path, response.Status, response.Proto, body)
				}
				if got := response.Header.Get("Strict-Transport-Security"); got != "max-age=31536000" {
					t.Errorf("Strict-Transport-Security: %q", got)
				}
			}
			if response, _ := exchange(t, client, http.MethodGet, url+"/get/k", nil, ""); response.StatusCode != http.StatusUnauthorized {
				t.Errorf("without a token: %s", response.Status)
			}
			for _, hidden := range []string{"/metrics", "/db/compact"} {
				if response, _ := exchange(t, client, http.MethodPost, url+hidden, bearer(secret), ""); response.StatusCode != http.StatusNotFound {
					t.Errorf("%s: %s", hidden, response.Status)
				}
			}
		})
	}
	t.Run("watch over HTTP/2", func(t *testing.T) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/watch", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header = bearer(secret)
		response, err := http2.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		events := eventKeys(bufio.NewScanner(response.Body))
		exchange(t, http2, http.MethodPut, url+"/put/watched", bearer(secret), `{"value":1}`)
		wantEvent(t, events, "watched")
	})
	t.Run("plain HTTP is redirected", func(t *testing.T) {
		for method, status := range map[string]int{http.MethodGet: http.StatusMovedPermanently, http.MethodPut: http.StatusPermanentRedirect} {
			answer, err := tryRequest(webAddress, method, "/put/a%2Fb//c?x=1", nil, "")
			if err != nil {
				t.Fatal(err)
			}
			if got := answer.header.Get("Location"); answer.status != status || got != url+"/put/a%2Fb//c?x=1" {
				t.Errorf("%s: %d to %q", method, answer.status, got)
			}
			if got := answer.header.Get("Strict-Transport-Security"); got != "" {
				t.Errorf("HSTS over plain HTTP: %q", got)
			}
		}
	})
	t.Run("a token over plain HTTP is refused", func(t *testing.T) {
		for target, header := range map[string]http.Header{
			"/get/a%2Fb//c?x=1":             bearer(secret),
			"/metrics":                      bearer(secret),
			"/get/k?access_token=" + secret: nil,
		} {
			for _, method := range []string{http.MethodGet, http.MethodPut} {
				answer, err := tryRequest(webAddress, method, target, header, "")
				if err != nil {
					t.Fatal(err)
				}
				p := answer.wantProblem(t, http.StatusForbidden)
				if p.Code != "tls_required" || answer.header.Get("Location") != "" || strings.Contains(answer.body, secret) {
					t.Errorf("%s %.20s: %+v %v", method, target, p, answer.header)
				}
			}
		}
	})
	t.Run("old versions are refused", func(t *testing.T) {
		connection, err := tls.Dial("tcp", webAddress, &tls.Config{RootCAs: trusted, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10})
		if err == nil {
			connection.Close()
			t.Error("TLS 1.1 is spoken")
		}
	})
	t.Run("a renewed certificate", func(t *testing.T) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/watch", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header = bearer(secret)
		response, err := http1.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		events := eventKeys(bufio.NewScanner(response.Body))
		renewed, _, _ := newCertificate(t, filepath.Dir(certFile))
		now := time.Now()
		if err := os.Chtimes("dynamic.yml", now, now); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it is used", func() error {
			connection, err := tls.Dial("tcp", webAddress, &tls.Config{RootCAs: renewed, ServerName: "localhost"})
			if err != nil {
				return err
			}
			return connection.Close()
		})
		// Earlier connections still work, on both sides.
		if response, body := exchange(t, http2, http.MethodPut, url+"/put/renewed", bearer(secret), `{"value":1}`); response.StatusCode != http.StatusOK {
			t.Errorf("%s %s", response.Status, body)
		}
		wantEvent(t, events, "renewed")
	})
	for _, p := range s.processes() {
		if strings.Contains(p.log.String(), secret) {
			t.Errorf("the log of %s has the token", p.name)
		}
	}
}

// TLS is off by default.
func TestTLSIsOffByDefault(t *testing.T) {
	newStack(t)
	answer := get(t, "/health").wantStatus(t, http.StatusOK)
	if got := answer.header.Get("Strict-Transport-Security"); got != "" {
		t.Errorf("HSTS over plain HTTP: %q", got)
	}
}

// With incomplete TLS settings, there is no service without TLS.
func TestIncompleteTLSSettings(t *testing.T) {
	_, certFile, keyFile := newCertificate(t, t.TempDir())
	for _, half := range []string{"KV_TLS_CERT=" + certFile, "KV_TLS_KEY=" + keyFile} {
		name, _, _ := strings.Cut(half, "=")
		t.Run(name, func(t *testing.T) {
			s := startStack(t, half)
			eventually(t, "the log says so", func() error {
				if len(s.traefik.log.lines("KV_TLS_CERT and KV_TLS_KEY must be set together")) == 0 {
					return errors.New("it does not")
				}
				return nil
			})
			eventually(t, "Traefik listens", func() error {
				answer, err := tryRequest(webAddress, http.MethodGet, "/health", nil, "")
				if err == nil && answer.status == http.StatusOK {
					t.Errorf("served: %s", answer.body)
				}
				return err
			})
			for _, p := range s.processes() {
				p.stop(t)
			}
			launcher := newLauncher(t, half)
			launcher.start(t)
			if code := launcher.wait(t); code != 1 || len(launcher.log.lines(" is set, but KV_TLS_")) != 1 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

func TestLauncherWithTLS(t *testing.T) {
	trusted, certFile, keyFile := newCertificate(t, t.TempDir())
	launcher, _ := startLauncher(t, "KV_TLS_CERT="+certFile, "KV_TLS_KEY="+keyFile)
	if line := launcher.log.lines("ready in ")[0]; !strings.Contains(line, ": https://localhost:8000  (docs: https://") {
		t.Errorf("line %q", line)
	}
	response, body := exchange(t, newSecureClient(t, trusted, true), http.MethodPut, "https://localhost:8000/put/k", nil, `{"value":1}`)
	if response.StatusCode != http.StatusOK {
		t.Errorf("%s %s", response.Status, body)
	}
	if code := launcher.stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
