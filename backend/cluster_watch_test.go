package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kvstore/backend/database/postgres/postgrestest"
)

// TestClusterWatches watches at every backend and gateway, and resumes each watch somewhere else at random
// moments. Beside them all backends write at once, of batches some have a condition that fails, and
// connections to PostgreSQL are cut. Every watch gets every write once and in order, and no other.
func TestClusterWatches(t *testing.T) {
	c := startCluster(t, backendProgram(t), postgrestest.Database(t))
	count, answered := newTally(), sync.Map{} // revision -> fedEvent
	stop := clients(t, 9, func(ctx context.Context, client, number int) error {
		where, began := c.backends[client%len(c.backends)].site, time.Now()
		key := fmt.Sprintf("k%d", rand.IntN(5))
		if number%3 == 0 {
			err := conflictingBatch(t, where, key)
			count.note(err, true, began)
			return err
		}
		status, body, err := where.exchange(context.WithoutCancel(ctx), "PUT", "/put/"+key, `{"value":1}`)
		if err == nil {
			err = failureOf(status, body)
		}
		count.note(err, true, began)
		if err != nil {
			return err
		}
		var written fedEvent
		if err := json.Unmarshal(body, &written); err != nil || status != http.StatusOK {
			t.Errorf("%d %s, %v", status, body, err)
			return err
		}
		answered.Store(written.Revision, written)
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last atomic.Int64 // the revision at which watches are complete
	var watching sync.WaitGroup
	watches := make([]*seen, 4)
	var resumed atomic.Int64
	for i := range watches {
		watches[i] = &seen{last: "0", faulty: true}
		watching.Go(func() {
			for s := watches[i]; ctx.Err() == nil && !t.Failed(); resumed.Add(1) {
				if end := last.Load(); end > 0 && s.reached() >= end {
					return
				}
				moment, cancel := context.WithTimeout(ctx, rand.N(300*time.Millisecond))
				s.follow(moment, t, c.anywhere(), 1<<62)
				cancel()
			}
		})
	}
	for end := time.Now().Add(either(5*time.Second, 2*time.Minute)); time.Now().Before(end) && !t.Failed(); {
		time.Sleep(rand.N(400 * time.Millisecond)) // some load without a fault
		c.backends[rand.IntN(len(c.backends))].proxy.Cut()
	}
	stop()
	end := revisionOf(t, c.backends[0].site)
	last.Store(end)
	defer time.AfterFunc(patience, cancel).Stop()
	watching.Wait()
	for i, s := range watches {
		checkWatch(t, i, s, end, &answered)
	}
	report(t, "%d revisions at %d watches, resumed %d times, each once and in order; %s", end, len(watches), resumed.Load(), count)
}

// conflictingBatch makes a batch whose condition often fails, after its first operation was possible.
func conflictingBatch(t *testing.T, where site, key string) error {
	body := fmt.Sprintf(`{"conditions":[{"key":%q,"version":%d}],"operations":[{"op":"put","key":"other","value":2},{"op":"put","key":%q,"value":3}]}`,
		key, rand.IntN(40), key)
	if rand.IntN(3) == 0 {
		body = fmt.Sprintf(`{"operations":[{"op":"put","key":"other","value":2},{"op":"put","key":%q,"value":3}]}`, key)
	}
	status, answer, err := where.exchange(context.WithoutCancel(t.Context()), "POST", "/batch", body)
	if err == nil {
		err = failureOf(status, answer)
	}
	if err == nil && status != http.StatusOK && status != http.StatusPreconditionFailed {
		t.Errorf("a batch: %d %s", status, answer)
	}
	return err
}

// reached is the revision of the last event.
func (s *seen) reached() int64 {
	if len(s.events) == 0 {
		return 0
	}
	return s.events[len(s.events)-1].Revision
}

func checkWatch(t *testing.T, i int, s *seen, end int64, answered *sync.Map) {
	t.Helper()
	versions := map[string]int64{}
	for n, e := range s.events {
		if versions[e.Key]++; e.Version != versions[e.Key] || e.Revision != int64(n+1) {
			t.Fatalf("event %d of watch %d is %+v", n+1, i, e)
		}
		if want, known := answered.Load(e.Revision); known && want != e {
			t.Errorf("the event %+v, the answer %+v", e, want)
		}
	}
	if s.reached() != end {
		t.Errorf("watch %d has reached revision %d of %d", i, s.reached(), end)
	}
}

func revisionOf(t *testing.T, where site) int64 {
	t.Helper()
	var stats struct{ Revision int64 }
	eventually(t, "/db/stats", func() error {
		_, body, err := where.exchange(t.Context(), "GET", "/db/stats", "")
		if err == nil {
			err = json.Unmarshal(body, &stats)
		}
		if err == nil && stats.Revision == 0 {
			err = fmt.Errorf("%s", body)
		}
		return err
	})
	return stats.Revision
}

// TestClusterDestroys destroys at one backend what others have in their caches, while clients read it there
// in every way. Once the destruction is answered, no answer to a request that comes then has the bytes.
func TestClusterDestroys(t *testing.T) {
	c := startCluster(t, backendProgram(t), postgrestest.Database(t))
	rounds, reads := either(20, 400), atomic.Int64{}
	for round := range rounds {
		key, secret := fmt.Sprintf("k%d", round), fmt.Sprintf("secret-%d-", round)
		writer := c.sites()[round%5]
		want := func(method, path, body string) string {
			status, text, err := writer.exchange(t.Context(), method, path, body)
			if err != nil || status != http.StatusOK {
				t.Fatalf("%s %s: %d %s, %v", method, path, status, text, err)
			}
			return string(text)
		}
		want("PUT", "/put/"+key, `{"value":"`+secret+`1"}`)
		before := want("PUT", "/put/"+key, `{"value":"`+secret+`2"}`)
		var written fedEvent
		if err := json.Unmarshal([]byte(before), &written); err != nil {
			t.Fatal(err)
		}
		for _, n := range c.backends { // into the caches
			eventually(t, "it is cached", func() error {
				_, body, err := n.exchange(t.Context(), "GET", "/get/"+key, "")
				if err == nil && !strings.Contains(string(body), `"cache"`) {
					err = fmt.Errorf("%s", body)
				}
				return err
			})
		}
		how := []string{"versions=1,2", "all=true"}[round%2]
		paths := []string{
			"/get/" + key, "/get/" + key + "?raw=true", "/get/" + key + "?version=2", "/get/" + key + "?version=1",
			"/history/" + key + "?values=true", "/export?history=true&prefix=" + key, "/diff/" + key + "?from=1&to=2",
			fmt.Sprintf("/watch?since=%d&prefix=%s", written.Revision-2, key),
		}
		var destroyed atomic.Bool
		var readers atomic.Int64
		stop := clients(t, len(paths), func(_ context.Context, client, number int) error {
			where := c.sites()[(number+client)%5]
			after := destroyed.Load()
			text := readOnce(t, where, paths[client])
			if after {
				readers.Add(1)
			}
			if after && strings.Contains(text, secret) {
				t.Errorf("GET %s at %s, after POST /destroy?%s was answered: %s", paths[client], where.url, how, text)
			}
			reads.Add(1)
			return nil
		})
		if answer := want("POST", "/destroy/"+key+"?"+how, ""); !strings.Contains(answer, `"logical"`) {
			t.Errorf("the answer to the destruction: %s", answer)
		}
		destroyed.Store(true)
		eventually(t, "it is read afterwards", func() error {
			if n := readers.Load(); n < 40 && !t.Failed() {
				return fmt.Errorf("%d times", n)
			}
			return nil
		})
		stop()
		if t.Failed() {
			return
		}
	}
	report(t, "%d destructions beside %d reads at all backends: nothing was read after the answer", rounds, reads.Load())
}

// readOnce returns what an answer begins with. A stream gets a short time.
func readOnce(t *testing.T, where site, path string) string {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if strings.HasPrefix(path, "/watch") {
		ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
	}
	_, text, _ := where.exchange(ctx, "GET", path, "") // a stream is cut
	return string(text)
}
