package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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

// A verb is an operation on a key.
type verb string

const (
	doGet    verb = "get"
	doPut    verb = "put"
	doSwap   verb = "put if" // with If-Match
	doDelete verb = "delete"
)

// A request is what a client asks for.
type request struct {
	verb  verb
	value string // of a put
	match int64  // of a put with a condition: the version that must be the latest
}

// A reply is the outcome of an operation.
type reply struct {
	known   bool  // otherwise the connection broke, and the rest is empty
	refused bool  // the condition did not hold
	version int64 // read or written; the latest for a refusal; 0 if the key does not exist
	value   string
}

// A register is the state of a key. Version 0 means that it never existed.
type register struct {
	version int64
	value   string
	deleted bool
}

// current returns the version of the key, or 0 if it does not exist.
func (r register) current() int64 {
	if r.deleted {
		return 0
	}
	return r.version
}

// step returns the next state and the answer.
func (r register) step(asked request) (register, reply) {
	next := register{version: r.version + 1, value: asked.value, deleted: asked.verb == doDelete}
	switch {
	case asked.verb == doGet && r.current() == 0, asked.verb == doDelete && r.current() == 0:
		return r, reply{known: true}
	case asked.verb == doGet:
		return r, reply{known: true, version: r.version, value: r.value}
	case asked.verb == doSwap && r.current() != asked.match:
		return r, reply{known: true, refused: true, version: r.current()}
	default:
		return next, reply{known: true, version: next.version}
	}
}

// registerModel models a key. For the checker, a write without an answer returns after
// everything else. So it may take effect at any time after its call, or never, because at
// the very end nobody sees it.
var registerModel = porcupine.Model{
	Init: func() any { return register{} },
	Step: func(state, input, output any) (bool, any) {
		told := output.(reply)
		next, answer := state.(register).step(input.(request))
		return !told.known || told == answer, next
	},
	DescribeOperation: func(input, output any) string {
		asked, told := input.(request), output.(reply)
		switch {
		case !told.known:
			return fmt.Sprintf("%s %q (%d): no answer", asked.verb, asked.value, asked.match)
		case told.refused:
			return fmt.Sprintf("%s %q (%d): refused, the latest is %d", asked.verb, asked.value, asked.match, told.version)
		default:
			return fmt.Sprintf("%s %q (%d): version %d, %q", asked.verb, asked.value, asked.match, told.version, told.value)
		}
	},
}

