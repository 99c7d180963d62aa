package main_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

const (
	linearClients    = 8
	linearKeys       = 3
	linearPhases     = 3    // the program is killed between them
	linearOperations = 1500 // of a phase, over all clients and keys
)

// A request is what a client asks of a key.
type request struct {
	put   bool
	value string // of a put
}

// A reply is what it was told. version is 0 when the key was not found.
type reply struct {
	known   bool // else the connection broke, and the rest is empty
	version int64
	value   string // of a get
}

// A register is the state of a key: version 0 is one that does not exist.
type register struct {
	version int64
	value   string
}

// registerModel says what a key may answer. A put without an answer returns, for
// the checker, after everything else: so it may take effect at any time after its
// call, and at the very end it is as if it had never happened, since nobody sees it.
var registerModel = porcupine.Model{
	Init: func() any { return register{} },
	Step: func(state, input, output any) (bool, any) {
		now, asked, told := state.(register), input.(request), output.(reply)
		if !asked.put {
			return told.version == now.version && told.value == now.value, now
		}
		next := register{version: now.version + 1, value: asked.value}
		return !told.known || told.version == next.version, next
	},
	DescribeOperation: func(input, output any) string {
		asked, told := input.(request), output.(reply)
		switch {
		case asked.put && !told.known:
			return fmt.Sprintf("put %q: no answer", asked.value)
		case asked.put:
			return fmt.Sprintf("put %q: version %d", asked.value, told.version)
		default:
			return fmt.Sprintf("get: version %d, %q", told.version, told.value)
		}
	},
}

// TestLinearizable checks what clients of a few keys were told, over two kills of
// the program: there must be one order of the operations of a key that explains
// every answer, and in which each lies between its request and its answer. The
// cache has room for one key, so that most reads race to fill it.
func TestLinearizable(t *testing.T) {
	env := environment(filepath.Join(t.TempDir(), "kv.db"), "1")
	h := &history{start: time.Now()}
	for phase := range linearPhases {
		backend := spawn(t, env)
		h.run(t, backend, phase)
		backend.kill(t)
	}
	for key := range linearKeys {
		operations := h.operations[key]
		var puts, open int
		for _, o := range operations {
			if o.Input.(request).put {
				puts++
			}
			if !o.Output.(reply).known {
				open++
			}
		}
		t.Logf("key %d: %d operations, %d of them writes, %d without an answer", key, len(operations), puts, open)
		switch porcupine.CheckOperationsTimeout(registerModel, operations, patience) {
		case porcupine.Ok:
		case porcupine.Unknown:
			t.Errorf("key %d: the checker has not come to a result within %s", key, patience)
		case porcupine.Illegal:
			t.Errorf("key %d: not linearizable:\n%s", key, describe(operations))
		}
	}
}

