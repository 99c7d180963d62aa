// Command bench compares the service, and parts of it, with other stores, proxies and caches
// on this machine. Every side gets the same load, in turns, and every answer is checked. See
// README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, restore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout)
	restore()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

const help = `bench compares the service and its parts with others. It measures each side in turns and
checks every answer. README.md explains what is measured and how to read the results.

Usage, in the directory bench:
  go run . [flags]           the service over HTTP: backend, gateway, traefik, compared with
                             nginx, predecessor, predecessor-repaired, etcd, redis, sqlite
  go run . cache [flags]     the cache, compared with golang-lru and otter
  go run . store [flags]     durable writes of the store, compared with plain SQLite
  go run . growth [flags]    the backend on databases of growing size
  go run . cluster [flags]   backends on PostgreSQL, compared with etcd of three members and kine
  go run . capacity [flags]  what bounds one store on PostgreSQL: a model, compared with runs
  go run . COMMAND --help    the flags of a command

The results are written to the terminal and to files in the directory results. The exit
code is 1 if an answer was wrong or a connection broke.
`

func run(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	command := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		command, args = args[0], args[1:]
	}
	var err error
	switch command {
	case "":
		err = compareCommand(ctx, args, out)
	case "cache":
		err = cacheCommand(ctx, args, out)
	case "store":
		err = storeCommand(ctx, args, out)
	case "growth":
		err = growthCommand(ctx, args, out)
	case "cluster":
		err = clusterCommand(ctx, args, out)
	case "capacity":
		err = capacityCommand(ctx, args, out)
	case delayCommand:
		err = delayServer(ctx, args)
	case etcdCommand:
		err = etcdServer(ctx, args)
	case sqliteCommand:
		err = serveSQLite(ctx, args, in, out)
	default:
		return fmt.Errorf("no command %q; see --help", command)
	}
	if errors.Is(err, flag.ErrHelp) { // already printed
		return nil
	}
	return err
}

// serveSQLite also returns when ctx ends, although a read from in cannot be cancelled.
func serveSQLite(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	done := make(chan error, 1)
	go func() { done <- sqliteLoads(ctx, args, in, out) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return nil
	}
}

// common holds the settings of all commands.
type common struct {
	duration time.Duration // of one measurement
	rounds   int
	out      string
}

func (c *common) define(flags *flag.FlagSet, duration time.Duration, rounds int) {
	flags.DurationVar(&c.duration, "duration", duration, "length of each measurement")
	flags.IntVar(&c.rounds, "rounds", rounds, "number of rounds; results are medians")
	flags.StringVar(&c.out, "out", "results", "directory for the results")
}

// newFlags returns the flags of a command, with text as the beginning of its help.
func newFlags(command, text string, out io.Writer) *flag.FlagSet {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.Usage = func() {
		fmt.Fprintf(out, "%s\nFlags of go run .%s:\n", text, command)
		flags.PrintDefaults()
	}
	return flags
}

// parse parses the arguments and checks the common settings.
func (c *common) parse(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("no arguments are expected: %v", flags.Args())
	}
	if c.duration <= 0 || c.rounds <= 0 {
		return errors.New("--duration and --rounds must be positive")
	}
	return nil
}

// list splits a comma-separated list.
func list(text string) []string {
	return slices.DeleteFunc(strings.Split(text, ","), func(s string) bool { return s == "" })
}

// numbers splits a list of numbers from 1 to most. Errors contain the name of the flag.
func numbers(name, text string, most int) ([]int, error) {
	var all []int
	for _, one := range list(text) {
		n, err := strconv.Atoi(one)
		if err != nil || n < 1 || n > most {
			return nil, fmt.Errorf("--%s: %q is not a number from 1 to %d", name, one, most)
		}
		all = append(all, n)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("--%s: a number from 1 to %d is missing", name, most)
	}
	return all, nil
}

// mostConnections is the largest number of connections or callers.
const mostConnections = 1024
