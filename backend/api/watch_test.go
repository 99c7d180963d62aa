package api_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kvstore/backend/api"
	"kvstore/backend/kv"
	"kvstore/backend/store"
)

func (s *server) write(t *testing.T, changes ...store.Change) {
	t.Helper()
	for _, change := range changes {
		if _, err := s.store.Write(t.Context(), change); err != nil {
			t.Fatal(err)
		}
	}
}

func putOf(key, value string) store.Change {
	return store.Change{Operation: kv.OpPut, Key: key, Value: []byte(value)}
}

// A feed is a stream that is being read.
type feed struct {
	*http.Response
	lines *bufio.Reader
	close func()
}

// watch opens a stream and returns once its header and first block have arrived.
func (s *server) watch(t *testing.T, query string, header ...string) *feed {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/watch"+query, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	f := &feed{response, bufio.NewReader(response.Body), func() { cancel(); response.Body.Close() }}
	if response.StatusCode != http.StatusOK {
		return f
	}
	first := f.block(t)
	if !strings.HasPrefix(first, ": watching from revision ") || !strings.Contains(first, "\nretry: ") {
		t.Errorf("the stream begins with %q", first)
	}
	return f
}

// block returns the lines up to the next empty one.
func (f *feed) block(t *testing.T) string {
	t.Helper()
	var text strings.Builder
	for {
		line, err := f.lines.ReadString('\n')
		if err != nil {
			t.Fatalf("the stream ended: %v after %q", err, text.String()+line)
		}
		if line == "\n" {
			return text.String()
		}
		text.WriteString(line)
	}
}

// fields parses a block as the standard of server-sent events says.
func fields(t *testing.T, block string) (id, event, data string) {
	t.Helper()
	var lines []string
	for line := range strings.Lines(block) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "id":
			id = value
		case "event":
			event = value
		case "data":
			lines = append(lines, value)
		case "", "retry":
		default:
			t.Fatalf("the line %q in %q", line, block)
		}
	}
	return id, event, strings.Join(lines, "\n")
}

func TestWatchEvents(t *testing.T) {
	s := startWith(t, store.Config{}, api.Config{})
	live := s.watch(t, "")
	s.write(t,
		putOf("a", `{"b" : 12345678901234567890, "a":"é"}`),
		store.Change{Operation: kv.OpPut, Key: `"<\>`, Value: []byte{0xff, '\n'}, ContentType: "image/png", Author: `x"y`, TTL: 90 * time.Second},
		store.Change{Operation: kv.OpRevert, Key: "a", Version: 1},
		store.Change{Operation: kv.OpDelete, Key: "a"},
		putOf("n", "[\n1,\r\n 2\r]"),
	)
	want := []string{
		"id: 1\nevent: put\n" + `data: {"key":"a","version":1,"revision":1,"timestamp":1764000000.123456,"operation":"put","value":{"b" : 12345678901234567890, "a":"é"}}` + "\n",
		"id: 2\nevent: put\n" + `data: {"key":"\"<\\>","version":1,"revision":2,"timestamp":1764000000.123456,"operation":"put","value":"/wo=","encoding":"base64","content_type":"image/png","expires_at":1764000090.123456,"author":"x\"y"}` + "\n",
		"id: 3\nevent: revert\n" + `data: {"key":"a","version":2,"revision":3,"timestamp":1764000000.123456,"operation":"revert","value":{"b" : 12345678901234567890, "a":"é"}}` + "\n",
		"id: 4\nevent: delete\n" + `data: {"key":"a","version":3,"revision":4,"timestamp":1764000000.123456,"operation":"delete"}` + "\n",
		"id: 5\nevent: put\n" + `data: {"key":"n","version":1,"revision":5,"timestamp":1764000000.123456,"operation":"put","value":[` + "\ndata: 1,\ndata:  2\ndata: ]}\n",
	}
	for name, f := range map[string]*feed{"live": live, "history": s.watch(t, "?since=0")} {
		for i, text := range want {
			block := f.block(t)
			if diff := cmp.Diff(text, block); diff != "" {
				t.Errorf("%s, event %d: %s", name, i+1, diff)
			}
			if _, _, data := fields(t, block); !json.Valid([]byte(data)) {
				t.Errorf("no JSON: %q", data)
			}
		}
	}
	if _, err := s.store.Destroy(t.Context(), "a", []int64{1}, kv.Condition{}); err != nil {
		t.Fatal(err)
	}
	if _, _, data := fields(t, s.watch(t, "?since=0").block(t)); data != `{"key":"a","version":1,"revision":1,"timestamp":1764000000.123456,"operation":"put","destroyed":true}` {
		t.Errorf("a destroyed version: %s", data)
	}
}

