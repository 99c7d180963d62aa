package traefik_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A tokenFile is a gateway's file of tokens, changed by the gateway's command.
type tokenFile string

func (f tokenFile) run(t *testing.T, args ...string) string {
	t.Helper()
	command := exec.Command(programs.gateway, append([]string{"token", "--tokens-file", string(f)}, args...)...)
	out, err := command.Output()
	if err != nil {
		t.Fatalf("gateway token %q: %v", args, err)
	}
	return strings.TrimSpace(string(out))
}

func (f tokenFile) add(t *testing.T, name string, rules ...string) (secret string) {
	t.Helper()
	args := []string{"new", "--name", name, "--expires", "1h"}
	for _, rule := range rules {
		args = append(args, "--rule", rule)
	}
	return f.run(t, args...)
}

func bearer(secret string) http.Header { return http.Header{"Authorization": {"Bearer " + secret}} }

// list returns the keys that a token can see.
func list(t *testing.T, secret, query string) (keys []string) {
	t.Helper()
	var page struct{ Keys []struct{ Key string } }
	answer := request(t, webAddress, http.MethodGet, "/keys?"+query, bearer(secret), "").wantStatus(t, http.StatusOK)
	if err := json.Unmarshal([]byte(answer.body), &page); err != nil {
		t.Fatal(err)
	}
	for _, k := range page.Keys {
		keys = append(keys, k.Key)
	}
	return keys
}

func TestAccess(t *testing.T) {
	file := tokenFile(filepath.Join(t.TempDir(), "tokens.yml"))
	ops := file.add(t, "ops", "read,write,admin:")
	app := file.add(t, "app", "read,write:app/")
	s := newStack(t, "KV_TOKENS_FILE="+string(file), "KV_LOG_LEVEL=debug")
	do := func(secret, method, target, body string) response {
		return request(t, webAddress, method, target, bearer(secret), body)
	}

	t.Run("no token", func(t *testing.T) {
		answer := get(t, "/get/app/k")
		if p := answer.wantProblem(t, http.StatusUnauthorized); p.Code != "unauthorized" {
			t.Errorf("code %s", p.Code)
		}
		if got := answer.header.Get("WWW-Authenticate"); got != `Bearer realm="kv"` {
			t.Errorf("WWW-Authenticate: %s", got)
		}
		get(t, "/keys?access_token=x").wantProblem(t, http.StatusUnauthorized)
		get(t, "/health").wantStatus(t, http.StatusOK)
		get(t, "/openapi.json").wantStatus(t, http.StatusOK)
	})
	t.Run("within and outside", func(t *testing.T) {
		do(app, http.MethodPut, "/put/app/k", `{"value":1}`).wantStatus(t, http.StatusOK)
		do(ops, http.MethodPut, "/put/other", `{"value":1}`).wantStatus(t, http.StatusOK)
		do(app, http.MethodGet, "/get/app%2Fk", "").wantStatus(t, http.StatusOK)
		for _, target := range []string{"/get/other", "/get/%6Fther", "/get/app", "/get//app/k", "/history/other"} {
			if p := do(app, http.MethodGet, target, "").wantProblem(t, http.StatusForbidden); p.Code != "forbidden" || !strings.Contains(p.Detail, "right read") {
				t.Errorf("%s: %+v", target, p)
			}
		}
		// At the gateway, because answers through Traefik are compared with the OpenAPI
		// document, which has no such path.
		request(t, s.gatewayAddress, http.MethodGet, "/%67et/other", bearer(app), "").wantProblem(t, http.StatusForbidden)
		do(app, http.MethodPost, "/destroy/app/k?all=true", "").wantProblem(t, http.StatusForbidden)
		if keys := list(t, app, ""); !slices.Equal(keys, []string{"app/k"}) {
			t.Errorf("keys: %q", keys)
		}
		if keys := list(t, ops, ""); !slices.Equal(keys, []string{"app/k", "other"}) {
			t.Errorf("keys: %q", keys)
		}
	})
	t.Run("backup", func(t *testing.T) {
		do(app, http.MethodGet, "/db/backup", "").wantProblem(t, http.StatusForbidden)
		backup := do(ops, http.MethodGet, "/db/backup", "").wantStatus(t, http.StatusOK)
		if !strings.HasPrefix(backup.body, "SQLite format 3\x00") || backup.header.Get("X-KV-Revision") != "2" {
			t.Errorf("%d bytes, %v", len(backup.body), backup.header)
		}
		do(ops, http.MethodPost, "/db/compact", "").wantProblem(t, http.StatusNotFound)
	})
	t.Run("author", func(t *testing.T) {
		forged := bearer(app)
		forged.Set("X-KV-Author", "root")
		forged.Set("X-KV-Read-Prefixes", "other")
		request(t, webAddress, http.MethodPut, "/put/app/k", forged, `{"value":2}`).wantStatus(t, http.StatusOK)
		history := do(app, http.MethodGet, "/history/app/k", "").wantStatus(t, http.StatusOK)
		if strings.Count(history.body, `"author":"app"`) != 2 {
			t.Error(history.body)
		}
	})
	t.Run("watch", func(t *testing.T) {
		events := watchWith(t, app, "/watch?since=0")
		wantEvent(t, events, "app/k")
		wantEvent(t, events, "app/k")
		do(ops, http.MethodPut, "/put/other", `{"value":3}`).wantStatus(t, http.StatusOK)
		do(app, http.MethodPut, "/put/app/z", `{"value":3}`).wantStatus(t, http.StatusOK)
		wantEvent(t, events, "app/z")
		file.run(t, "revoke", "app")
		select {
		case key, open := <-events:
			if open {
				t.Errorf("an event of %s", key)
			}
		case <-time.After(patience):
			t.Error("the stream of a revoked token did not end")
		}
		do(app, http.MethodGet, "/get/app/k", "").wantProblem(t, http.StatusUnauthorized)
	})
	for _, p := range s.processes() {
		for _, secret := range []string{ops, app} {
			if strings.Contains(p.log.String(), secret) {
				t.Errorf("the log of %s has a token", p.name)
			}
		}
	}
}

