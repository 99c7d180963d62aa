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

// A traffic is clients that write and read over kept-alive connections, each on a key
// of its own, so that what must be there is known: every write has a value of its own.
type traffic struct {
	stop func() // returns when the clients have ended

	mu    sync.Mutex // guards all below
	keys  map[string]*history
	count counts
	lapse time.Time // of the last request that failed
}

// counts are the columns of the table.
type counts struct {
	requests     int
	acknowledged int // writes that were answered with 200
	refused      int // requests answered with a well-formed error, which say that nothing was done or why it is not known
	cut          int // requests whose connection was refused or broke off
	unclear      int // answers that are neither
	lost         int // acknowledged writes that are not there
	stale        int // reads of less than was acknowledged before they began
	doubled      int // writes that were made twice
}

// A history is what one client knows of its key.
type history struct {
	acknowledged map[int]string // version -> value
	latest       int            // of those
}

const trafficClients = 16

// startTraffic begins; path makes a key of the number of a client.
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

// ask sends a request and counts what kind of answer it gets; ok is 200.
func (l *traffic) ask(client *http.Client, method, path, body string) (answer []byte, ok bool) {
	// Without a context: what is under way is not cancelled, since it might be written, unknown to us.
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

// clear reports whether an error answer is one that a client can act on: a problem of
// the same status, or Traefik's own, in plain text.
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
	// A 500 of Traefik's is for a connection that the gateway ended while a write was being
	// sent on it; most such errors it knows, and answers with 502.
	known := response.StatusCode == http.StatusInternalServerError || slices.Contains(traefiksOwn, response.StatusCode)
	return known && string(own) != "" && strings.EqualFold(string(own), textOf(response.StatusCode))
}

// textOf is what Traefik answers with a status of its own.
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

// recovered returns how long after begin the last request failed.
func (l *traffic) recovered(begin time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(l.lapse.Sub(begin), 0)
}

// verify stops the clients and looks for every write of theirs.
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

// A faultTable is what the faults were survived with.
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
