package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"kvstore/internal/settings"
)

// The exit codes of a program, beside 0 after a clean stop.
const (
	ExitFailed        = 1
	ExitConfiguration = 2 // the settings have mistakes
)

// Main runs a program until it ends by itself or a SIGINT or SIGTERM ends its
// context, writes its error to stderr and returns its exit code. A second signal
// ends the process at once.
func Main(name string, run func(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error) int {
	ctx, restore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer restore()
	defer context.AfterFunc(ctx, restore)()
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	}
	return ExitCode(err)
}

// ExitCode is that of a program which ends with err.
func ExitCode(err error) int {
	var mistakes *settings.Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &mistakes):
		return ExitConfiguration
	default:
		return ExitFailed
	}
}