// watchWith returns a channel with the keys of a stream's events. It is closed when the
// stream ends.
func watchWith(t *testing.T, secret, target string) <-chan string {
	t.Helper()
	connection, err := net.Dial("tcp", webAddress)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	fmt.Fprint(connection, head(webAddress, http.MethodGet, target, bearer(secret), 0))
	return eventKeys(bufio.NewScanner(connection))
}

func eventKeys(lines *bufio.Scanner) <-chan string {
	events := make(chan string, 100)
	go func() {
		defer close(events)
		for lines.Scan() {
			text, found := strings.CutPrefix(lines.Text(), "data: ")
			var data struct{ Key string }
			if found && json.Unmarshal([]byte(text), &data) == nil {
				events <- data.Key
			}
		}
	}()
	return events
}

func wantEvent(t *testing.T, events <-chan string, key string) {
	t.Helper()
	select {
	case got, open := <-events:
		if got != key {
			t.Fatalf("an event of %q (%t), want %q", got, open, key)
		}
	case <-time.After(patience):
		t.Fatalf("no event of %q", key)
	}
}

// Wherever a client puts its token, it is not in any log: not in Traefik's, if that is on, and
// not in those of the other programs at debug level.
func TestNoTokensInLogs(t *testing.T) {
	file := tokenFile(filepath.Join(t.TempDir(), "tokens.yml"))
	secret := file.add(t, "ci", "read,write:")
	s := startStack(t, "KV_TOKENS_FILE="+string(file), "KV_LOG_LEVEL=debug", "KV_ACCESS_LOG=true")
	s.waitHealthy(t)
	send := func(header http.Header, target string, status int) {
		t.Helper()
		for _, address := range []string{webAddress, s.gatewayAddress} {
			for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodHead} {
				answer, err := tryRequest(address, method, target, header, "")
				if err != nil {
					t.Fatal(err)
				}
				if status != 0 && answer.status != status {
					t.Errorf("%s %.25s: %d", method, target, answer.status)
				}
			}
		}
	}
	for _, query := range []string{"access_token=", "token=", "auth_token=", "bearer=", "api_key=", "x=1&access_token=kv_&access_token=", "%61ccess_token="} {
		send(nil, "/get/k?"+query+secret, http.StatusUnauthorized)
		send(bearer(secret), "/get/k?"+query+secret, 0)
	}
	send(nil, "/metrics?token="+secret, 0)
	send(nil, "/get/"+secret, http.StatusUnauthorized)
	send(bearer(secret), "/nothing/"+secret, http.StatusNotFound)
	for _, name := range []string{"Cookie", "X-Access-Token", "Proxy-Authorization", "Referer", "User-Agent"} {
		send(http.Header{name: {secret}}, "/get/k", http.StatusUnauthorized)
	}
	request(t, webAddress, http.MethodGet, "/get/logged", nil, "")
	s.traefik.stop(t) // flushes its log
	if len(s.traefik.log.lines(`"DownstreamStatus":401`)) == 0 || len(s.traefik.log.lines("/get/")) > 0 ||
		len(s.gateway.log.lines("/get/logged")) != 1 || len(s.gateway.log.lines("access_token=...")) == 0 || len(s.gateway.log.lines("/get/kv_...")) == 0 {
		t.Error("the logs do not have what they should")
	}
	for _, p := range s.processes() {
		if strings.Contains(p.log.String(), secret) {
			t.Errorf("the log of %s has the token: %s", p.name, p.log.lines(secret)[0])
		}
	}
}
