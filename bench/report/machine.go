package report

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
)

// Machine says in a few lines on what was measured; dir is where the data was.
func Machine(dir string) []string {
	return []string{
		fmt.Sprintf("processor: %s, %d cores, %s", processor(), runtime.NumCPU(), runtime.GOARCH),
		"kernel: Linux " + firstLine("/proc/sys/kernel/osrelease"),
		"file system of the data: " + fileSystem(dir),
		"load average before the first measurement: " + firstLine("/proc/loadavg"),
		"Go: " + runtime.Version(),
	}
}

func firstLine(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if name, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// fileSystem names the file system: one in memory makes fsync free.
func fileSystem(dir string) string {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(dir, &stat); err != nil {
		return "unknown"
	}
	known := map[int64]string{
		0xEF53: "ext4", 0x58465342: "XFS", 0x9123683E: "Btrfs", 0x2FC12FC1: "ZFS", 0x794C7630: "overlayfs",
		0x01021994: "tmpfs: in memory, so nothing here says what a durable write costs",
	}
	if name := known[stat.Type]; name != "" {
		return name
	}
	return fmt.Sprintf("type %#x", stat.Type)
}
