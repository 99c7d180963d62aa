package traefik_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// A traffic runs clients that write and read over keep-alive connections. Each has its own key
// and writes unique values, so that it knows what must exist.
type traffic struct {
	stop func() // returns when the clients have ended

	mu    sync.Mutex // guards the fields below
	keys  map[string]*history
	count counts
	lapse time.Time // when the last request failed
}

// counts are the columns of the table.
type counts struct {
	requests     int
	acknowledged int // writes that were answered with 200
	refused      int // requests with a well-formed error, which says that nothing was done or why it is unknown
	cut          int // requests whose connection was refused or broke off
	unclear      int // any other answers
	lost         int // acknowledged writes that do not exist
	stale        int // reads older than a write that was acknowledged before they began
	doubled      int // writes that were made twice
}

// A history is what a client knows about its key.
type history struct {
	acknowledged map[int]string // version -> value
	latest       int            // version
}

const trafficClients = 16

// startTraffic starts clients that write keys with the prefix.
func startTraffic(t *testing.T, prefix string) *traffic {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &traffic{keys: map[string]*history{}}
	transport := &http.Transport{MaxIdleConnsPerHost: trafficClients}
	client := &http.Client{Transport: transport, Timeout: patience}
	var group sync.WaitGroup
	for n := range trafficClients {
		key := fmt.Sprintf("%s-%d", prefix, n)
		known := &history{acknowledged: map[int]string{}}
		l.keys[key] = known
		group.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				l.write(client, key, fmt.Sprintf(`"%s write %d"`, key, i), known)
				l.read(client, key, known)
			}
		})
	}
	l.stop = sync.OnceFunc(func() { cancel(); group.Wait(); transport.CloseIdleConnections() })
	t.Cleanup(l.stop)
	return l
}

// ask sends a request and counts the kind of its answer. It reports whether that is 200.
func (l *traffic) ask(client *http.Client, method, path, body string) (answer []byte, ok bool) {
	// Without a context: requests in flight are not cancelled, because they could still be written.
	request, err := http.NewRequest(method, "http://"+webAddress+path, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	response, err := client.Do(request)
	var text []byte
	if err == nil {
		text, err = io.ReadAll(response.Body)
		_ = response.Body.Close()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count.requests++
	if err == nil && response.StatusCode == http.StatusOK && json.Valid(text) {
		return text, true
	}
	l.lapse = time.Now()
	switch {
	case err != nil:
		l.count.cut++
	case clear(response, text):
		l.count.refused++
	default:
		l.count.unclear++
	}
	return nil, false
}

// clear reports whether a client can act on an error answer: it must be a problem with the same
// status, or one of Traefik's own, in plain text.
func clear(response *http.Response, text []byte) bool {
	if response.Header.Get("Content-Type") == "application/problem+json" {
		var p struct {
			Status       int
			Code, Detail string
		}
		retry := response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") != ""
		return json.Unmarshal(text, &p) == nil && p.Status == response.StatusCode && p.Code != "internal" && p.Code != "" && p.Detail != "" && retry
	}
	own := bytes.TrimSpace(text)
	// Traefik answers 500 if the gateway closes a connection in some ways while a write is sent
	// on it, and otherwise 502.
	known := response.StatusCode == http.StatusInternalServerError || slices.Contains(traefiksOwn, response.StatusCode)
	return known && string(own) != "" && strings.EqualFold(string(own), textOf(response.StatusCode))
}

// textOf returns the body of Traefik's own answer with a status.
func textOf(status int) string {
	switch status {
	case http.StatusServiceUnavailable:
		return "no available server"
	case http.StatusNotFound:
		return "404 page not found"
	default:
		return http.StatusText(status)
	}
}

func (l *traffic) write(client *http.Client, key, value string, known *history) {
	text, ok := l.ask(client, http.MethodPut, "/put/"+key, `{"value":`+value+`}`)
	var written putAnswer
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if json.Unmarshal(text, &written) != nil || written.Key != key || written.Version <= known.latest {
		l.count.unclear++
		return
	}
	known.acknowledged[written.Version], known.latest = value, written.Version
	l.count.acknowledged++
}

func (l *traffic) read(client *http.Client, key string, known *history) {
	text, ok := l.ask(client, http.MethodGet, "/get/"+key, "")
	if !ok {
		return
	}
	var read getAnswer
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := json.Unmarshal(text, &read); err != nil {
		l.count.unclear++
		return
	}
	value, told := known.acknowledged[read.Version]
	if read.Version < known.latest || told && string(read.Value) != value {
		l.count.stale++
	}
}

// more waits until n more writes were acknowledged.
func (l *traffic) more(t *testing.T, n int) {
	t.Helper()
	target := l.counts().acknowledged + n
	eventually(t, "writes are acknowledged", func() error {
		if got := l.counts().acknowledged; got < target {
			return fmt.Errorf("%d of %d", got, target)
		}
		return nil
	})
}

func (l *traffic) counts() counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}

// recovered returns the time from begin to the last failed request.
func (l *traffic) recovered(begin time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(l.lapse.Sub(begin), 0)
}

// verify stops the clients and looks for all of their writes.
func (l *traffic) verify(t *testing.T) counts {
	t.Helper()
	l.stop()
	for _, key := range slices.Sorted(maps.Keys(l.keys)) {
		there, err := historyOf(key)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for version := 1; version <= len(there); version++ {
			value, ok := there[version]
			if !ok {
				t.Errorf("%s has a gap at version %d", key, version)
			}
			if seen[value] {
				l.count.doubled++
			}
			seen[value] = true
		}
		for version, value := range l.keys[key].acknowledged {
			if there[version] != value {
				l.count.lost++
			}
		}
	}
	return l.count
}

// historyOf returns the value of each version of key.
func historyOf(key string) (map[int]string, error) {
	there := map[int]string{}
	for before := ""; ; {
		answer, err := tryRequest(webAddress, http.MethodGet, "/history/"+key+"?values=true&limit=100"+before, nil, "")
		if err != nil {
			return nil, err
		}
		if answer.status == http.StatusNotFound && len(there) == 0 {
			return there, nil
		}
		var page struct {
			Versions []struct {
				Version int
				Value   json.RawMessage
			}
			NextBefore *int `json:"next_before"`
		}
		if err := json.Unmarshal([]byte(answer.body), &page); err != nil || answer.status != http.StatusOK {
			return nil, errors.Join(err, fmt.Errorf("%d %s", answer.status, answer.body))
		}
		for _, v := range page.Versions {
			there[v.Version] = string(v.Value)
		}
		if page.NextBefore == nil {
			return there, nil
		}
		before = fmt.Sprintf("&before=%d", *page.NextBefore)
	}
}

// A faultTable collects the results of all faults.
type faultTable struct{ rows []string }

const faultColumns = "fault\trequests\tacknowledged\tfailed clearly\tcut\tunclear\tlost\tstale\tdoubled\trecovered in\t"

func (f *faultTable) add(name string, c counts, recovered time.Duration) {
	f.rows = append(f.rows, fmt.Sprintf("%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t", name, c.requests, c.acknowledged, c.refused, c.cut,
		c.unclear, c.lost, c.stale, c.doubled, recovered.Round(10*time.Millisecond)))
}

func (f *faultTable) print() {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\n"+faultColumns)
	for _, row := range f.rows {
		fmt.Fprintln(w, row)
	}
	_ = w.Flush()
}
