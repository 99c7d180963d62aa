package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"kvstore/bench/generator"
)

// An eventLoad is a number of writers, each of which pauses after each answer.
type eventLoad struct {
	writers int
	pause   time.Duration
}

var eventLoads = []eventLoad{{1, 10 * time.Millisecond}, {16, 10 * time.Millisecond}, {64, 0}}

// An eventRow is how long after the answer to its write an event came to a watcher at another backend. An
// event that came before counts as 0.
type eventRow struct {
	eventLoad
	lag     generator.Histogram
	earlier uint64 // events that came before the answer
	p99s    []float64
	elapsed time.Duration
}

func (r *eventRow) cells() []string {
	return []string{
		strconv.Itoa(r.writers), r.pause.String(),
		fmt.Sprintf("%.0f", float64(r.lag.Total)/max(r.elapsed, 1).Seconds()),
		fmt.Sprintf("%.0f %%", 100*float64(r.earlier)/float64(max(r.lag.Total, 1))),
		microseconds(r.lag.Quantile(0.5)), microseconds(r.lag.Quantile(0.99)),
	}
}

// measure writes at one address and watches at another. Every event must come once, in order.
func (r *eventRow) measure(ctx context.Context, writeAt, watchAt string, d time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, d+startTimeout)
	defer cancel()
	transport := &http.Transport{MaxIdleConnsPerHost: r.writers}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	first, err := putEvent(ctx, client, writeAt, 0)
	if err != nil {
		return err
	}
	w, err := watchFrom(ctx, client, watchAt, first)
	if err != nil {
		return err
	}
	defer w.body.Close()
	answered := make([]map[int64]time.Time, r.writers)
	for i := range answered {
		answered[i] = map[int64]time.Time{}
	}
	result, err := closedLoop(r.writers, d, func(worker int) error {
		revision, err := putEvent(ctx, client, writeAt, worker)
		answered[worker][revision] = time.Now()
		if r.pause > 0 {
			time.Sleep(r.pause)
		}
		return err
	})
	if err == nil && result.Errors > 0 {
		err = &generator.WrongError{What: result.Error}
	}
	if err != nil {
		return err
	}
	came, err := w.await(ctx, result.Requests)
	if err != nil {
		return err
	}
	r.elapsed += result.Elapsed
	var lag generator.Histogram
	for _, writes := range answered {
		for revision, at := range writes {
			after := came[revision-first-1].Sub(at)
			if after <= 0 {
				r.earlier++
			}
			lag.Add(after)
		}
	}
	r.lag.Merge(&lag)
	r.p99s = append(r.p99s, float64(lag.Quantile(0.99).Microseconds()))
	return nil
}

// putEvent writes a key and returns the revision.
func putEvent(ctx context.Context, client *http.Client, address string, worker int) (int64, error) {
	url := fmt.Sprintf("http://%s/put/bench-event-%d", address, worker)
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, url, strings.NewReader(`{"value":1}`))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	var written struct{ Revision int64 }
	if err := json.Unmarshal(body, &written); err != nil || response.StatusCode != http.StatusOK {
		return 0, &generator.WrongError{What: fmt.Sprintf("PUT: %s: %s", response.Status, body)}
	}
	return written.Revision, nil
}

// An eventWatcher notes when events come.
type eventWatcher struct {
	body io.ReadCloser
	mu   sync.Mutex // guards all below
	came []time.Time
	err  error
}

// watchFrom watches what is written after a revision. Nothing else may write to the store.
func watchFrom(ctx context.Context, client *http.Client, address string, since int64) (*eventWatcher, error) {
	url := fmt.Sprintf("http://%s/watch?prefix=bench-event-&values=false&since=%d", address, since)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	w := &eventWatcher{body: response.Body}
	if response.StatusCode != http.StatusOK {
		response.Body.Close()
		return nil, &generator.WrongError{What: "GET /watch: " + response.Status}
	}
	go w.run(response.Body, since)
	return w, nil
}

func (w *eventWatcher) run(body io.Reader, revision int64) {
	lines := bufio.NewScanner(body)
	id := ""
	for lines.Scan() {
		line := lines.Text()
		if after, found := strings.CutPrefix(line, "id: "); found {
			id = after
		}
		operation, found := strings.CutPrefix(line, "event: ")
		if !found {
			continue
		}
		now := time.Now()
		revision++
		w.mu.Lock()
		w.came = append(w.came, now)
		if (id != strconv.FormatInt(revision, 10) || operation != "put") && w.err == nil {
			w.err = &generator.WrongError{What: fmt.Sprintf("event %s of %s in place of %d", operation, id, revision)}
		}
		w.mu.Unlock()
	}
}

// await returns when the first n events came.
func (w *eventWatcher) await(ctx context.Context, n uint64) ([]time.Time, error) {
	for {
		w.mu.Lock()
		came, err := w.came, w.err
		w.mu.Unlock()
		if err != nil || uint64(len(came)) >= n {
			return came, err
		}
		select {
		case <-ctx.Done():
			return nil, &generator.WrongError{What: fmt.Sprintf("%d of %d events came", len(came), n)}
		case <-time.After(10 * time.Millisecond):
		}
	}
}