// TestWatchValues tests that values arrive as they were written, whatever their lines are.
func TestWatchValues(t *testing.T) {
	s := startWith(t, store.Config{}, api.Config{})
	f := s.watch(t, "")
	for _, value := range []string{
		"{\n  \"b\": 1.0,\n  \"a\": [\n\n    1\n  ]\n}", "\n1\n", `"\n\r data: x"`, "\"\u2028\u0085\"", "[ 1e400 , -0 ]",
	} {
		if !json.Valid([]byte(value)) {
			t.Fatalf("%q is not JSON", value)
		}
		s.write(t, putOf("k", value))
		_, _, data := fields(t, f.block(t))
		if _, got, _ := strings.Cut(strings.TrimSuffix(data, "}"), `"value":`); got != value {
			t.Errorf("%q came as %q", value, got)
		}
	}
}

// TestWatchWithoutValues tests that values=false leaves the values out.
func TestWatchWithoutValues(t *testing.T) {
	s := startWith(t, store.Config{}, api.Config{})
	f := s.watch(t, "?values=false")
	s.write(t,
		putOf("a", `"1"`),
		store.Change{Operation: kv.OpPut, Key: "b", Value: []byte{0xff}, ContentType: "image/png", Author: "me"},
		store.Change{Operation: kv.OpDelete, Key: "a"},
	)
	for name, f := range map[string]*feed{"live": f, "history": s.watch(t, "?since=0&values=false")} {
		for i, want := range []string{
			`{"key":"a","version":1,"revision":1,"timestamp":1764000000.123456,"operation":"put"}`,
			`{"key":"b","version":1,"revision":2,"timestamp":1764000000.123456,"operation":"put","content_type":"image/png","author":"me"}`,
			`{"key":"a","version":2,"revision":3,"timestamp":1764000000.123456,"operation":"delete"}`,
		} {
			if _, _, data := fields(t, f.block(t)); data != want {
				t.Errorf("%s, event %d: %s", name, i+1, data)
			}
		}
	}
	if _, _, data := fields(t, s.watch(t, "?since=0&values=true").block(t)); !strings.Contains(data, `"value":"1"`) {
		t.Errorf("with values: %s", data)
	}
}

func TestWatchBegins(t *testing.T) {
	s := startWith(t, store.Config{}, api.Config{})
	s.write(t, putOf("a", "1"), putOf("b", "2"), putOf("a/x", "3"))
	for _, test := range []struct{ query, last, want string }{ // want: which of the three writes are delivered
		{"", "", ""}, {"?since=0", "", "123"}, {"?since=2", "", "3"}, {"?since=3", "", ""},
		{"", "2", "3"}, {"?since=0", "3", ""}, {"?since=3", "0", "123"}, {"?since=x", "3", ""},
		{"?since=0&prefix=a", "", "13"}, {"?since=0&prefix=a%2F", "", "3"}, {"?prefix=", "", ""},
	} {
		var header []string
		if test.last != "" {
			header = []string{"Last-Event-ID", test.last}
		}
		f := s.watch(t, test.query, header...)
		for name, want := range map[string]string{"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"} {
			if got := f.Header.Get(name); got != want {
				t.Errorf("%s: %q", name, got)
			}
		}
		written, err := s.store.Write(t.Context(), putOf("a/end", "1"))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for id := 0; id != int(written.Entry.Revision); {
			text, _, _ := fields(t, f.block(t))
			if id = atoi(t, text); id <= 3 {
				got += text
			}
		}
		if got != test.want {
			t.Errorf("%s with Last-Event-ID %q gives %s, want %s", test.query, test.last, got, test.want)
		}
		f.close()
	}
}

func TestWatchProblems(t *testing.T) {
	s := startWith(t, store.Config{MaxWatchers: 1}, api.Config{})
	s.write(t, putOf("k", "1"))
	for _, test := range []struct {
		target, last string
		status       int
		code, detail string
	}{
		{"/watch?since=2", "", 422, "invalid_since", "since: 2 is in the future: the store is at revision 1; read the keys anew, and watch from there"},
		{"/watch", "9", 422, "invalid_since", ""},
		{"/watch?since=-1", "", 422, "invalid_since", "since: must be a revision, an integer from 0 to 9223372036854775807 (given as since)"},
		{"/watch?since=0", "x", 422, "invalid_since", "since: must be a revision, an integer from 0 to 9223372036854775807 (given as Last-Event-ID)"},
		{"/watch?since=", "", 422, "invalid_since", ""},
		{"/watch?since=%2B1", "", 422, "invalid_since", ""},
		{"/watch?since=1.0", "", 422, "invalid_since", ""},
		{"/watch?since=9223372036854775808", "", 422, "invalid_since", ""},
		{"/watch?prefix=%00", "", 422, "invalid_prefix", "prefix: has the control character U+0000 at byte 0"},
		{"/watch?prefix=%FF", "", 422, "invalid_prefix", ""},
		{"/watch?prefix=" + strings.Repeat("x", 513), "", 422, "invalid_prefix", "prefix: has 513 bytes, the limit is 512"},
		{"/watch?prefix=%zz", "", 400, "malformed_query", ""},
		{"/watch?values=no", "", 422, "invalid_values", "values: must be true or false"},
		{"/watch?for=soon", "", 422, "invalid_for", "for: must be a duration such as 90s or 1h30m, from 1ms to 876000h"},
		{"/watch/", "", 404, "not_found", ""},
	} {
		got := s.do(t, "GET", test.target, "", "Last-Event-ID", test.last)
		fields := got.problem(t)
		if got.status != test.status || fields["code"] != test.code || test.detail != "" && fields["detail"] != test.detail {
			t.Errorf("%s: %d %s", test.target, got.status, got.body)
		}
		if head := s.do(t, "HEAD", test.target, "", "Last-Event-ID", test.last); head.status != test.status {
			t.Errorf("HEAD %s: %d", test.target, head.status)
		}
	}
	if head := s.do(t, "HEAD", "/watch?since=0", ""); head.status != 200 || head.body != "" || head.header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("HEAD: %d %v", head.status, head.header)
	}
	if got := s.do(t, "POST", "/watch", ""); got.status != 405 {
		t.Errorf("POST: %d", got.status)
	}
	f := s.watch(t, "")
	got := s.do(t, "GET", "/watch", "")
	if fields := got.problem(t); got.status != 503 || fields["code"] != "too_many_watchers" || got.header.Get("Retry-After") == "" {
		t.Errorf("the second of one: %d %s", got.status, got.body)
	}
	f.close()
	s.waitForRoom(t) // the server notices that a client has gone
	if log := s.log.String(); strings.Contains(log, "a watch has failed") {
		t.Error(log)
	}
}

