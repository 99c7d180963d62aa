package traefik_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
)

// soakKeys bounds the keys of each kind that a client has. All clients together have more keys
// than fit into the cache, but few enough that within minutes each key has as many versions as
// are kept, so that the database stops growing.
const soakKeys = 50

// A soakClient is the only writer of its keys, so that it knows every answer.
type soakClient struct {
	*soak
	prefix   string
	rounds   int
	versions map[string]int // of each key, the latest
	revision int            // of its last write
	timed    map[string]int // expired keys -> the version that expired

	watching sync.WaitGroup
}

func newSoakClient(s *soak, n int) *soakClient {
	c := &soakClient{soak: s, prefix: fmt.Sprintf("soak/%d/", n), versions: map[string]int{}, timed: map[string]int{}}
	w := &soakWatcher{soak: s, prefix: c.prefix + "main/", versions: map[string]int{}}
	c.watching.Go(w.run)
	return c
}

// lastKey is the last key that a client writes.
const lastKey = "last"

// end waits until the watcher has seen the last write.
func (c *soakClient) end() {
	key := c.prefix + "main/" + lastKey
	c.wrote(key, c.ask(http.StatusOK, http.MethodPut, "/put/"+key, jsonBody, `{"value":"the end"}`))
	c.watching.Wait()
}

var jsonBody = http.Header{"Content-Type": {"application/json"}}

// round uses every operation on a key.
func (c *soakClient) round() {
	key := fmt.Sprintf("%smain/%d", c.prefix, c.rounds%soakKeys)
	first := c.writes(key)
	c.reads(key, first)
	c.mistakes(key)
	c.rawValue(fmt.Sprintf("%sraw/%d", c.prefix, c.rounds%20))
	c.timedValue(fmt.Sprintf("%sttl/%d", c.prefix, c.rounds%soakKeys))
	if c.rounds%10 == 0 {
		c.destroys(fmt.Sprintf("%sgone/%d", c.prefix, c.rounds/10%5))
		c.largeValue(c.prefix + "large")
		c.watchOnce(key)
	}
	if c.rounds%500 == 100 { // not all clients at the start
		c.operator()
	}
	c.rounds++
}

// wrote checks the answer to a write and returns its revision.
func (c *soakClient) wrote(key string, answer response) int {
	var put putAnswer
	c.decode(answer, &put)
	tag := fmt.Sprintf("%q", fmt.Sprint(put.Version))
	if put.Operation == "delete" { // of a version without a value
		tag = ""
	}
	if put.Key != key || put.Version != c.versions[key]+1 || put.Revision <= c.revision || answer.header.Get("ETag") != tag {
		c.t.Errorf("after version %d of %s, revision %d: %s %v", c.versions[key], key, c.revision, answer.body, answer.header)
	}
	c.versions[key], c.revision = put.Version, put.Revision
	return put.Revision
}

// wantValue reads a key and compares its value.
func (c *soakClient) wantValue(key, query string, version int, value string) getAnswer {
	var got getAnswer
	c.decode(c.ask(http.StatusOK, http.MethodGet, "/get/"+key+query, nil, ""), &got)
	if got.Key != key || got.Version != version || string(got.Value) != value {
		c.t.Errorf("%s%s: version %d: %.80s, want version %d: %.80s", key, query, got.Version, got.Value, version, value)
	}
	return got
}

func (c *soakClient) decode(answer response, to any) {
	if err := json.Unmarshal([]byte(answer.body), to); err != nil {
		c.t.Errorf("%v in %.200s", err, answer.body)
	}
}

// writes uses every kind of write and returns the version of the first one.
func (c *soakClient) writes(key string) int {
	padding := strings.Repeat("x", 500)
	c.wrote(key, c.ask(http.StatusOK, http.MethodPut, "/put/"+key, jsonBody, `{"value":{"n":1,"text":"`+padding+`"}}`))
	first := c.versions[key]
	c.wantValue(key, "", first, `{"n":1,"text":"`+padding+`"}`)
	merge := http.Header{"Content-Type": {"application/merge-patch+json"}, "If-Match": {fmt.Sprintf("%q", fmt.Sprint(first))}}
	c.wrote(key, c.ask(http.StatusOK, http.MethodPatch, "/patch/"+key, merge, `{"n":2}`))
	c.wantValue(key, "", first+1, `{"n":2,"text":"`+padding+`"}`)
	patch := http.Header{"Content-Type": {"application/json-patch+json"}}
	c.wrote(key, c.ask(http.StatusOK, http.MethodPatch, "/patch/"+key, patch, `[{"op":"remove","path":"/text"},{"op":"test","path":"/n","value":2}]`))
	c.wantValue(key, "", first+2, `{"n":2}`)
	c.wrote(key, c.ask(http.StatusOK, http.MethodDelete, "/delete/"+key, nil, ""))
	c.ask(http.StatusNotFound, http.MethodGet, "/get/"+key, nil, "")
	c.wrote(key, c.ask(http.StatusOK, http.MethodPost, fmt.Sprintf("/revert/%s?version=%d", key, first), nil, ""))
	c.wantValue(key, "", first+4, `{"n":1,"text":"`+padding+`"}`)
	c.batch(key)
	return first
}

