package programs

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/mod/modfile"
)

// legoModule is Traefik's ACME library. Its package providers/dns imports the SDKs of
// a hundred providers of DNS: they serve nothing here, they are half of what would be
// compiled, and not all of them can be had from a module proxy.
const (
	legoModule    = "github.com/go-acme/lego/v5"
	legoProviders = "providers/dns"
)

// noProviders is that package with none of them.
const noProviders = `// Package dns knows no provider of DNS.
package dns

import (
	"fmt"

	"` + legoModule + `/challenge"
)

// NewDNSChallengeProviderByName always fails.
func NewDNSChallengeProviderByName(name string) (challenge.Provider, error) {
	return nil, fmt.Errorf("unrecognized DNS provider: %s (this build has none)", name)
}
`

// TraefikModule writes to dir, which is made, what Traefik is built from: go.mod and
// go.sum of the module in the directory source, where lego is replaced by a copy of it
// in dir that has no providers of DNS. The copy is of the module that go.sum pins. It
// returns the path of the go.mod, for the go tool's option -modfile.
func TraefikModule(ctx context.Context, source, dir string) (goMod string, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("write Traefik's module: %w", err)
	}
	lego := filepath.Join(dir, "lego")
	if err := copyLego(ctx, source, lego); err != nil {
		return "", fmt.Errorf("write Traefik's module: %w", err)
	}
	goMod = filepath.Join(dir, "go.mod")
	if err := replaceLego(filepath.Join(source, "go.mod"), goMod, lego); err != nil {
		return "", fmt.Errorf("write Traefik's module: %w", err)
	}
	sums, err := os.ReadFile(filepath.Join(source, "go.sum"))
	if err != nil {
		return "", fmt.Errorf("write Traefik's module: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go.sum"), sums, 0o600); err != nil {
		return "", fmt.Errorf("write Traefik's module: %w", err)
	}
	return goMod, nil
}

// copyLego makes the directory target.
func copyLego(ctx context.Context, source, target string) error {
	answer, err := goCommand(ctx, source, "mod", "download", "-json", legoModule).Output()
	var module struct{ Dir, Error string }
	if json.Unmarshal(answer, &module) == nil && module.Error != "" {
		return fmt.Errorf("get lego: %s", module.Error)
	}
	if err != nil {
		return fmt.Errorf("get lego: %w\n%s", err, answer)
	}
	lego := os.DirFS(module.Dir)
	err = fs.WalkDir(lego, ".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path == legoProviders:
			return fs.SkipDir
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(target, path), 0o750)
		}
		content, err := fs.ReadFile(lego, path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(target, path), content, 0o600)
	})
	if err != nil {
		return err
	}
	providers := filepath.Join(target, legoProviders)
	if err := os.Mkdir(providers, 0o750); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(providers, "dns.go"), []byte(noProviders), 0o600)
}

// replaceLego writes the go.mod source to target, with lego in the directory dir.
func replaceLego(source, target, dir string) error {
	content, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	file, err := modfile.Parse(source, content, nil)
	if err != nil {
		return err
	}
	if err := file.AddReplace(legoModule, "", dir, ""); err != nil {
		return err
	}
	content, err = file.Format()
	if err != nil {
		return err
	}
	return os.WriteFile(target, content, 0o600)
}
