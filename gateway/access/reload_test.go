package access_test

import (
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kvstore/gateway/access"
	"kvstore/internal/telemetry/telemetrytest"
)

// open returns a guard that looks at the file all the time.
func open(t *testing.T, v *vault, now func() time.Time) *access.Guard {
	t.Helper()
	g, _ := openLogged(t, v.path, now)
	return g
}

func openLogged(t *testing.T, path string, now func() time.Time) (*access.Guard, *telemetrytest.Journal) {
	t.Helper()
	log := &telemetrytest.Journal{}
	g, err := access.Open(access.Config{Path: path, Logger: slog.New(slog.NewTextHandler(log, nil)), Interval: time.Millisecond, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g, log
}

func TestOpenRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.yml")
	if _, err := access.Open(access.Config{Path: path}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	write(t, path, "tokens:\n- name: a\n- name: b c\n")
	_, err := access.Open(access.Config{Path: path})
	var mistakes *access.FileError
	if !errors.As(err, &mistakes) || len(mistakes.Mistakes) != 6 || !strings.HasPrefix(err.Error(), path+" has mistakes:\n  line 2: token \"a\": sha256: must be there") {
		t.Error(err)
	}
}

func TestReload(t *testing.T) {
	v := newVault(t)
	first := v.add(t, "first", time.Time{}, "read:")
	g, log := openLogged(t, v.path, nil)
	grant, _ := g.Check(access.Find([]byte("/keys")), bearer(t, first))
	status := func(secret string) int { return check(g, "/get/k", bearer(t, secret)) }

	second := v.add(t, "second", time.Time{}, "read:")
	eventually(t, "a new token", func() bool { return status(second) == http.StatusOK })
	if status(first) != http.StatusOK || !g.Holds(grant) {
		t.Error("the first token is gone")
	}

	whole, err := os.ReadFile(v.path)
	if err != nil {
		t.Fatal(err)
	}
	for _, broken := range []string{"", "tokens:", string(whole[:len(whole)-3]), "{", "tokens: [{name: x}]", "a: b"} {
		before := strings.Count(log.String(), "cannot be used")
		write(t, v.path, broken)
		eventually(t, "the log tells", func() bool { return strings.Count(log.String(), "cannot be used") > before })
		if status(first) != http.StatusOK || status(second) != http.StatusOK {
			t.Errorf("%q has changed something", broken)
		}
		write(t, v.path, string(whole))
		after := strings.Count(log.String(), "is in force")
		eventually(t, "the log tells", func() bool { return strings.Count(log.String(), "is in force") >= after })
		eventually(t, "it is whole again", func() bool { return lastLine(log.String(), "in force") })
	}
	if err := os.Remove(v.path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the log tells", func() bool { return strings.Contains(log.String(), "no such file") })
	if status(first) != http.StatusOK {
		t.Error("without the file its tokens are gone")
	}
	write(t, v.path, string(whole))
	if err := access.Remove(v.path, "first"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a token is revoked", func() bool { return status(first) == http.StatusUnauthorized })
	if g.Holds(grant) {
		t.Error("a grant outlives its token")
	}
	for name, secret := range v.secrets {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log has the token %s", name)
		}
	}
}

// lastLine reports whether the last message about the file contains the text.
func lastLine(log, text string) bool {
	lines := strings.Split(strings.TrimSpace(log), "\n")
	last := lines[len(lines)-1]
	return strings.Contains(last, text) && !strings.Contains(last, "cannot")
}

// In a Kubernetes volume the file is a link to a link, and changes by renaming the second one.
func TestReloadThroughLinks(t *testing.T) {
	dir := t.TempDir()
	a, b := newVault(t), newVault(t)
	secret, other := a.add(t, "t", time.Time{}, "read:"), b.add(t, "t", time.Time{}, "read:")
	for _, link := range [][2]string{{filepath.Dir(a.path), "..data"}, {"..data/tokens.yml", "tokens.yml"}, {filepath.Dir(b.path), "..data_tmp"}} {
		if err := os.Symlink(link[0], filepath.Join(dir, link[1])); err != nil {
			t.Fatal(err)
		}
	}
	g := open(t, &vault{path: filepath.Join(dir, "tokens.yml")}, nil)
	if check(g, "/get/k", bearer(t, secret)) != http.StatusOK {
		t.Fatal("refused")
	}
	if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other file is in force", func() bool {
		return check(g, "/get/k", bearer(t, other)) == http.StatusOK && check(g, "/get/k", bearer(t, secret)) == http.StatusUnauthorized
	})
}

// While other tokens come and go, a token is never refused what it may do, nor allowed what it
// may not.
func TestReloadUnderLoad(t *testing.T) {
	v := newVault(t)
	stays := v.add(t, "stays", time.Time{}, "read:app/")
	g, log := openLogged(t, v.path, nil)
	var stop atomic.Bool
	var asked atomic.Int64
	var askers sync.WaitGroup
	headers := bearer(t, stays)
	for range 4 {
		askers.Go(func() {
			for !stop.Load() {
				if got := check(g, "/get/app/k", headers); got != http.StatusOK {
					t.Errorf("refused: %d", got)
					return
				}
				if got := check(g, "/put/app/k", headers); got != http.StatusForbidden {
					t.Errorf("allowed: %d", got)
					return
				}
				asked.Add(1)
			}
		})
	}
	for range 30 {
		secret := v.add(t, "passing", time.Time{}, "read,write:")
		eventually(t, "it is there", func() bool { return check(g, "/put/app/k", bearer(t, secret)) == http.StatusOK })
		if err := access.Remove(v.path, "passing"); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it is gone", func() bool { return check(g, "/put/app/k", bearer(t, secret)) == http.StatusUnauthorized })
	}
	stop.Store(true)
	askers.Wait()
	if asked.Load() == 0 || strings.Contains(log.String(), "cannot be used") {
		t.Error(asked.Load(), log.String())
	}
}
