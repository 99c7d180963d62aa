package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
)

const (
	crashRounds  = 8 // KV_TEST_ROUNDS sets another number
	crashClients = 16
	crashKeys    = 20
)

// TestKillLoop kills the program at random moments during reads and writes. After the next
// start, there must be everything that was answered, and nothing that was not sent.
func TestKillLoop(t *testing.T) {
	rounds := crashRounds
	if text := os.Getenv("KV_TEST_ROUNDS"); text != "" {
		var err error
		if rounds, err = strconv.Atoi(text); err != nil || rounds < 1 {
			t.Fatalf("KV_TEST_ROUNDS=%q: must be a positive number", text)
		}
	}
	env := environment(filepath.Join(t.TempDir(), "kv.db"), "2")
	l := newLedger()
	backend := spawn(t, env)
	for round := range rounds {
		l.load(t, backend, round)
		backend.kill(t)
		backend = spawn(t, env)
		l.verify(t, backend)
		backend.check(t)
		if t.Failed() {
			t.Fatalf("after kill %d", round+1)
		}
	}
	for _, a := range l.accounts {
		a.checked = 0 // what earlier rounds found must have survived the later kills
	}
	l.verify(t, backend)
}

// A fact is what an answer says about a version.
type fact struct {
	Version   int64   `json:"version"`
	Value     string  `json:"value"`
	Revision  int64   `json:"revision"`
	Timestamp float64 `json:"timestamp"`
}

// An account holds what the clients know about a key.
type account struct {
	key string

	mu sync.Mutex
	// facts has every version from an answer to a write or a read.
	facts map[int64]fact
	// sent maps each value that was sent to the version that has it, or 0 if unknown.
	sent    map[string]int64
	highest int64 // of facts
	checked int64 // the version up to which verify has been through
}

// note records a fact. All answers about a version must agree.
func (a *account) note(t *testing.T, f fact) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if known, ok := a.facts[f.Version]; ok && known != f {
		t.Errorf("%s: one answer was %+v, another %+v", a.key, known, f)
	}
	a.facts[f.Version] = f
	a.highest = max(a.highest, f.Version)
}

func (a *account) floor() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.highest
}

// A ledger holds what the clients know about the store.
type ledger struct {
	accounts []*account
	written  atomic.Int64 // answered writes of the round
	pairs    pairs
}

func newLedger() *ledger {
	l := &ledger{}
	for i := range crashKeys {
		l.accounts = append(l.accounts, &account{
			key: fmt.Sprintf("crash/%02d", i), facts: map[int64]fact{}, sent: map[string]int64{},
		})
	}
	return l
}

// load runs clients until one of them kills the program, after a random number of answered
// writes and while the others have requests in flight.
func (l *ledger) load(t *testing.T, p *process, round int) {
	target := 50 + rand.Int64N(1450)
	l.written.Store(0)
	var clients sync.WaitGroup
	for client := range crashClients {
		clients.Go(func() {
			for n := 0; !t.Failed(); n++ {
				a := l.accounts[rand.IntN(len(l.accounts))]
				value := fmt.Sprintf("client %d round %d write %d", client, round, n)
				var err error
				switch {
				case n%3 == 2:
					err = a.get(t, p)
				case n%6 == 4:
					err = l.batch(t, p, value)
				default:
					err = a.put(t, p, value)
				}
				if err == nil && n%3 != 2 && l.written.Add(1) == target {
					_ = p.cmd.Process.Kill()
				}
				if err != nil {
					if l.written.Load() < target { // the program was not killed yet
						t.Errorf("client %d: %v", client, err)
					}
					return
				}
			}
		})
	}
	clients.Wait()
	t.Logf("round %d: killed after %d answered writes", round+1, target)
}

// put writes value. An error means that there was no answer.
func (a *account) put(t *testing.T, p *process, value string) error {
	a.mu.Lock()
	a.sent[value] = 0
	a.mu.Unlock()
	floor := a.floor()
	status, body, err := p.exchange(t.Context(), "PUT", "/put/"+a.key, `{"value":`+strconv.Quote(value)+`}`)
	if err != nil {
		return err
	}
	var f fact
	if err := json.Unmarshal(body, &f); status != http.StatusOK || err != nil || f.Version <= floor {
		t.Errorf("%s: PUT: %d %s (%v), with version %d known before", a.key, status, body, err, floor)
		return nil
	}
	f.Value = value // the answer to a write does not repeat it
	a.note(t, f)
	return nil
}

