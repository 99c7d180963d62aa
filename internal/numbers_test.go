package internal_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dustin/go-humanize"
	"go.yaml.in/yaml/v3"

	"kvstore/backend/kv"
)

// TestNumbers checks that numbers in texts are true. Each row has a file, a sentence with the
// number in parentheses, and the true number.
func TestNumbers(t *testing.T) {
	gateway, backend, traefik := settingsOf(t, build(t, "gateway")), settingsOf(t, build(t, "backend")), entryPoint(t)
	body := time.Minute + time.Duration(size(t, gateway["KV_MAX_VALUE_BYTES"])>>16)*time.Second
	if read := duration(t, traefik.readTimeout); read <= body {
		t.Errorf("traefik.yml allows a request %v, but the gateway a body %v, so Traefik would answer without a reason", read, body)
	}
	for _, row := range []struct{ file, sentence, want string }{
		{"SECURITY.md", `the time to send a request \((.*?)\)`, seconds(duration(t, traefik.readTimeout))},
		{"SECURITY.md", `Traefik bounds headers \((.*?)\)`, binary(uint64(traefik.maxHeaderBytes))},
		{"SECURITY.md", `headers \(64 KiB, (.*?)\)`, seconds(duration(t, gateway["KV_HEADER_TIMEOUT"]))},
		{"SECURITY.md", `([0-9]+ s) for the default`, seconds(body)},
		{"SECURITY.md", `cut by the gateway after (.*?) for each 32 KiB .KV_WRITE_TIMEOUT.`, seconds(duration(t, gateway["KV_WRITE_TIMEOUT"]))},
		{"SECURITY.md", `keys \((.*?) bytes\)`, strconv.Itoa(kv.MaxKeyBytes)},
		{"SECURITY.md", `The container is the image traefik:(.*?)\. `, traefik.version},
		{"README.md", `a client address may send (.*?) requests a second`, count(t, gateway["KV_RATE_LIMIT"])},
		{"README.md", `and have (.*?) of them, and`, count(t, gateway["KV_MAX_REQUESTS_PER_CLIENT"])},
		{"README.md", `of them, and (.*?) watches, under way`, count(t, gateway["KV_MAX_WATCHERS_PER_CLIENT"])},
		{"README.md", `the backend takes (.*?) requests`, count(t, backend["KV_MAX_REQUESTS"])},
		{"README.md", `requests, (\S+) waiting writes`, count(t, backend["KV_MAX_QUEUED_WRITES"])},
		{"README.md", `waiting writes and (.*?) of their values`, binary(size(t, backend["KV_MAX_QUEUED_BYTES"]))},
		{"README.md", `any JSON value up to (.*?)\. `, binary(size(t, backend["KV_MAX_VALUE_BYTES"]))},
		{"README.md", `decoded once: 1 to (.*?) bytes`, strconv.Itoa(kv.MaxKeyBytes)},
		{"backend/database/postgres/README.md", `KV_DATABASE_CONNECTIONS \((.*?)\) for reads`, backend["KV_DATABASE_CONNECTIONS"]},
		{"traefik/traefik.yml", `\(KV_BODY_TIMEOUT, (.*?)\)`, seconds(body)},
		{"traefik/traefik.yml", `a key of (.*?) bytes takes`, strconv.Itoa(kv.MaxKeyBytes)},
		{"traefik/dynamic.yml", `within KV_BACKEND_TIMEOUT \((.*?)\)`, seconds(duration(t, gateway["KV_BACKEND_TIMEOUT"]))},
	} {
		found := regexp.MustCompile(row.sentence).FindStringSubmatch(flowing(fileText(t, row.file)))
		switch {
		case found == nil:
			t.Errorf("%s has no sentence %s; if you change it, change this test too", row.file, row.sentence)
		case found[1] != row.want:
			t.Errorf("%s says %q, want %s", row.file, found[0], row.want)
		}
	}
}

// flowing returns a text without line breaks, comment signs and backticks.
func flowing(text string) string {
	text = regexp.MustCompile(`\n *#`).ReplaceAllString(text, "\n")
	return strings.Join(strings.Fields(strings.ReplaceAll(text, "`", "")), " ")
}

type entry struct {
	readTimeout    string
	maxHeaderBytes int
	version        string
}

// entryPoint returns settings of the web entry point in traefik.yml, and the pinned version
// of Traefik.
func entryPoint(t *testing.T) entry {
	t.Helper()
	var static struct {
		EntryPoints struct {
			Web struct {
				HTTP struct {
					MaxHeaderBytes int `yaml:"maxHeaderBytes"`
				}
				Transport struct {
					RespondingTimeouts struct {
						ReadTimeout string `yaml:"readTimeout"`
					} `yaml:"respondingTimeouts"`
				}
			}
		} `yaml:"entryPoints"`
	}
	if err := yaml.Unmarshal([]byte(fileText(t, "traefik/traefik.yml")), &static); err != nil {
		t.Fatal(err)
	}
	pinned := regexp.MustCompile(`(?m)traefik/traefik/v3 (v\S+)`).FindStringSubmatch(fileText(t, "traefik/go.mod"))
	if pinned == nil {
		t.Fatal("traefik/go.mod pins no Traefik")
	}
	web := static.EntryPoints.Web
	return entry{web.Transport.RespondingTimeouts.ReadTimeout, web.HTTP.MaxHeaderBytes, pinned[1]}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.0f s", d.Seconds()) }

func binary(bytes uint64) string { return strings.Replace(humanize.IBytes(bytes), ".0 ", " ", 1) }

func duration(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func size(t *testing.T, text string) uint64 {
	t.Helper()
	bytes, err := humanize.ParseBytes(text)
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

// count returns a number with commas.
func count(t *testing.T, text string) string {
	t.Helper()
	number, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return humanize.Comma(number)
}
