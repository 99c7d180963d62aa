package programs

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/mod/modfile"
)

// legoModule is Traefik's ACME library. Its package providers/dns imports the SDKs of a
// hundred DNS providers. They are not used here, would be half of the build, and are not
// all available from module proxies.
const (
	legoModule    = "github.com/go-acme/lego/v5"
	legoProviders = "providers/dns"
)

// noProviders replaces that package.
const noProviders = `// Package dns has no DNS providers.
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

// TraefikModule creates dir with the module for building Traefik. It is the module in
// source without its packages, and with lego replaced by a copy in dir that has no DNS
// providers. The copy is made from the version that go.sum pins.
func TraefikModule(ctx context.Context, source, dir string) error {
	if err := writeTraefikModule(ctx, source, dir); err != nil {
		return fmt.Errorf("write Traefik's module: %w", err)
	}
	return nil
}

func writeTraefikModule(ctx context.Context, source, dir string) error {
	if err := copyLego(ctx, source, filepath.Join(dir, "lego")); err != nil {
		return err
	}
	if err := replaceLego(source, filepath.Join(dir, "go.mod")); err != nil {
		return err
	}
	sums, err := os.ReadFile(filepath.Join(source, "go.sum"))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "go.sum"), sums, 0o600)
}

// copyLego copies lego into a new directory target.
func copyLego(ctx context.Context, source, target string) error {
	answer, err := goCommand(ctx, source, "mod", "download", "-json", legoModule).Output()
	var module struct{ Dir, Error string }
	if json.Unmarshal(answer, &module) == nil && module.Error != "" {
		return fmt.Errorf("download lego: %s", module.Error)
	}
	if err != nil {
		return fmt.Errorf("download lego: %w\n%s", err, answer)
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

// replaceLego writes the go.mod of source to target, with lego replaced by the directory
// lego next to it, and other relative replacements made absolute.
func replaceLego(source, target string) error {
	content, err := os.ReadFile(filepath.Join(source, "go.mod"))
	if err != nil {
		return err
	}
	file, err := modfile.Parse("go.mod", content, nil)
	if err != nil {
		return err
	}
	for _, replace := range slices.Clone(file.Replace) {
		if !modfile.IsDirectoryPath(replace.New.Path) || filepath.IsAbs(replace.New.Path) {
			continue
		}
		absolute, err := filepath.Abs(filepath.Join(source, replace.New.Path))
		if err != nil {
			return err
		}
		if err := file.AddReplace(replace.Old.Path, replace.Old.Version, absolute, ""); err != nil {
			return err
		}
	}
	if err := file.AddReplace(legoModule, "", "./lego", ""); err != nil {
		return err
	}
	content, err = file.Format()
	if err != nil {
		return err
	}
	return os.WriteFile(target, content, 0o600)
}
