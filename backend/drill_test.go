package main_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// TestBackupDrill runs every operation, backs up the service meanwhile, deletes the whole
// directory of the database and restores it. The service must have every version that was
// answered before the backup began, and be as it was at one revision.
func TestBackupDrill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	env := environment(filepath.Join(dir, "kv.db"), "50")
	p := spawn(t, env)
	clients := make([]*drillClient, 8)
	for i := range clients {
		clients[i] = &drillClient{name: "drill/" + strconv.Itoa(i), p: p, facts: map[drillPlace]drillFact{}, gone: map[drillPlace]bool{}}
	}
	load := func(more func() bool) {
		var wg sync.WaitGroup
		for _, c := range clients {
			wg.Go(func() {
				for n := 0; n < 200 || more(); n++ {
					if c.act(t); t.Failed() {
						return
					}
				}
			})
		}
		wg.Wait()
	}
	load(func() bool { return false })
	if t.Failed() {
		return
	}
	var before int64 // everything up to this revision was answered when the backup began
	for _, c := range clients {
		c.goneBefore = maps.Clone(c.gone)
		for _, f := range c.facts {
			before = max(before, f.Revision)
		}
	}
	file := filepath.Join(t.TempDir(), "backup.db")
	backed := make(chan struct{})
	go func() {
		defer close(backed)
		out := p.command(t, true, "backup", file)
		if !strings.Contains(out, "asking the service at") || !strings.Contains(out, "backup written and checked") {
			t.Errorf("backup:\n%s", out)
		}
	}()
	load(func() bool {
		select {
		case <-backed:
			return false
		default:
			return true
		}
	})
	<-backed
	histories := make([]map[string]drillPast, len(clients)) // before the loss
	for i, c := range clients {
		histories[i] = c.histories(t)
	}
	p.kill(t)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	out := p.command(t, true, "restore", file)
	found := regexp.MustCompile(`at revision \d+: .*`).FindString(out)
	var totals drillTotals
	if _, err := fmt.Sscanf(found, "at revision %d: %d keys, %d versions,", &totals.Revision, &totals.Keys, &totals.Versions); err != nil {
		t.Fatal(out, err)
	}
	revision := totals.Revision
	p = spawn(t, env)
	// The service writes tombstones of expired keys at once.
	if now := p.revision(t); revision < before || now < revision {
		t.Errorf("the service is at revision %d, the load was at %d when the backup began\n%s", now, before, out)
	}
	versions := 0
	for i, c := range clients {
		c.p = p
		versions += c.verify(t, histories[i], revision)
	}
	verifyTotals(t, clients, totals)
	t.Logf("%d versions compared, %d revisions were written before the backup began, the backup is at %d", versions, before, revision)
	c := clients[0]
	number, latest := p.revision(t), len(c.history(t, c.name+"/last"))
	if f := c.put(t, c.name+"/last", `"after"`, ""); f.Revision <= number || f.Version != int64(latest)+1 {
		t.Errorf("the first write after the restore is %+v, want it after revision %d and version %d", f, number, latest)
	}
	p.check(t)
}