// waitForRoom returns once the only watcher allowed has gone.
func (s *server) waitForRoom(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		w, err := s.store.Watch(store.WatchRequest{Keys: kv.Prefixes{""}, Since: store.Now, Values: true})
		if err == nil {
			w.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// TestWatchHeartbeat tests that an idle stream has heartbeats, which say up to which revision
// events of other keys were passed over.
func TestWatchHeartbeat(t *testing.T) {
	s := startWith(t, store.Config{}, api.Config{Heartbeat: time.Millisecond, StallTimeout: time.Minute})
	f := s.watch(t, "?prefix=quiet")
	for i, want := range []string{": heartbeat\nid: 0\n", ": heartbeat\nid: 1\n", ": heartbeat\nid: 2\n"} {
		for block := ""; block != want; {
			if block = f.block(t); !strings.HasPrefix(block, ": heartbeat\nid: ") {
				t.Fatalf("block %q, want %q", block, want)
			}
		}
		s.write(t, putOf("k", fmt.Sprint(i)))
	}
}

// TestWatchEnds tests that a stream ends after a whole event when the server stops.
func TestWatchEnds(t *testing.T) {
	s := startWith(t, store.Config{}, api.Config{})
	f := s.watch(t, "")
	s.write(t, putOf("k", "1"))
	s.store.EndWatches()
	rest, err := io.ReadAll(f.lines)
	if err != nil || !bytes.HasPrefix(rest, []byte("id: 1\n")) || !bytes.HasSuffix(rest, []byte("\n\n")) {
		t.Errorf("the stream ends with %q, %v", rest, err)
	}
	if got := s.do(t, "GET", "/watch", ""); got.status != 503 || got.problem(t)["code"] != "store_unavailable" {
		t.Errorf("a watch after the end: %d %s", got.status, got.body)
	}
}

// TestWatchFor tests that a client can poll: the answer has what there is, and ends.
func TestWatchFor(t *testing.T) {
	s := startWith(t, store.Config{}, api.Config{})
	s.write(t, putOf("k", "1"))
	got := s.do(t, "GET", "/watch?since=0&for=20ms", "")
	if got.status != 200 || !strings.Contains(got.body, "id: 1\nevent: put\n") || !strings.HasSuffix(got.body, "\n\n") {
		t.Errorf("%d %q", got.status, got.body)
	}
}

func TestWatchCompacted(t *testing.T) {
	s := startWith(t, store.Config{MaxVersions: 1}, api.Config{})
	s.write(t, putOf("k", "1"), putOf("k", "2"), putOf("k", "3"))
	for deadline := time.Now().Add(10 * time.Second); ; {
		stats, err := s.store.DatabaseStats(t.Context())
		if err != nil || time.Now().After(deadline) {
			t.Fatal("retention does not come", err)
		}
		if stats.Compacted == 2 {
			break
		}
	}
	f := s.watch(t, "?since=1")
	if id, event, _ := fields(t, f.block(t)); id != "2" || event != "put" {
		t.Errorf("while the store still has it in memory: %s %s", id, event)
	}
	s.store.Close()
	s = startWith(t, store.Config{Database: s.db}, api.Config{})
	f = s.watch(t, "?since=1")
	if block := f.block(t); block != "id: 1\nevent: compacted\ndata: {\"requested\":1,\"compacted\":2,\"oldest\":3}\n" {
		t.Errorf("block %q", block)
	}
	if id, _, _ := fields(t, f.block(t)); id != "3" {
		t.Errorf("behind it comes %s", id)
	}
}

func atoi(t *testing.T, text string) (n int) {
	t.Helper()
	if _, err := fmt.Sscan(text, &n); err != nil {
		t.Fatal(err)
	}
	return n
}