// get reads the latest version, which must not be older than what was known before. An
// error means that there was no answer.
func (a *account) get(t *testing.T, p *process) error {
	floor := a.floor()
	status, body, err := p.exchange(t.Context(), "GET", "/get/"+a.key, "")
	if err != nil || status == http.StatusNotFound && floor == 0 {
		return err
	}
	var f fact
	if err := json.Unmarshal(body, &f); status != http.StatusOK || err != nil || f.Version < floor {
		t.Errorf("%s: GET: %d %s (%v), with version %d known before", a.key, status, body, err, floor)
		return nil
	}
	a.note(t, f)
	return nil
}

// verify reads every version that was not checked before, and the counters of the store.
// Nothing may write meanwhile.
func (l *ledger) verify(t *testing.T, p *process) {
	t.Helper()
	var readers sync.WaitGroup
	var versions, keys atomic.Int64
	for _, a := range l.accounts {
		readers.Go(func() {
			latest := a.verify(t, p)
			versions.Add(latest)
			if latest > 0 {
				keys.Add(1)
			}
		})
	}
	readers.Wait()
	if t.Failed() {
		return
	}
	l.verifyPairs(t)
	l.verifyRevisions(t)
	status, body, err := p.exchange(t.Context(), "GET", "/db/stats", "")
	var stats struct {
		Keys     int64 `json:"total_keys"`
		Versions int64 `json:"total_versions"`
		Revision int64 `json:"revision"`
	}
	if err == nil {
		err = json.Unmarshal(body, &stats)
	}
	if err != nil || status != http.StatusOK || stats.Keys != keys.Load() || stats.Versions != versions.Load() || stats.Revision != versions.Load() {
		t.Errorf("/db/stats: %d %s (%v), but there are %d keys with %d versions", status, body, err, keys.Load(), versions.Load())
	}
}

// verifyRevisions checks that the revisions of all versions are 1, 2, 3 … n.
func (l *ledger) verifyRevisions(t *testing.T) {
	t.Helper()
	owners := map[int64]string{}
	var highest int64
	for _, a := range l.accounts {
		for _, f := range a.facts {
			if owner, ok := owners[f.Revision]; ok {
				t.Errorf("revision %d is both of %s and of %s", f.Revision, owner, a.key)
			}
			owners[f.Revision] = a.key
			highest = max(highest, f.Revision)
		}
	}
	if highest != int64(len(owners)) {
		t.Errorf("the revisions of %d versions go up to %d", len(owners), highest)
	}
}

// verify compares the key with what is known about it, and returns its latest version.
func (a *account) verify(t *testing.T, p *process) int64 {
	ctx := t.Context()
	latest, found := a.read(ctx, t, p, "")
	if found && latest.Version < a.highest || !found && a.highest > 0 {
		t.Errorf("%s: version %d was answered before the kill, the latest after it is %+v", a.key, a.highest, latest)
	}
	before := a.facts[a.checked]
	for version := a.checked + 1; version <= latest.Version; version++ {
		f, found := a.read(ctx, t, p, "?version="+strconv.FormatInt(version, 10))
		if !found || f.Version != version {
			t.Errorf("%s: version %d of %d is missing: %+v", a.key, version, latest.Version, f)
			return latest.Version
		}
		if f.Timestamp < before.Timestamp || f.Revision <= before.Revision {
			t.Errorf("%s: %+v is followed by %+v", a.key, before, f)
		}
		place, sent := a.sent[f.Value]
		if !sent || place != 0 && place != version {
			t.Errorf("%s: %+v: the value was sent: %t, and is that of version %d too", a.key, f, sent, place)
		}
		a.sent[f.Value] = version
		a.note(t, f)
		before = f
	}
	if before != latest {
		t.Errorf("%s: the latest version is %+v, the last of its versions %+v", a.key, latest, before)
	}
	if f, found := a.read(ctx, t, p, "?version="+strconv.FormatInt(latest.Version+1, 10)); found {
		t.Errorf("%s: the latest version is %d, but there is %+v", a.key, latest.Version, f)
	}
	for value, version := range a.sent {
		if version == 0 { // its client is gone, so it must not turn up in a later round
			delete(a.sent, value)
		}
	}
	a.checked = latest.Version
	return latest.Version
}

// read reads a version, which may not exist.
func (a *account) read(ctx context.Context, t *testing.T, p *process, query string) (fact, bool) {
	var f fact
	status, body, err := p.exchange(ctx, "GET", "/get/"+a.key+query, "")
	if err == nil && status == http.StatusNotFound {
		return f, false
	}
	if err == nil {
		err = json.Unmarshal(body, &f)
	}
	if err != nil || status != http.StatusOK {
		t.Errorf("GET %s%s: %d %s (%v)", a.key, query, status, body, err)
		return fact{}, false
	}
	return f, true
}