// TestLinearizable checks the answers to clients of a few keys, over two kills of the
// program. There must be one order of the operations on a key that explains every answer,
// with each operation between its request and its answer. The cache has room for only one
// key, so that most reads race to fill it.
func TestLinearizable(t *testing.T) {
	env := environment(filepath.Join(t.TempDir(), "kv.db"), "1")
	h := newHistory()
	for phase := range linearPhases {
		backend := spawn(t, env)
		h.run(t, backend, phase)
		backend.kill(t)
	}
	h.check(t)
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

// history holds the operations by key, with times in nanoseconds since start.
type history struct {
	start time.Time

	mu         sync.Mutex
	operations map[string][]porcupine.Operation
	// seen has the version of each key in the most recent answer.
	seen map[string]int64
}

func newHistory() *history {
	return &history{start: time.Now(), operations: map[string][]porcupine.Operation{}, seen: map[string]int64{}}
}

// check fails the test unless the operations on each key are linearizable.
func (h *history) check(t *testing.T) {
	t.Helper()
	for _, key := range slices.Sorted(maps.Keys(h.operations)) {
		operations := h.operations[key]
		count := map[string]int{}
		for _, o := range operations {
			count[string(o.Input.(request).verb)]++
			if told := o.Output.(reply); told.refused {
				count["refused"]++
			} else if !told.known {
				count["without an answer"]++
			}
		}
		t.Logf("key %s: %d operations: %v", key, len(operations), count)
		switch porcupine.CheckOperationsTimeout(registerModel, operations, patience) {
		case porcupine.Ok:
		case porcupine.Unknown:
			t.Errorf("key %s: the checker had no result within %s", key, patience)
		case porcupine.Illegal:
			t.Errorf("key %s: not linearizable:\n%s", key, describe(operations))
		}
	}
}

// ask returns a random request. Conditions use the version that was seen last, so that
// some of them hold and several clients try the same one.
func (h *history) ask(key, value string) request {
	switch n := rand.IntN(10); {
	case n < 5:
		return request{verb: doGet}
	case n < 7:
		return request{verb: doPut, value: value}
	case n < 9:
		h.mu.Lock()
		seen := h.seen[key]
		h.mu.Unlock()
		if seen > 0 {
			return request{verb: doSwap, value: value, match: seen}
		}
		return request{verb: doPut, value: value}
	default:
		return request{verb: doDelete}
	}
}

// run makes the operations of one phase. The client that gets the last answer kills the
// program, while the others have requests in flight.
func (h *history) run(t *testing.T, p *process, phase int) {
	var answered atomic.Int64
	var clients sync.WaitGroup
	for client := range linearClients {
		// A client ends with its first operation without an answer, so each phase has
		// new ones.
		id := phase*linearClients + client
		clients.Go(func() {
			for n := 0; !t.Failed(); n++ {
				key := strconv.Itoa(rand.IntN(linearKeys))
				asked := h.ask(key, fmt.Sprintf("client %d write %d", id, n))
				if err := h.operate(t, p.site, id, key, asked); err != nil {
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

// operate makes an operation and records it. An error means that there was no answer, or one that says
// that the service cannot answer now.
func (h *history) operate(t *testing.T, where site, client int, key string, asked request) error {
	operation := porcupine.Operation{ClientId: client, Input: asked, Call: int64(time.Since(h.start))}
	status, data, err := h.send(t, where, key, asked)
	operation.Return = int64(time.Since(h.start))
	if err == nil {
		err = failureOf(status, data)
	}
	var told reply
	switch {
	case err != nil && (asked.verb == doGet || hadNoEffect(err)):
		return err
	case err != nil:
		operation.Return = math.MaxInt64
	default:
		told = parse(t, asked, status, data)
	}
	operation.Output = told
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		h.seen[key] = told.version
	}
	h.operations[key] = append(h.operations[key], operation)
	return err
}

// A failure is an answer which says that the service cannot do now what was asked.
type failure struct {
	status int
	code   string
}

func (f *failure) Error() string { return fmt.Sprintf("%d %s", f.status, f.code) }

// failureOf returns nil for the other answers.
func failureOf(status int, data []byte) error {
	var problem struct{ Code string }
	if status >= http.StatusInternalServerError && json.Unmarshal(data, &problem) == nil && problem.Code != "internal" {
		return &failure{status, problem.Code}
	}
	return nil
}

// hadNoEffect reports whether a failed write was surely not made. The gateway does not know it of what it
// has forwarded.
func hadNoEffect(err error) bool {
	var f *failure
	if errors.As(err, &f) {
		return f.status == http.StatusServiceUnavailable && f.code != "backend_unavailable"
	}
	return unsent(err)
}

func (h *history) send(t *testing.T, where site, key string, asked request) (int, []byte, error) {
	name := "/linear/" + key
	switch asked.verb {
	case doGet:
		return where.exchange(t.Context(), "GET", "/get"+name, "")
	case doDelete:
		return where.exchange(t.Context(), "DELETE", "/delete"+name, "")
	case doPut, doSwap:
		header := http.Header{}
		if asked.verb == doSwap {
			header.Set("If-Match", strconv.Quote(strconv.FormatInt(asked.match, 10)))
		}
		return where.exchangeWith(t.Context(), "PUT", "/put"+name, `{"value":`+strconv.Quote(asked.value)+`}`, header)
	default:
		return 0, nil, fmt.Errorf("no verb %q", asked.verb)
	}
}

// parse reads an answer.
func parse(t *testing.T, asked request, status int, data []byte) reply {
	told := reply{known: true}
	switch {
	case status == http.StatusNotFound && (asked.verb == doGet || asked.verb == doDelete):
		return told
	case status == http.StatusPreconditionFailed && asked.verb == doSwap:
		var refusal struct {
			Current *int64 `json:"current_version"`
		}
		if err := json.Unmarshal(data, &refusal); err != nil || refusal.Current == nil {
			t.Errorf("%+v: %d %s (%v)", asked, status, data, err)
			return told
		}
		told.refused, told.version = true, *refusal.Current
		return told
	}
	var f fact
	if err := json.Unmarshal(data, &f); err != nil || status != http.StatusOK || f.Version < 1 {
		t.Errorf("%+v: %d %s (%v)", asked, status, data, err)
	}
	told.version, told.value = f.Version, f.Value
	return told
}

func put(from, to int64, value string, version int64) porcupine.Operation {
	return porcupine.Operation{
		Call: from, Return: to,
		Input: request{verb: doPut, value: value}, Output: reply{known: true, version: version},
	}
}

// lost returns a put without an answer.
func lost(from int64, value string) porcupine.Operation {
	return porcupine.Operation{Call: from, Return: math.MaxInt64, Input: request{verb: doPut, value: value}, Output: reply{}}
}

func get(from, to int64, value string, version int64) porcupine.Operation {
	return porcupine.Operation{
		Call: from, Return: to,
		Input: request{verb: doGet}, Output: reply{known: true, version: version, value: value},
	}
}

// swap returns a put whose condition held.
func swap(from, to, match int64, value string, version int64) porcupine.Operation {
	return porcupine.Operation{
		Call: from, Return: to,
		Input: request{verb: doSwap, value: value, match: match}, Output: reply{known: true, version: version},
	}
}

// refused returns a put whose condition failed at version current.
func refused(from, to, match, current int64) porcupine.Operation {
	return porcupine.Operation{
		Call: from, Return: to,
		Input: request{verb: doSwap, match: match}, Output: reply{known: true, refused: true, version: current},
	}
}

// deleted returns a deletion that made a version, or found nothing if version is 0.
func deleted(from, to, version int64) porcupine.Operation {
	return porcupine.Operation{Call: from, Return: to, Input: request{verb: doDelete}, Output: reply{known: true, version: version}}
}

// TestRegisterModel shows what TestLinearizable can detect.
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
		"a swap":                                    {true, operations{put(1, 2, "a", 1), swap(3, 4, 1, "b", 2), get(5, 6, "b", 2)}},
		"two swaps at once, one refused":            {true, operations{put(1, 2, "a", 1), swap(3, 9, 1, "b", 2), refused(4, 8, 1, 2)}},
		"a swap of a deleted key is refused":        {true, operations{put(1, 2, "a", 1), deleted(3, 4, 2), refused(5, 6, 2, 0), get(7, 8, "", 0)}},
		"a deletion and a new start":                {true, operations{put(1, 2, "a", 1), deleted(3, 4, 2), deleted(5, 6, 0), put(7, 8, "b", 3), get(9, 10, "b", 3)}},
		"two swaps that both won":                   {false, operations{put(1, 2, "a", 1), swap(3, 9, 1, "b", 2), swap(4, 8, 1, "c", 2)}},
		"a swap over an answered write":             {false, operations{put(1, 2, "a", 1), put(3, 4, "b", 2), swap(5, 6, 1, "c", 3)}},
		"a swap refused though it held":             {false, operations{put(1, 2, "a", 1), refused(3, 4, 1, 1)}},
		"a refusal with a later version":            {false, operations{put(1, 2, "a", 1), refused(3, 4, 9, 2), put(5, 6, "b", 2)}},
		"a read of a deleted key":                   {false, operations{put(1, 2, "a", 1), deleted(3, 4, 2), get(5, 6, "a", 1)}},
		"two deletions of one version":              {false, operations{put(1, 2, "a", 1), deleted(3, 9, 2), deleted(4, 8, 2)}},
		"a version that a deletion had":             {false, operations{put(1, 2, "a", 1), deleted(3, 4, 2), put(5, 6, "b", 2)}},
		"an answered write that went":               {false, operations{put(1, 2, "a", 1), put(3, 4, "b", 2), put(5, 6, "c", 2)}},
	} {
		if got := porcupine.CheckOperations(registerModel, c.history); got != c.want {
			t.Errorf("%s: linearizable: %t, want %t", name, got, c.want)
		}
	}
}
