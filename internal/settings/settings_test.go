package settings_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kvstore/internal/settings"
)

type target struct {
	Text, Word string
	Number     int
	Size       int64
	Wait       time.Duration
}

func parse(t *testing.T, args []string, env map[string]string) (target, []string, error) {
	t.Helper()
	var to target
	set := settings.New("program", "usage", io.Discard)
	set.String(&to.Text, "some-text", "text", "none", "a text", nil)
	set.Choice(&to.Word, "word", "a", "a word", "a", "b")
	set.Int(&to.Number, "number", "things", 5, 1, 10, "a number")
	set.Size(&to.Size, "size", "64MiB", 1, 1<<30, "a size")
	set.Duration(&to.Wait, "wait", "30s", 0, time.Hour, "a time")
	rest, err := set.Parse(args, func(name string) string { return env[name] })
	return to, rest, err
}

func TestOrderOfSources(t *testing.T) {
	got, rest, err := parse(t,
		[]string{"--number=7", "command", "--wait", "0"},
		map[string]string{"KV_NUMBER": "8", "KV_SOME_TEXT": "x", "KV_SIZE": "450KB", "KV_WORD": ""})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(target{Text: "x", Word: "a", Number: 7, Size: 450_000}, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"command"}, rest); diff != "" {
		t.Error(diff)
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{"1": 1, "64MiB": 64 << 20, "450KB": 450_000, "1 GiB": 1 << 30, "1.5KiB": 1536} {
		if got, _, err := parse(t, []string{"--size", text}, nil); err != nil || got.Size != want {
			t.Errorf("%q = %d, %v, want %d", text, got.Size, err, want)
		}
	}
	for _, text := range []string{"0", "-1", "2GiB", "x", "1XB", "99999999999999999999"} {
		if got, _, err := parse(t, []string{"--size=" + text}, nil); err == nil {
			t.Errorf("%q = %d, want an error", text, got.Size)
		}
	}
}

func TestEveryMistakeIsReported(t *testing.T) {
	_, _, err := parse(t, []string{"--number=11", "--unknown"}, map[string]string{"KV_WORD": "c", "KV_WAIT": "5"})
	var mistakes *settings.Error
	if !errors.As(err, &mistakes) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{
		`--number="11": must be a whole number from 1 to 10`,
		`KV_WORD="c": must be one of a, b`,
		`KV_WAIT="5": must be a duration, such as 90s or 1h30m, from 0s to 1h0m0s`,
		`unknown flag: --unknown`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in:\n%v", want, err)
		}
	}
}

func TestHelp(t *testing.T) {
	if _, _, err := parse(t, []string{"--help"}, nil); !errors.Is(err, settings.ErrHelp) {
		t.Errorf("--help = %v, want ErrHelp", err)
	}
}
