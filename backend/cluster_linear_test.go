package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"kvstore/backend/database/postgres/postgrestest"
)

// linearWindow is how long one set of keys is used, so that histories stay short enough to be checked.
const linearWindow = 2 * time.Second

// linearLoad lets clients read and write a few keys by way of every backend and gateway.
func (c *cluster) linearLoad(t *testing.T, h *history, count *tally) (stop func()) {
	return clients(t, 8, func(_ context.Context, client, number int) error {
		key := fmt.Sprintf("%d/%d", time.Since(h.start)/linearWindow, rand.IntN(linearKeys))
		asked := h.ask(key, fmt.Sprintf("client %d write %d", client, number))
		began := time.Now()
		err := h.operate(t, c.anywhere(), client, key, asked)
		count.note(err, asked.verb != doGet, began)
		return err
	})
}

// checkLinear reads every key once more, so that an acknowledged write that is lost cannot hide, and checks
// the history.
func (c *cluster) checkLinear(t *testing.T, h *history) {
	t.Helper()
	for _, key := range slices.Sorted(maps.Keys(h.operations)) {
		eventually(t, "a last read", func() error { return h.operate(t, c.anywhere(), -1, key, request{verb: doGet}) })
	}
	h.check(t)
}

// TestClusterLinearizable checks the answers of three backends and two gateways, while backends are killed
// and connections to PostgreSQL are cut. As in TestLinearizable, there must be one order of the
// operations on a key that explains every answer.
func TestClusterLinearizable(t *testing.T) {
	database := postgrestest.Database(t)
	c := startCluster(t, backendProgram(t), database)
	h, count := newHistory(), newTally()
	stop := c.linearLoad(t, h, count)
	done := map[string]int{}
	end := time.Now().Add(either(8*time.Second, 3*time.Minute))
	for what := 0; time.Now().Before(end) && !t.Failed(); what++ {
		time.Sleep(rand.N(500 * time.Millisecond)) // some load without a fault
		victim := c.backends[rand.IntN(len(c.backends))]
		switch what % 5 {
		case 0:
			done["backends killed"]++
			victim.process.kill(t)
			victim.start(t)
		case 1:
			done["cuts of all connections of one backend"]++
			victim.proxy.Cut()
		case 2:
			done["cuts at a random byte"]++
			victim.proxy.CutAfter(postgrestest.Direction(rand.IntN(2)), rand.IntN(3000))
		case 3:
			done["backends without PostgreSQL for 0.3 s"]++
			victim.proxy.Refuse(true)
			time.Sleep(300 * time.Millisecond)
			victim.proxy.Refuse(false)
		case 4:
			done["sessions ended by PostgreSQL"]++
			postgrestest.Exec(t, database, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE datname = current_database() AND pid <> pg_backend_pid()`)
		}
	}
	stop()
	c.checkLinear(t, h)
	report(t, "%v; %s", done, count)
}

// TestClusterStaleBuild builds a backend whose reads do not ask for the last commit. The checker must find
// that its answers are not linearizable.
func TestClusterStaleBuild(t *testing.T) {
	onlyLong(t)
	c := startCluster(t, staleProgram(t), postgrestest.Database(t))
	h, count := newHistory(), newTally()
	stop := c.linearLoad(t, h, count)
	time.Sleep(4 * linearWindow)
	stop()
	illegal := 0
	for _, operations := range h.operations {
		if porcupine.CheckOperationsTimeout(registerModel, operations, patience) == porcupine.Illegal {
			illegal++
		}
	}
	if illegal == 0 {
		t.Error("stale reads were not found")
	}
	report(t, "reads that do not ask for the last commit: %d of %d histories are not linearizable; %s", illegal, len(h.operations), count)
}

// staleProgram builds the backend from a copy of store/follower.go that lacks the question.
func staleProgram(t *testing.T) string {
	t.Helper()
	source, err := filepath.Abs("store/follower.go")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	const fresh, stale = "\treturn s.follower.confirm(ctx)\n", "\treturn nil\n"
	if strings.Count(string(text), fresh) != 1 {
		t.Fatalf("%s does not have the line %q once", source, fresh)
	}
	changed := filepath.Join(t.TempDir(), "follower.go")
	replacement, err := json.Marshal(map[string]any{"Replace": map[string]string{source: changed}})
	if err != nil {
		t.Fatal(err)
	}
	overlay := filepath.Join(t.TempDir(), "overlay.json")
	for name, content := range map[string]string{
		changed: strings.Replace(string(text), fresh, stale, 1), overlay: string(replacement),
	} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path, err := build("stale", ".", "-overlay", overlay)
	if err != nil {
		t.Fatal(err)
	}
	return path
}
