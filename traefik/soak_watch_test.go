package traefik_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// streamEvents is the number of events that a client reads from a stream before it resumes with
// another one.
const streamEvents = 500

// A soakWatcher follows the keys of a client. It must receive each version of each key in order
// and exactly once, even though streams end. Only after an event "compacted", because keys were
// destroyed, versions of a key may be missing, once.
type soakWatcher struct {
	*soak
	prefix   string
	versions map[string]int
	last     string          // id of the last event
	revision int             // of the last event
	ended    bool            // the last key was seen
	gap      int             // up to this revision, a stream has said that some may be missing
	whole    map[string]bool // keys that were received after it
}

// run watches until the event of the last key.
func (w *soakWatcher) run() {
	for !w.ended && !w.t.Failed() {
		if err := w.stream(); err != nil {
			w.t.Errorf("watch of %s after %s: %v", w.prefix, w.last, err)
		}
	}
}

// stream reads events from one stream.
func (w *soakWatcher) stream() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+webAddress+"/watch?prefix="+w.prefix+"&since=0", nil)
	if err != nil {
		return err
	}
	if w.last != "" {
		r.Header.Set("Last-Event-ID", w.last)
	}
	answer, err := w.transport.RoundTrip(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", answer.StatusCode)
	}
	silence := time.AfterFunc(2*patience, cancel)
	defer silence.Stop()
	f := &feed{lines: bufio.NewReader(answer.Body)}
	for range streamEvents {
		e, err := f.next()
		if errors.Is(err, errHeartbeat) { // the client is slow
			continue
		}
		if err != nil {
			return err
		}
		silence.Reset(2 * patience)
		if err := w.take(e); err != nil {
			return err
		}
		if w.ended {
			return nil
		}
	}
	return nil
}

// take checks that the event is the next one of its key.
func (w *soakWatcher) take(e event) error {
	var data struct {
		Key                          string
		Version, Revision            int
		Requested, Compacted, Oldest int
	}
	if err := json.Unmarshal([]byte(e.data), &data); err != nil {
		return err
	}
	if e.name == "compacted" && data.Requested >= w.revision && e.id == fmt.Sprint(data.Requested) && data.Oldest == data.Compacted+1 {
		w.gap, w.whole, w.last = data.Compacted, map[string]bool{}, e.id
		return nil
	}
	last := w.versions[data.Key]
	next := data.Version == last+1 || w.gap > 0 && !w.whole[data.Key] && data.Version > last
	if !strings.HasPrefix(data.Key, w.prefix) || !next || data.Revision <= w.revision || e.id != fmt.Sprint(data.Revision) {
		return fmt.Errorf("after version %d of %s, revision %d: %+v", w.versions[data.Key], data.Key, w.revision, e)
	}
	if w.versions[data.Key], w.revision, w.last = data.Version, data.Revision, e.id; w.gap > 0 && data.Revision > w.gap {
		w.whole[data.Key] = true
	}
	w.ended = data.Key == w.prefix+lastKey
	w.count("GET watch (events)")
	return nil
}

// watchOnce opens a stream just before the last write, over a new connection, and closes it after
// its first event.
func (c *soakClient) watchOnce(key string) {
	before := c.revision
	c.wrote(key, c.ask(http.StatusOK, http.MethodPut, "/put/"+key, jsonBody, `{"value":"watched"}`))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/watch?since=%d&prefix=%s", webAddress, before, key), nil)
	if err != nil {
		c.t.Error(err)
		return
	}
	answer, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		c.t.Error(err)
		return
	}
	defer answer.Body.Close()
	f := &feed{lines: bufio.NewReader(answer.Body)}
	e, err := f.next()
	for err == nil && e.name == "compacted" { // other clients have destroyed keys meanwhile
		e, err = f.next()
	}
	if err == nil && e.id != fmt.Sprint(c.revision) {
		err = errors.New("it is another event")
	}
	if err != nil {
		c.t.Errorf("watch of %s since %d: %v, %+v", key, before, err, e)
	}
	c.count("GET watch (new stream)")
}
