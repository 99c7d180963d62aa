package access_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"kvstore/gateway/access"
	"kvstore/internal/telemetry"
	"kvstore/internal/telemetry/telemetrytest"
)

// openStill returns a guard that looks at its file only when told.
func openStill(t *testing.T, path string) (*access.Guard, *telemetrytest.Journal) {
	t.Helper()
	log := &telemetrytest.Journal{}
	g, err := access.Open(access.Config{Path: path, Logger: slog.New(slog.NewTextHandler(log, nil)), Interval: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g, log
}

// While a file is only partly written, no token has more rights than by the whole file. A prefix
// that is cut short would cover more keys.
func TestPartOfAFileGivesNobodyMore(t *testing.T) {
	v := newVault(t)
	v.add(t, "a", time.Time{}, "read:app/secret/", "read,write:b/")
	v.add(t, "b", time.Time{}, "admin:c/d")
	text, err := os.ReadFile(v.path)
	if err != nil {
		t.Fatal(err)
	}
	whole := map[string][]access.Rule{}
	tokens, err := access.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range tokens {
		whole[token.Name] = token.Rules
	}
	for n := range text {
		tokens, err := access.Parse(text[:n])
		if err != nil {
			continue
		}
		for _, token := range tokens {
			for _, rule := range token.Rules {
				if !slices.Contains(whole[token.Name], rule) {
					t.Errorf("after %d bytes %s has %s", n, token.Name, rule)
				}
			}
		}
	}
}

// What two looks do not agree on is not put in force, so that an editor that writes the file in
// pieces takes no token away for a moment.
func TestAFileInTheMakingIsNotInForce(t *testing.T) {
	v := newVault(t)
	v.add(t, "first", time.Time{}, "read:")
	half, err := os.ReadFile(v.path)
	if err != nil {
		t.Fatal(err)
	}
	last := v.add(t, "last", time.Time{}, "read:")
	whole, err := os.ReadFile(v.path)
	if err != nil {
		t.Fatal(err)
	}
	g, _ := openStill(t, v.path)
	status := func() int { return check(g, "/get/k", bearer(t, last)) }
	for range 3 {
		write(t, v.path, string(half)) // which is a whole file too
		g.Look()
		if status() != http.StatusOK {
			t.Fatal("half of the file is in force")
		}
		write(t, v.path, string(whole))
		g.Look()
		if status() != http.StatusOK {
			t.Fatal("refused")
		}
	}
	write(t, v.path, string(half))
	g.Look()
	g.Look()
	if status() != http.StatusUnauthorized {
		t.Error("a change is not in force after two looks")
	}
}

// A file that differs at every look is put in force after a few looks.
func TestChangesAllTheTimeDelayNothingForLong(t *testing.T) {
	v := newVault(t)
	v.add(t, "stays", time.Time{}, "read:")
	secret := v.add(t, "revoked", time.Time{}, "read:")
	g, _ := openStill(t, v.path)
	if err := access.Remove(v.path, "revoked"); err != nil {
		t.Fatal(err)
	}
	for range 6 {
		v.add(t, fmt.Sprint("t", len(v.secrets)), time.Time{}, "read:")
		g.Look()
	}
	if check(g, "/get/k", bearer(t, secret)) != http.StatusUnauthorized {
		t.Error("the token is still good")
	}
}

// Opening a pipe would wait for a writer.
func TestOnlyRegularFiles(t *testing.T) {
	v := newVault(t)
	secret := v.add(t, "t", time.Time{}, "read:")
	g, log := openLogged(t, v.path, nil)
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, t.TempDir(), os.DevNull} {
		refused := make(chan error, 1)
		go func() {
			_, err := access.Open(access.Config{Path: path})
			refused <- err
		}()
		select {
		case err := <-refused:
			if err == nil || !strings.Contains(err.Error(), path+" is not a regular file") {
				t.Errorf("%s: %v", path, err)
			}
		case <-time.After(patience):
			t.Fatalf("%s is waited for", path)
		}
	}
	if err := os.Rename(pipe, v.path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the log tells", func() bool { return strings.Contains(log.String(), "is not a regular file") })
	if check(g, "/get/k", bearer(t, secret)) != http.StatusOK {
		t.Error("the rules are gone")
	}
}

func TestWarnsOfAFileThatAnybodyMayWrite(t *testing.T) {
	v := newVault(t)
	v.add(t, "t", time.Time{}, "read:")
	warnings := func(log *telemetrytest.Journal) int {
		return strings.Count(log.String(), "level=WARN msg=\"everybody on this machine may write")
	}
	_, log := openStill(t, v.path)
	if warnings(log) != 0 {
		t.Error(log)
	}
	if err := os.Chmod(v.path, 0o666); err != nil {
		t.Fatal(err)
	}
	g, log := openStill(t, v.path)
	if warnings(log) != 1 {
		t.Error(log)
	}
	v.add(t, "another", time.Time{}, "read:")
	g.Look()
	g.Look()
	if warnings(log) != 2 {
		t.Error(log)
	}
}

// A name is logged, stored as author and shown in answers, so it must not be a token.
func TestNamesAreNotTokens(t *testing.T) {
	secret, _ := access.NewSecret()
	if err := access.CheckName(secret); err == nil || strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), "kv_") {
		t.Error(err)
	}
	_, err := access.Parse([]byte("tokens:\n" + entry(secret, "never", 1)))
	if err == nil || strings.Contains(err.Error(), secret) {
		t.Error(err)
	}
}

// The logs recognize tokens in URLs by their form, and leave them out.
func TestLogsKnowTokens(t *testing.T) {
	for range 1000 {
		secret, _ := access.NewSecret()
		if got := telemetry.WithoutTokens("/get/k?t=" + secret + "&x=1"); got != "/get/k?t=kv_...&x=1" {
			t.Fatal(got)
		}
	}
}

func TestState(t *testing.T) {
	v := newVault(t)
	v.add(t, "t", time.Time{}, "read:")
	g, _ := openStill(t, v.path)
	if got := g.State(); got != (access.State{Tokens: 1, Usable: true}) {
		t.Error(got)
	}
	text, err := os.ReadFile(v.path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, v.path, "tokens:\n")
	g.Look()
	g.Look()
	if got := g.State(); got != (access.State{Tokens: 1}) {
		t.Error(got)
	}
	write(t, v.path, string(text))
	g.Look()
	g.Look()
	if got := g.State(); got != (access.State{Tokens: 1, Usable: true}) {
		t.Error(got)
	}
}