func (c *soakClient) batch(key string) {
	var answer struct {
		Revision int
		Results  []struct {
			Version int
			Value   json.RawMessage
		}
	}
	c.decode(c.ask(http.StatusOK, http.MethodPost, "/batch", jsonBody, fmt.Sprintf(
		`{"conditions":[{"key":%q,"version":%d}],"operations":[{"op":"put","key":%q,"value":3},{"op":"get","key":%q}]}`,
		key, c.versions[key], key, key)), &answer)
	c.versions[key]++
	if r := answer.Results; len(r) != 2 || r[0].Version != c.versions[key] || r[1].Version != c.versions[key] || string(r[1].Value) != "3" {
		c.t.Errorf("batch for version %d of %s: %+v", c.versions[key], key, answer)
	}
	c.revision = max(c.revision, answer.Revision)
}

// reads uses every kind of read on what writes has written, from version first on.
func (c *soakClient) reads(key string, first int) {
	latest := c.versions[key]
	read := c.wantValue(key, "", latest, "3")
	c.wantValue(key, fmt.Sprintf("?version=%d", first+2), first+2, `{"n":2}`)
	c.wantValue(key, fmt.Sprintf("?at=%.6f", read.Timestamp), latest, "3")
	tag := fmt.Sprintf("%q", fmt.Sprint(latest))
	c.ask(http.StatusNotModified, http.MethodGet, "/get/"+key, http.Header{"If-None-Match": {tag}}, "")
	if head := c.ask(http.StatusOK, http.MethodHead, "/get/"+key, nil, ""); head.body != "" || head.header.Get("ETag") != tag {
		c.t.Errorf("HEAD of %s: %q %v", key, head.body, head.header)
	}
	if diff := c.ask(http.StatusOK, http.MethodGet, fmt.Sprintf("/diff/%s?from=%d&to=%d", key, first+2, latest), nil, ""); !strings.Contains(diff.body, `"replace"`) {
		c.t.Errorf("diff of %s: %s", key, diff.body)
	}
	var history struct{ Versions []struct{ Version int } }
	c.decode(c.ask(http.StatusOK, http.MethodGet, "/history/"+key+"?limit=6", nil, ""), &history)
	for i, v := range history.Versions {
		if v.Version != latest-i {
			c.t.Errorf("history of %s at version %d: %+v", key, latest, history)
		}
	}
	if len(history.Versions) != 6 {
		c.t.Errorf("history of %s: %+v", key, history)
	}
	list := c.ask(http.StatusOK, http.MethodGet, "/keys?prefix="+c.prefix+"main/&limit=100", nil, "")
	if !strings.Contains(list.body, `"`+key+`"`) {
		c.t.Errorf("%s is not listed: %.300s", key, list.body)
	}
	folded := c.ask(http.StatusOK, http.MethodGet, "/keys?prefix="+c.prefix+"&delimiter=/", nil, "")
	if !strings.Contains(folded.body, `"`+c.prefix+`main/"`) {
		c.t.Errorf("folded: %.300s", folded.body)
	}
	for _, target := range []string{"/cache/stats", "/db/stats", "/health"} {
		if answer := c.ask(http.StatusOK, http.MethodGet, target, nil, ""); !json.Valid([]byte(answer.body)) {
			c.t.Errorf("%s: %.300s", target, answer.body)
		}
	}
	// Like a client without keep-alive.
	if answer, err := tryRequest(webAddress, http.MethodGet, "/get/"+key, nil, ""); err != nil || answer.status != http.StatusOK {
		c.t.Errorf("over a new connection: %v, %+v", err, answer)
	}
}

// mistakes sends invalid requests, which must be refused with the right status and write
// nothing: the next write has the next version.
func (c *soakClient) mistakes(key string) {
	c.ask(http.StatusPreconditionFailed, http.MethodPut, "/put/"+key, http.Header{"If-None-Match": {"*"}}, `{"value":1}`)
	c.ask(http.StatusPreconditionFailed, http.MethodPut, "/put/"+key, http.Header{"If-Match": {`"1000000000"`}}, `{"value":1}`)
	c.ask(http.StatusBadRequest, http.MethodPut, "/put/"+key, jsonBody, `{"value":`)
	c.ask(http.StatusUnprocessableEntity, http.MethodPut, "/put/"+key, jsonBody, `{"val":1}`)
	c.ask(http.StatusUnprocessableEntity, http.MethodGet, "/get/"+key+"?version=x", nil, "")
	c.ask(http.StatusNotFound, http.MethodGet, "/get/"+key+"?version=1000000000", nil, "")
	c.ask(http.StatusNotFound, http.MethodGet, "/nothing", nil, "")
	c.ask(http.StatusMethodNotAllowed, http.MethodDelete, "/put/"+key, nil, "")
	c.ask(http.StatusConflict, http.MethodPatch, "/patch/"+key, http.Header{"Content-Type": {"application/json-patch+json"}}, `[{"op":"remove","path":"/none"}]`)
	c.ask(http.StatusUnsupportedMediaType, http.MethodPatch, "/patch/"+key, http.Header{"Content-Type": {"text/plain"}}, `x`)
}

