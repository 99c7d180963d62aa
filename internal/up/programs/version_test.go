package programs_test

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"kvstore/internal/up/programs"
)

func TestVersion(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("there is no git here")
	}
	// Neither the user's settings nor a repository around the test take part.
	t.Setenv("GIT_CONFIG_GLOBAL", "/dev/null")
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	for _, name := range []string{"GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"} {
		t.Setenv(name, "test")
	}
	root := t.TempDir()
	file := filepath.Join(root, "file")
	git := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Dir = root
		if output, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, output)
		}
	}
	const commit = "[0-9a-f]{40}"
	expect := func(what string, environment map[string]string, wantVersion, wantCommit string) {
		t.Helper()
		version, commit := programs.Version(t.Context(), root, func(name string) string { return environment[name] })
		if !regexp.MustCompile("^"+wantVersion+"$").MatchString(version) || !regexp.MustCompile("^"+wantCommit+"$").MatchString(commit) {
			t.Errorf("%s: %q, %q, want %q, %q", what, version, commit, wantVersion, wantCommit)
		}
	}
	expect("no checkout", nil, "dev", "")
	git("init", "--quiet")
	expect("no commit", nil, "dev", "")
	write(t, file, "1", 0o644)
	git("add", ".")
	git("commit", "--quiet", "-m", "one")
	expect("no tag", nil, "[0-9a-f]{12}", commit)
	git("tag", "v1.2.0")
	expect("a tag", nil, "v1[.]2[.]0", commit)
	write(t, file, "2", 0o644)
	expect("a tag and a change", nil, "v1[.]2[.]0-dirty", commit)
	git("commit", "--quiet", "-am", "two")
	expect("after a tag", nil, "v1[.]2[.]0-1-g[0-9a-f]{12}", commit)
	expect("the environment", map[string]string{"KV_VERSION": "v7", "KV_COMMIT": "abc"}, "v7", "abc")
	expect("the environment alone", map[string]string{"KV_VERSION": "v7"}, "v7", "")
}