// command runs a command of the program on the database of p.
func (p *process) command(t *testing.T, succeeds bool, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), p.cmd.Path, args...)
	command.Env = append(slices.Clip(p.cmd.Env), "GORACE=atexit_sleep_ms=0", "KV_BACKEND_ADDR="+strings.TrimPrefix(p.url, "http://"))
	out, err := command.CombinedOutput()
	if (err == nil) != succeeds {
		t.Errorf("backend %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (p *process) revision(t *testing.T) int64 {
	t.Helper()
	status, body, err := p.exchange(t.Context(), "GET", "/db/stats", "")
	var stats struct{ Revision int64 }
	if err == nil {
		err = json.Unmarshal(body, &stats)
	}
	if err != nil || status != http.StatusOK {
		t.Fatalf("/db/stats: %d %s, %v", status, body, err)
	}
	return stats.Revision
}

type drillPlace struct {
	key     string
	version int64
}

// A drillFact is the answer to a write, and what was asked of it.
type drillFact struct {
	Version   int64       `json:"version"`
	Revision  int64       `json:"revision"`
	Timestamp json.Number `json:"timestamp"`
	ExpiresAt json.Number `json:"expires_at"`
	value     string      // as a GET returns it
	with      int64       // the revision of the other write of its batch
	asked     drillAsked
}

// A drillAsked holds the properties of a version besides its value.
type drillAsked struct {
	operation, author, contentType, expires string
}

const drillJSON = "application/json"

// A drillClient is the only writer of its keys, and records all answers.
type drillClient struct {
	name       string
	p          *process
	facts      map[drillPlace]drillFact
	gone       map[drillPlace]bool // destroyed, before or after the backup
	goneBefore map[drillPlace]bool // destroyed before the backup
	author     string              // of the current write
}

func (c *drillClient) act(t *testing.T) {
	key := c.name + "/" + strconv.Itoa(rand.IntN(5))
	number := strconv.FormatUint(rand.Uint64(), 10)
	c.author = []string{"", "alice", "token-" + number}[rand.IntN(3)]
	switch rand.IntN(40) {
	case 0, 19, 20:
		if status, body := c.do(t, "DELETE", "/delete/"+key, "", nil); status == http.StatusOK {
			c.note(t, key, body, drillFact{asked: drillAsked{operation: "delete"}})
		} else if status != http.StatusNotFound {
			t.Errorf("DELETE %s: %d %s", key, status, body)
		}
	case 1, 2, 3, 4:
		bytes := []byte("\x00\xff raw " + number)
		kind := []string{"image/x-drill", "text/plain; charset=utf-8"}[rand.IntN(2)]
		_, body := c.do(t, "PUT", "/put/"+key, string(bytes), http.Header{"Content-Type": {kind}})
		c.note(t, key, body, drillFact{value: strconv.Quote(base64.StdEncoding.EncodeToString(bytes)), asked: drillAsked{operation: "put", contentType: kind}})
	case 5, 6, 7, 8:
		c.put(t, key, `"ends in an hour `+number+`"`, "?ttl=1h")
	case 9, 10, 11:
		c.put(t, c.name+"/short", `"ends soon `+number+`"`, "?ttl=20ms")
	case 12, 13, 14, 15, 16:
		c.batch(t, number)
	case 17: // rarely, because overwriting the bytes takes time
		c.destroy(t)
	case 18:
		c.eraseAll(t, number)
	case 21, 22, 23:
		c.patch(t, number)
	case 24, 25, 26:
		c.revert(t)
	default: // every digit and the order of the members must be kept
		c.put(t, key, `{"z":`+number+`,"a":[1.500,"\u00e9é"],"z2":null,"pad":"`+strings.Repeat(number, rand.IntN(200))+`"}`, "")
	}
}

func (c *drillClient) do(t *testing.T, method, path, body string, header http.Header) (int, []byte) {
	if header == nil {
		header = http.Header{}
	}
	if c.author != "" { // as the gateway sends it
		header.Set("X-Kv-Author", c.author)
	}
	status, answer, err := c.p.exchangeWith(t.Context(), method, path, body, header)
	if err != nil {
		t.Errorf("%s %s: %v", method, path, err)
	}
	return status, answer
}

func (c *drillClient) put(t *testing.T, key, value, query string) drillFact {
	_, body := c.do(t, "PUT", "/put/"+key+query, `{"value":`+value+`}`, nil)
	return c.note(t, key, body, drillFact{value: value, asked: drillAsked{operation: "put", contentType: drillJSON}})
}

// note records what was asked and answered.
func (c *drillClient) note(t *testing.T, key string, body []byte, f drillFact) drillFact {
	if err := json.Unmarshal(body, &f); err != nil || f.Version == 0 {
		t.Errorf("%s: %s, %v", key, body, err)
		return f
	}
	f.asked.author = c.author
	c.facts[drillPlace{key, f.Version}] = f
	return f
}

func (c *drillClient) batch(t *testing.T, number string) {
	keys, value := []string{c.name + "/last", c.name + "/0"}, `"batch `+number+`"`
	_, body := c.do(t, "POST", "/batch", fmt.Sprintf(`{"operations":[{"op":"put","key":%q,"value":%s},{"op":"put","key":%q,"value":%s,"ttl":"2h"}]}`,
		keys[0], value, keys[1], value), nil)
	var answer struct{ Results []json.RawMessage }
	if err := json.Unmarshal(body, &answer); err != nil || len(answer.Results) != len(keys) {
		t.Errorf("batch: %s, %v", body, err)
		return
	}
	asked := drillAsked{operation: "put", contentType: drillJSON}
	first := c.note(t, keys[0], answer.Results[0], drillFact{value: value, asked: asked})
	c.note(t, keys[1], answer.Results[1], drillFact{value: value, asked: asked, with: first.Revision})
}

// patch adds a member to an object, in both formats.
func (c *drillClient) patch(t *testing.T, number string) {
	key := c.name + "/patched"
	c.put(t, key, `{"first":1.50}`, "?ttl=1h")
	kind, body := "application/merge-patch+json", `{"second":`+number+`}`
	if rand.IntN(2) == 0 {
		kind, body = "application/json-patch+json", `[{"op":"add","path":"/second","value":`+number+`}]`
	}
	status, answer := c.do(t, "PATCH", "/patch/"+key, body, http.Header{"Content-Type": {kind}})
	if status != http.StatusOK {
		t.Errorf("PATCH %s: %d %s", key, status, answer)
		return
	}
	c.note(t, key, answer, drillFact{value: `{"first":1.50,"second":` + number + `}`, asked: drillAsked{operation: "patch", contentType: drillJSON}})
}

// revert reverts to a version that has a value.
func (c *drillClient) revert(t *testing.T) {
	for place, f := range c.facts {
		if f.value == "" || c.gone[place] || strings.HasSuffix(place.key, "/short") {
			continue
		}
		status, body := c.do(t, "POST", fmt.Sprintf("/revert/%s?version=%d", place.key, place.version), "", nil)
		if status != http.StatusOK {
			t.Errorf("revert %+v: %d %s", place, status, body)
			return
		}
		c.note(t, place.key, body, drillFact{value: f.value, asked: drillAsked{operation: "revert", contentType: f.asked.contentType}})
		return
	}
}

// destroy destroys a version that has a value.
func (c *drillClient) destroy(t *testing.T) {
	for place, f := range c.facts {
		if f.value != "" && !c.gone[place] {
			c.gone[place] = true
			if status, body := c.do(t, "POST", fmt.Sprintf("/destroy/%s?versions=%d", place.key, place.version), "", nil); status != http.StatusOK {
				t.Errorf("destroy %+v: %d %s", place, status, body)
			}
			return
		}
	}
}

// eraseAll writes a key and erases it with its history. Its version numbers go on.
func (c *drillClient) eraseAll(t *testing.T, number string) {
	key := c.name + "/erased"
	f := c.put(t, key, `"erased `+number+`"`, "")
	c.gone[drillPlace{key, f.Version}] = true
	if status, body := c.do(t, "POST", "/destroy/"+key+"?all=true", "", nil); status != http.StatusOK {
		t.Errorf("erase %s: %d %s", key, status, body)
	}
}