func (c *soakClient) rawValue(key string) {
	bytes := strings.Repeat(string([]byte{0, 1, 0xff, byte(c.rounds)}), c.rounds*331%1000)
	c.wrote(key, c.ask(http.StatusOK, http.MethodPost, "/put/"+key, http.Header{"Content-Type": {"application/octet-stream"}}, bytes))
	got := c.ask(http.StatusOK, http.MethodGet, "/get/"+key+"?raw=true", nil, "")
	if got.body != bytes || got.header.Get("Content-Type") != "application/octet-stream" {
		c.t.Errorf("%s: %d bytes of %q, want %d", key, len(got.body), got.header.Get("Content-Type"), len(bytes))
	}
}

// timedValue writes a key that expires at once, and checks the one of the previous round, which
// must have expired, with or without a tombstone.
func (c *soakClient) timedValue(key string) {
	if c.timed[key] > 0 {
		c.ask(http.StatusNotFound, http.MethodGet, "/get/"+key, nil, "")
	}
	var put putAnswer
	c.decode(c.ask(http.StatusOK, http.MethodPut, "/put/"+key+"?ttl=10ms", jsonBody, `{"value":"short"}`), &put)
	if before := c.timed[key]; before > 0 && put.Version != before+2 || before == 0 && put.Version != 1 {
		c.t.Errorf("%s: version %d after version %d has ended", key, put.Version, before)
	}
	c.timed[key], c.revision = put.Version, put.Revision
}

func (c *soakClient) destroys(key string) {
	c.wrote(key, c.ask(http.StatusOK, http.MethodPut, "/put/"+key, jsonBody, `{"value":"secret"}`))
	c.wrote(key, c.ask(http.StatusOK, http.MethodPut, "/put/"+key, jsonBody, `{"value":"open"}`))
	version := c.versions[key] - 1
	c.ask(http.StatusOK, http.MethodPost, fmt.Sprintf("/destroy/%s?versions=%d", key, version), nil, "")
	c.ask(http.StatusGone, http.MethodGet, fmt.Sprintf("/get/%s?version=%d", key, version), nil, "")
	c.wantValue(key, "", version+1, `"open"`)
	if c.rounds%20 == 0 {
		c.ask(http.StatusOK, http.MethodPost, "/destroy/"+key+"?all=true", nil, "")
		c.versions[key]++ // the tombstone
		c.ask(http.StatusNotFound, http.MethodGet, "/get/"+key, nil, "")
	}
}

// largeValue writes a value in many pieces, and one that is too large.
func (c *soakClient) largeValue(key string) {
	value := `"` + strings.Repeat("l", 200_000+c.rounds%1000) + `"`
	c.wrote(key, c.ask(http.StatusOK, http.MethodPut, "/put/"+key, jsonBody, `{"value":`+value+`}`))
	c.wantValue(key, "", c.versions[key], value)
	c.ask(http.StatusRequestEntityTooLarge, http.MethodPut, "/put/"+key, jsonBody, `{"value":"`+strings.Repeat("l", mebibyte)+`"}`)
}

// operator uses the endpoints for operators, and reads the documents.
func (c *soakClient) operator() {
	c.ask(http.StatusOK, http.MethodGet, "/openapi.json", nil, "")
	c.ask(http.StatusOK, http.MethodGet, "/docs/index.html", nil, "")
	c.ask(http.StatusNotFound, http.MethodGet, "/db/backup", nil, "") // without access control
	c.askAt(c.backend, http.StatusOK, http.MethodPost, "/db/compact", nil, "")
	backup, err := c.exchange(c.t.Context(), c.backend, http.MethodGet, "/db/backup", nil, "")
	switch {
	case err != nil, backup.status == http.StatusOK && !strings.HasPrefix(backup.body, "SQLite format 3\x00"):
		c.t.Errorf("backup: %v, %d, %d bytes", err, backup.status, len(backup.body))
	case backup.status != http.StatusOK && !strings.Contains(backup.body, "backup_running"): // by another client
		c.t.Errorf("backup: %d %.300s", backup.status, backup.body)
	}
	c.count("GET backup (at the backend)")
}
