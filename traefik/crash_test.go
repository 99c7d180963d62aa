package traefik_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// Each program in turn is killed while clients write, and started again. Afterwards, every
// write that was answered with 200 must exist, and no key may have a gap.
func TestKillUnderLoad(t *testing.T) {
	for _, name := range []string{"backend", "gateway", "traefik"} {
		t.Run(name, func(t *testing.T) {
			s := newStack(t)
			victim := map[string]*process{"backend": s.backend, "gateway": s.gateway, "traefik": s.traefik}[name]
			load := startLoad(t)
			for range 3 {
				load.waitForMore(t, 200)
				victim.kill(t)
				victim.start(t)
				s.waitHealthy(t)
			}
			load.waitForMore(t, 200)
			load.stop()
			load.check(t)
		})
	}
}

const loadClients = 8

// A load runs clients that write two keys each: one of their own and one that all share.
type load struct {
	stop func() // returns when the clients have ended

	mu           sync.Mutex
	acknowledged map[string]map[int]string // key -> version -> value
	writes       int
	failures     int
}

func startLoad(t *testing.T) *load {
	t.Helper()
	stopped, stop := context.WithCancel(t.Context())
	l := &load{acknowledged: map[string]map[int]string{}}
	var group sync.WaitGroup
	for client := range loadClients {
		group.Go(func() {
			for i := 0; stopped.Err() == nil; i++ {
				key := "shared"
				if i%2 == 0 {
					key = fmt.Sprintf("own-%d", client)
				}
				l.write(t.Context(), key, fmt.Sprintf(`"client %d write %d"`, client, i))
			}
		})
	}
	// Requests in flight are not cancelled, because they could still be written.
	l.stop = func() { stop(); group.Wait() }
	t.Cleanup(l.stop)
	return l
}

// write writes over keep-alive connections, as clients do.
func (l *load) write(ctx context.Context, key, value string) {
	answer, err := func() (putAnswer, error) {
		var answer putAnswer
		body := strings.NewReader(`{"value":` + value + `}`)
		request, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+webAddress+"/put/"+key, body)
		if err != nil {
			return answer, err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return answer, err
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err == nil && response.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s", response.Status)
		}
		if err != nil {
			return answer, err
		}
		return answer, json.Unmarshal(text, &answer)
	}()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.failures++
		return
	}
	if l.acknowledged[key] == nil {
		l.acknowledged[key] = map[int]string{}
	}
	l.acknowledged[key][answer.Version] = value
	l.writes++
}

// waitForMore waits until n more writes were acknowledged.
func (l *load) waitForMore(t *testing.T, n int) {
	t.Helper()
	count := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.writes
	}
	target := count() + n
	eventually(t, "writes are acknowledged", func() error {
		if got := count(); got < target {
			return fmt.Errorf("%d of %d", got, target)
		}
		return nil
	})
}

func (l *load) check(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	all := 0
	for key, acknowledged := range l.acknowledged {
		latest := decode[getAnswer](t, get(t, "/get/"+key).wantStatus(t, http.StatusOK)).Version
		all += latest
		for version := 1; version <= latest; version++ {
			answer := get(t, fmt.Sprintf("/get/%s?version=%d", key, version))
			if answer.status != http.StatusOK {
				t.Errorf("%s has a gap at version %d of %d: %d %s", key, version, latest, answer.status, answer.body)
				continue
			}
			value, told := acknowledged[version]
			if read := decode[getAnswer](t, answer); told && string(read.Value) != value {
				t.Errorf("%s version %d is %s, acknowledged was %s", key, version, read.Value, value)
			}
		}
		for version := range acknowledged {
			if version > latest {
				t.Errorf("%s: version %d was acknowledged and is lost; the latest is %d", key, version, latest)
			}
		}
	}
	if stats := decode[databaseStats](t, get(t, "/db/stats")); stats.TotalVersions != all {
		t.Errorf("/db/stats has %d versions, there are %d", stats.TotalVersions, all)
	}
	t.Logf("%d writes were acknowledged and exist, %d failed, %d versions in total", l.writes, l.failures, all)
}