// describe lists operations in the order of their calls.
func describe(operations []porcupine.Operation) string {
	sorted := slices.SortedFunc(slices.Values(operations), func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	var text strings.Builder
	for _, o := range sorted {
		fmt.Fprintf(&text, "%12d to %12d  client %2d  %s\n", o.Call, o.Return, o.ClientId, registerModel.DescribeOperation(o.Input, o.Output))
	}
	return text.String()
}

// history is what happened, by key, with times in nanoseconds since start.
type history struct {
	start time.Time

	mu         sync.Mutex
	operations [linearKeys][]porcupine.Operation
}

// run makes the operations of one phase. The client that gets the last answer of
// the phase kills the program, while the others have requests on their way.
func (h *history) run(t *testing.T, p *process, phase int) {
	var answered atomic.Int64
	var clients sync.WaitGroup
	for client := range linearClients {
		// A client ends with its first operation that is not answered. In the next
		// phase it is another one.
		id := phase*linearClients + client
		clients.Go(func() {
			for n := 0; !t.Failed(); n++ {
				asked := request{}
				if rand.IntN(2) == 0 {
					asked = request{put: true, value: fmt.Sprintf("client %d write %d", id, n)}
				}
				if err := h.operate(t, p, id, rand.IntN(linearKeys), asked); err != nil {
					if answered.Load() < linearOperations { // the program was not killed yet
						t.Errorf("client %d: %v", id, err)
					}
					return
				}
				if answered.Add(1) == linearOperations {
					_ = p.cmd.Process.Kill()
				}
			}
		})
	}
	clients.Wait()
}

// operate makes one operation and keeps it. An error means that it was not
// answered.
func (h *history) operate(t *testing.T, p *process, client, key int, asked request) error {
	method, path, body := "GET", "/get/linear/"+strconv.Itoa(key), ""
	if asked.put {
		method, path, body = "PUT", "/put/linear/"+strconv.Itoa(key), `{"value":`+strconv.Quote(asked.value)+`}`
	}
	operation := porcupine.Operation{ClientId: client, Input: asked, Call: int64(time.Since(h.start))}
	status, data, err := p.exchange(t.Context(), method, path, body)
	operation.Return = int64(time.Since(h.start))
	var told reply
	switch {
	case err != nil && (!asked.put || unsent(err)):
		return err // neither told anything nor changed anything
	case err != nil:
		operation.Return = math.MaxInt64
	default:
		told = parse(t, asked, status, data)
	}
	operation.Output = told
	h.mu.Lock()
	defer h.mu.Unlock()
	h.operations[key] = append(h.operations[key], operation)
	return err
}

// parse reads an answer.
func parse(t *testing.T, asked request, status int, data []byte) reply {
	told := reply{known: true}
	if status == http.StatusNotFound && !asked.put {
		return told
	}
	var f fact
	if err := json.Unmarshal(data, &f); err != nil || status != http.StatusOK || f.Version < 1 {
		t.Errorf("%+v: %d %s (%v)", asked, status, data, err)
	}
	told.version = f.Version
	told.value = f.Value
	return told
}

func put(from, to int64, value string, version int64) porcupine.Operation {
	return porcupine.Operation{
		Call: from, Return: to,
		Input: request{put: true, value: value}, Output: reply{known: true, version: version},
	}
}

// lost is a put that got no answer.
func lost(from int64, value string) porcupine.Operation {
	return porcupine.Operation{Call: from, Return: math.MaxInt64, Input: request{put: true, value: value}, Output: reply{}}
}

func get(from, to int64, value string, version int64) porcupine.Operation {
	return porcupine.Operation{
		Call: from, Return: to,
		Input: request{}, Output: reply{known: true, version: version, value: value},
	}
}

// TestRegisterModel shows that TestLinearizable can fail, and at what.
func TestRegisterModel(t *testing.T) {
	type operations = []porcupine.Operation
	for name, c := range map[string]struct {
		want    bool
		history operations
	}{
		"one after the other":                       {true, operations{get(1, 2, "", 0), put(3, 4, "a", 1), get(5, 6, "a", 1), put(7, 8, "b", 2), get(9, 10, "b", 2)}},
		"a read during a write sees the old value":  {true, operations{put(1, 2, "a", 1), put(3, 9, "b", 2), get(4, 5, "a", 1)}},
		"a read during a write sees the new value":  {true, operations{put(1, 2, "a", 1), put(3, 9, "b", 2), get(4, 5, "b", 2)}},
		"writes at the same time, in either order":  {true, operations{put(1, 9, "a", 2), put(2, 8, "b", 1), get(10, 11, "a", 2)}},
		"a lost write that nobody saw":              {true, operations{put(1, 2, "a", 1), lost(3, "b"), get(5, 6, "a", 1), put(7, 8, "c", 2)}},
		"a lost write that was seen":                {true, operations{put(1, 2, "a", 1), lost(3, "b"), get(5, 6, "b", 2), put(7, 8, "c", 3)}},
		"a lost write that only took a version":     {true, operations{put(1, 2, "a", 1), lost(3, "b"), put(7, 8, "c", 3)}},
		"a lost write that took effect later":       {true, operations{put(1, 2, "a", 1), lost(3, "b"), get(4, 5, "a", 1), get(6, 7, "b", 2)}},
		"several lost writes, one of them seen":     {true, operations{lost(1, "a"), lost(1, "b"), lost(1, "c"), get(3, 4, "b", 1), put(5, 6, "d", 3)}},
		"a stale read":                              {false, operations{put(1, 2, "a", 1), put(3, 4, "b", 2), get(5, 6, "a", 1)}},
		"a read that misses the first write":        {false, operations{put(1, 2, "a", 1), get(3, 4, "", 0)}},
		"the new value, then the old, in a write":   {false, operations{put(1, 2, "a", 1), put(3, 20, "b", 2), get(4, 5, "b", 2), get(6, 7, "a", 1)}},
		"a read before the write":                   {false, operations{get(1, 2, "a", 1), put(3, 4, "a", 1)}},
		"a gap":                                     {false, operations{put(1, 2, "a", 1), put(3, 4, "b", 3)}},
		"a version used twice":                      {false, operations{put(1, 5, "a", 1), put(2, 6, "b", 1)}},
		"versions against the order of the answers": {false, operations{put(1, 2, "a", 2), put(3, 4, "b", 1)}},
		"a value under another version":             {false, operations{put(1, 2, "a", 1), put(3, 4, "b", 2), get(5, 6, "b", 1)}},
		"a value that nobody wrote":                 {false, operations{put(1, 2, "a", 1), get(3, 4, "x", 1)}},
		"a lost write that was seen and went":       {false, operations{put(1, 2, "a", 1), lost(3, "b"), get(4, 5, "b", 2), get(6, 7, "a", 1)}},
		"a lost write whose version is used again":  {false, operations{put(1, 2, "a", 1), lost(3, "b"), get(4, 5, "b", 2), put(6, 7, "c", 2)}},
		"a lost write that was seen before it was":  {false, operations{get(1, 2, "a", 1), lost(3, "a")}},
		"a gap that one lost write cannot fill":     {false, operations{put(1, 2, "a", 1), lost(3, "b"), put(4, 5, "c", 4)}},
		"an answered write that went":               {false, operations{put(1, 2, "a", 1), put(3, 4, "b", 2), put(5, 6, "c", 2)}},
	} {
		if got := porcupine.CheckOperations(registerModel, c.history); got != c.want {
			t.Errorf("%s: linearizable: %t, want %t", name, got, c.want)
		}
	}
}
