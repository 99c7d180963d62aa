// Package settings reads the configuration of a program. Each setting is both an
// environment variable and a flag: KV_CACHE_MAX_KEYS and --cache-max-keys. A flag takes
// precedence over its variable, and a variable over the default. An empty variable counts
// as not set.
//
// Parse reports all mistakes at once.
package settings

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/pflag"
)

// ErrHelp is returned by Parse after it has printed the help for --help.
var ErrHelp = pflag.ErrHelp

// EnvPrefix begins the name of every environment variable.
const EnvPrefix = "KV_"

// A Set holds the settings of a program.
type Set struct {
	flags  *pflag.FlagSet
	vars   []*variable
	checks []func() []error
}

// variable is a setting. It implements pflag.Value.
type variable struct {
	name   string // of the flag
	unit   string // shown in the help
	def    string
	text   string // of the flag, if given
	given  bool
	secret bool // the text is not shown
	parse  func(text string) error
}

func (v *variable) String() string { return v.def }
func (v *variable) Type() string   { return v.unit }

// Set keeps the text for Parse, which collects all mistakes.
func (v *variable) Set(text string) error {
	v.text, v.given = text, true
	return nil
}

// New returns an empty set. For --help, it prints usage and the list of flags to out.
func New(program, usage string, out io.Writer) *Set {
	flags := pflag.NewFlagSet(program, pflag.ContinueOnError)
	flags.SortFlags = false
	flags.SetOutput(out)
	flags.Usage = func() {
		fmt.Fprintf(out, "%s\n\nSettings (flag, or environment variable in brackets):\n%s",
			usage, flags.FlagUsagesWrapped(100))
	}
	return &Set{flags: flags}
}

func (s *Set) add(name, unit, def, usage string, parse func(string) error) {
	v := &variable{name: name, unit: unit, def: def, parse: parse}
	s.vars = append(s.vars, v)
	s.flags.VarP(v, name, "", fmt.Sprintf("%s [%s]", usage, envName(name)))
}

// Bool adds a flag without a variable, such as --version.
func (s *Set) Bool(to *bool, name, usage string) { s.flags.BoolVar(to, name, false, usage) }

// Text adds a text flag without a variable.
func (s *Set) Text(to *string, name, unit, usage string) {
	s.flags.StringVar(to, name, "", fmt.Sprintf("`%s` %s", unit, usage))
}

// Texts adds a text flag without a variable that may be repeated.
func (s *Set) Texts(to *[]string, name, unit, usage string) {
	s.flags.StringArrayVar(to, name, nil, fmt.Sprintf("`%s` %s", unit, usage))
}

// String adds a text that check accepts. A nil check accepts every text.
func (s *Set) String(to *string, name, unit, def, usage string, check func(string) error) {
	s.add(name, unit, def, usage, func(text string) error {
		*to = text
		if check == nil {
			return nil
		}
		return check(text)
	})
}

// Secret is String for a text that no mistake shows, since it may have a password.
func (s *Set) Secret(to *string, name, unit, def, usage string, check func(string) error) {
	s.String(to, name, unit, def, usage, check)
	s.vars[len(s.vars)-1].secret = true
}

// Choice adds a setting that must be one of words.
func (s *Set) Choice(to *string, name, def, usage string, words ...string) {
	s.add(name, strings.Join(words, "|"), def, usage, func(text string) error {
		if !slices.Contains(words, text) {
			return fmt.Errorf("must be one of %s", strings.Join(words, ", "))
		}
		*to = text
		return nil
	})
}

// Int adds a whole number from low to high.
func (s *Set) Int(to *int, name, unit string, def, low, high int, usage string) {
	s.add(name, unit, strconv.Itoa(def), usage, func(text string) error {
		n, err := strconv.Atoi(text)
		if err != nil || n < low || n > high {
			return fmt.Errorf("must be a whole number from %d to %d", low, high)
		}
		*to = n
		return nil
	})
}

// Size adds a number of bytes from low to high, optionally with a decimal (KB, MB, GB) or
// binary (KiB, MiB, GiB) suffix.
func (s *Set) Size(to *int64, name, def string, low, high int64, usage string) {
	s.add(name, "size", def, usage, func(text string) error {
		n, err := humanize.ParseBytes(text)
		if err != nil || n > math.MaxInt64 || int64(n) < low || int64(n) > high {
			return fmt.Errorf("must be a number of bytes, such as 450KB or 64MiB, from %s to %s",
				humanize.IBytes(uint64(low)), humanize.IBytes(uint64(high)))
		}
		*to = int64(n)
		return nil
	})
}

// Duration adds a duration from low to high, in Go's notation (90s, 1h30m).
func (s *Set) Duration(to *time.Duration, name, def string, low, high time.Duration, usage string) {
	s.add(name, "duration", def, usage, func(text string) error {
		d, err := time.ParseDuration(text)
		if text == "0" {
			d, err = 0, nil
		}
		if err != nil || d < low || d > high {
			return fmt.Errorf("must be a duration, such as 90s or 1h30m, from %s to %s", low, high)
		}
		*to = d
		return nil
	})
}

// Check adds a check that Parse runs after it has read all settings.
func (s *Set) Check(check func() (mistakes []error)) { s.checks = append(s.checks, check) }

// Parse reads args and the environment into the targets of the settings, and returns the
// arguments that are not flags. It returns ErrHelp after printing the help, or an *Error
// that lists every mistake.
func (s *Set) Parse(args []string, getenv func(string) string) ([]string, error) {
	var mistakes []error
	if err := s.flags.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return nil, ErrHelp
		}
		mistakes = append(mistakes, err)
	}
	for _, v := range s.vars {
		if err := v.read(getenv); err != nil {
			mistakes = append(mistakes, err)
		}
	}
	for _, check := range s.checks {
		mistakes = append(mistakes, check()...)
	}
	if len(mistakes) > 0 {
		return nil, &Error{Mistakes: mistakes}
	}
	return s.flags.Args(), nil
}

func (v *variable) read(getenv func(string) string) error {
	if v.given {
		return v.parseFrom("--"+v.name, v.text)
	}
	if text := getenv(envName(v.name)); text != "" {
		return v.parseFrom(envName(v.name), text)
	}
	return v.parseFrom("the default of --"+v.name, v.def)
}

func (v *variable) parseFrom(source, text string) error {
	if err := v.parse(text); err != nil {
		if v.secret {
			return fmt.Errorf("%s: %w", source, err)
		}
		return fmt.Errorf("%s=%q: %w", source, text, err)
	}
	return nil
}

func envName(flag string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// An Error lists the mistakes of a configuration.
type Error struct {
	Mistakes []error
}

func (e *Error) Error() string {
	lines := make([]string, 0, len(e.Mistakes)+1)
	lines = append(lines, "the configuration has mistakes:")
	for _, mistake := range e.Mistakes {
		lines = append(lines, "  "+mistake.Error())
	}
	return strings.Join(append(lines, "--help lists the settings"), "\n")
}
