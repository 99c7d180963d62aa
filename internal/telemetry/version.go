package telemetry

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

const (
	unknownVersion = "dev"
	commitDigits   = 12 // of a commit, in what people read
)

// Version says what the program was built from: a tag, what git describe says
// between tags, or a commit where there is no tag; with "dirty" behind it when
// files were changed. Commit is the commit in full, "" when it is not known. The
// linker sets both (-X). A program that was built without has what the go tool
// recorded, as after "go install PACKAGE@VERSION", else the version "dev".
var (
	Version string
	// Commit: see Version.
	Commit string
)

func init() {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = new(debug.BuildInfo)
	}
	Version, Commit = builtFrom(Version, Commit, info)
}

// builtFrom completes what the linker set with what the go tool recorded.
func builtFrom(version, commit string, info *debug.BuildInfo) (string, string) {
	if version == "" || version == unknownVersion {
		version = info.Main.Version
	}
	if version == "" || version == "(devel)" {
		version = unknownVersion
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" && commit == "" {
			commit = setting.Value
		}
	}
	return version, commit
}

// VersionLine is what a program answers to --version, such as
// "backend v1.2.0 (commit 5f0c3a9d1b2e, go1.26.8, linux/amd64)".
func VersionLine(program string) string {
	details := []string{runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
	if Commit != "" {
		details = append([]string{"commit " + Commit[:min(len(Commit), commitDigits)]}, details...)
	}
	return fmt.Sprintf("%s %s (%s)", program, Version, strings.Join(details, ", "))
}
