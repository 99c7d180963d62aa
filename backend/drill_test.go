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
	"time"
)

// TestBackupDrill loads the service with every operation, backs it up in the middle of
// the load, loses the whole directory of the database and restores it: the service has
// every version that was answered before the backup began, and is the store as it was
// at one revision.
func TestBackupDrill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	env := environment(filepath.Join(dir, "kv.db"), "50")
	p := spawn(t, env)
	clients := make([]*drillClient, 8)
	for i := range clients {
		clients[i] = &drillClient{name: "drill/" + strconv.Itoa(i), p: p, facts: map[drillPlace]drillFact{}, gone: map[drillPlace]bool{}, latest: map[string]int64{}}
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
	var before int64 // the revision up to which all was answered when the backup began
	for _, c := range clients {
		for _, f := range c.facts {
			before = max(before, f.Revision)
		}
	}
	file := filepath.Join(t.TempDir(), "backup.db")
	backed := make(chan struct{})
	go func() {
		defer close(backed)
		out := p.command(t, true, "backup", file)
		if !strings.Contains(out, "is asked for it") || !strings.Contains(out, "backup written and checked") {
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
	p.kill(t)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	out := p.command(t, true, "restore", file)
	found := regexp.MustCompile(`at revision (\d+):`).FindStringSubmatch(out)
	if found == nil {
		t.Fatal(out)
	}
	revision, _ := strconv.ParseInt(found[1], 10, 64)
	p = spawn(t, env)
	// The service goes on at once with the ends of keys that have expired.
	if now := p.revision(t); revision < before || now < revision {
		t.Errorf("the service is at revision %d, the load was at %d when the backup began\n%s", now, before, out)
	}
	versions := 0
	for _, c := range clients {
		c.p = p
		versions += c.verify(t, revision)
	}
	t.Logf("%d versions compared, %d revisions were written before the backup began, the backup is at %d", versions, before, revision)
	c := clients[0]
	number, latest := p.revision(t), c.read(t, c.name+"/last", "")
	if f := c.put(t, c.name+"/last", `"after"`, ""); f.Revision <= number || f.Version != latest.Version+1 {
		t.Errorf("the first write after the restore is %+v, behind revision %d and version %d", f, number, latest.Version)
	}
	p.check(t)
}

// command runs the program with a command on the same database, for the service of p.
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

// A drillFact is what was answered to a write, and what was written.
type drillFact struct {
	Version   int64       `json:"version"`
	Revision  int64       `json:"revision"`
	Timestamp json.Number `json:"timestamp"`
	value     string      // as a GET has it
	with      int64       // the revision of the other write of its batch
}

// A drillClient writes keys that nobody else writes, and knows all that it was
// answered.
type drillClient struct {
	name   string
	p      *process
	facts  map[drillPlace]drillFact
	gone   map[drillPlace]bool // destroyed: nobody knows whether before or after the backup
	latest map[string]int64
}

func (c *drillClient) act(t *testing.T) {
	key := c.name + "/" + strconv.Itoa(rand.IntN(5))
	number := strconv.FormatUint(rand.Uint64(), 10)
	switch rand.IntN(40) {
	case 0, 19, 20:
		if status, body := c.do(t, "DELETE", "/delete/"+key, "", nil); status == http.StatusOK {
			c.note(t, key, body, "", 0)
		} else if status != http.StatusNotFound {
			t.Errorf("DELETE %s: %d %s", key, status, body)
		}
	case 1, 2, 3, 4:
		bytes := []byte("\x00\xff raw " + number)
		_, body := c.do(t, "PUT", "/put/"+key, string(bytes), http.Header{"Content-Type": {"image/x-drill"}})
		c.note(t, key, body, strconv.Quote(base64.StdEncoding.EncodeToString(bytes)), 0)
	case 5, 6, 7, 8:
		c.put(t, key, `"ends in an hour `+number+`"`, "?ttl=1h")
	case 9, 10, 11:
		c.put(t, c.name+"/short", `"ends soon `+number+`"`, "?ttl=20ms")
	case 12, 13, 14, 15, 16:
		c.batch(t, number)
	case 17: // each takes its bytes off the disk, which takes time
		c.destroy(t)
	case 18:
		c.eraseAll(t, number)
	default: // a text of which every digit and the order of the members must stay
		c.put(t, key, `{"z":`+number+`,"a":[1.500,"\u00e9é"],"z2":null,"pad":"`+strings.Repeat(number, rand.IntN(200))+`"}`, "")
	}
}

func (c *drillClient) do(t *testing.T, method, path, body string, header http.Header) (int, []byte) {
	if header == nil {
		header = http.Header{}
	}
	status, answer, err := c.p.exchangeWith(t.Context(), method, path, body, header)
	if err != nil {
		t.Errorf("%s %s: %v", method, path, err)
	}
	return status, answer
}

func (c *drillClient) put(t *testing.T, key, value, query string) drillFact {
	_, body := c.do(t, "PUT", "/put/"+key+query, `{"value":`+value+`}`, nil)
	return c.note(t, key, body, value, 0)
}

func (c *drillClient) note(t *testing.T, key string, body []byte, value string, with int64) drillFact {
	f := drillFact{value: value, with: with}
	if err := json.Unmarshal(body, &f); err != nil || f.Version == 0 {
		t.Errorf("%s: %s, %v", key, body, err)
		return f
	}
	c.facts[drillPlace{key, f.Version}] = f
	c.latest[key] = f.Version
	return f
}

func (c *drillClient) batch(t *testing.T, number string) {
	keys, value := []string{c.name + "/last", c.name + "/0"}, `"batch `+number+`"`
	_, body := c.do(t, "POST", "/batch", fmt.Sprintf(`{"operations":[{"op":"put","key":%q,"value":%s},{"op":"put","key":%q,"value":%s}]}`,
		keys[0], value, keys[1], value), nil)
	var answer struct{ Results []json.RawMessage }
	if err := json.Unmarshal(body, &answer); err != nil || len(answer.Results) != len(keys) {
		t.Errorf("batch: %s, %v", body, err)
		return
	}
	first := c.note(t, keys[0], answer.Results[0], value, 0)
	c.note(t, keys[1], answer.Results[1], value, first.Revision)
}

// destroy erases the value of some version that has one.
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

// eraseAll writes a key and erases it with its history. It goes on counting.
func (c *drillClient) eraseAll(t *testing.T, number string) {
	key := c.name + "/erased"
	f := c.put(t, key, `"erased `+number+`"`, "")
	c.gone[drillPlace{key, f.Version}] = true
	if status, body := c.do(t, "POST", "/destroy/"+key+"?all=true", "", nil); status != http.StatusOK {
		t.Errorf("erase %s: %d %s", key, status, body)
	}
}

// read returns what a GET answers, with the status as the number of the version when
// it is not 200.
func (c *drillClient) read(t *testing.T, key, query string) drillFact {
	status, body := c.do(t, "GET", "/get/"+key+query, "", nil)
	if status != http.StatusOK {
		return drillFact{Version: -int64(status), value: string(body)}
	}
	var f struct {
		drillFact
		Value json.RawMessage
	}
	if err := json.Unmarshal(body, &f); err != nil {
		t.Errorf("GET %s: %s, %v", key, body, err)
	}
	f.value = string(f.Value)
	return f.drillFact
}

// verify compares every version with the store at that revision, and returns how many
// there were.
func (c *drillClient) verify(t *testing.T, revision int64) (compared int) {
	for _, place := range slices.SortedFunc(maps.Keys(c.facts), func(a, b drillPlace) int { return strings.Compare(a.key, b.key) }) {
		want := c.facts[place]
		with := want.with
		want.with = 0
		got := c.read(t, place.key, fmt.Sprintf("?version=%d", place.version))
		switch erased := c.gone[place] && (got.Version == -http.StatusGone || got.Version == -http.StatusNotFound); {
		case with != 0 && (with <= revision) != (want.Revision <= revision):
			t.Errorf("half of the batch of %+v is in the backup", place)
		case want.Revision > revision:
			if got.Version > 0 && got.Revision <= revision {
				t.Errorf("%+v was written at %d and is in the backup at revision %d: %+v", place, want.Revision, revision, got)
			}
		case erased:
		case want.value == "": // a tombstone
			if got.Version != -http.StatusNotFound || !strings.Contains(got.value, "key_deleted") {
				t.Errorf("%+v: %+v, want a tombstone", place, got)
			}
		case got != want:
			t.Errorf("%+v: %+v, want %+v", place, got, want)
		default:
			compared++
		}
	}
	if c.latest[c.name+"/short"] > 0 {
		c.ended(t, c.name+"/short")
	}
	return compared
}

// ended waits until the tombstone of a key that has expired is written.
func (c *drillClient) ended(t *testing.T, key string) {
	for deadline := time.Now().Add(patience); ; {
		if f := c.read(t, key, ""); f.Version == -http.StatusNotFound {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%s has not ended", key)
			return
		}
	}
}
