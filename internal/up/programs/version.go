package programs

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Version returns what the programs report about themselves: what git says about
// the repository at root, with the commit in full, unless the environment says it
// in KV_VERSION and KV_COMMIT. It is "dev" and "" where git cannot tell, as in a
// directory that is no checkout. Every clone of a commit gets the same.
func Version(ctx context.Context, root string, getenv func(string) string) (version, commit string) {
	version, commit = getenv("KV_VERSION"), getenv("KV_COMMIT")
	if version == "" && commit == "" {
		version = git(ctx, root, "describe", "--tags", "--always", "--dirty", "--abbrev=12")
		commit = git(ctx, root, "rev-parse", "HEAD")
	}
	if version == "" {
		version = "dev"
	}
	return version, commit
}

// git returns what the command prints, or "" when it fails.
func git(ctx context.Context, root string, args ...string) string {
	// A copy without .git may lie in the checkout of something else.
	if _, err := os.Stat(filepath.Join(root, ".git")); err != nil {
		return ""
	}
	cmd := exec.CommandContext(ctx, "git", args...) //nolint:gosec // the arguments are those in this package
	cmd.Dir = root
	output, err := cmd.Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(output))
}
