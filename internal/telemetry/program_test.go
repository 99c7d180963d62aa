package telemetry_test

import (
	"runtime"
	"runtime/debug"
	"testing"

	"kvstore/internal/telemetry"
)

func TestBuiltFrom(t *testing.T) {
	recorded := func(version, revision string) *debug.BuildInfo {
		return &debug.BuildInfo{
			Main:     debug.Module{Path: "kvstore", Version: version},
			Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: revision}},
		}
	}
	for _, c := range []struct {
		name                    string
		version, commit         string // what the linker set
		info                    *debug.BuildInfo
		wantVersion, wantCommit string
	}{
		{"nothing is known", "", "", new(debug.BuildInfo), "dev", ""},
		{"a directory without git", "", "", recorded("(devel)", ""), "dev", ""},
		{"go install of a version", "", "", recorded("v1.2.0", ""), "v1.2.0", ""},
		{"go build in a checkout", "", "", recorded("v0.0.0-20260101000000-abc+dirty", "abcdef"), "v0.0.0-20260101000000-abc+dirty", "abcdef"},
		{"the linker wins", "v1.2.0", "123456", recorded("v9.9.9", "abcdef"), "v1.2.0", "123456"},
		{"an image without a version", "dev", "", recorded("(devel)", ""), "dev", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			version, commit := telemetry.BuiltFrom(c.version, c.commit, c.info)
			if version != c.wantVersion || commit != c.wantCommit {
				t.Errorf("builtFrom = %q, %q, want %q, %q", version, commit, c.wantVersion, c.wantCommit)
			}
		})
	}
}

func TestVersionLine(t *testing.T) {
	version, commit := telemetry.Version, telemetry.Commit
	t.Cleanup(func() { telemetry.Version, telemetry.Commit = version, commit })
	platform := runtime.Version() + ", " + runtime.GOOS + "/" + runtime.GOARCH + ")"
	for _, c := range []struct{ version, commit, want string }{
		{"dev", "", "backend dev (" + platform},
		{"v1.2.0", "5f0c3a9d1b2e4f60718293a4b5c6d7e8f9012345", "backend v1.2.0 (commit 5f0c3a9d1b2e, " + platform},
		{"v1.2.0-3-g5f0c3a9-dirty", "5f0c3a9", "backend v1.2.0-3-g5f0c3a9-dirty (commit 5f0c3a9, " + platform},
	} {
		telemetry.Version, telemetry.Commit = c.version, c.commit
		if got := telemetry.VersionLine("backend"); got != c.want {
			t.Errorf("VersionLine = %q, want %q", got, c.want)
		}
	}
}
