package main_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// A drillPast is the history of a key as the service returns it: each version with every
// member, as text.
type drillPast map[int64]drillVersion

type drillVersion struct {
	Version, Revision int64
	Operation         string
	Destroyed         bool
	ContentType       *string `json:"content_type"`
	Author            *string
	ExpiresAt         json.Number `json:"expires_at"`
	text              string      // the whole version, with its value
}

// history returns the whole history of a key, or an empty one if there is none.
func (c *drillClient) history(t *testing.T, key string) drillPast {
	t.Helper()
	past := drillPast{}
	for query := "?values=true&limit=1000"; ; {
		status, body := c.do(t, "GET", "/history/"+key+query, "", nil)
		var page struct {
			Versions   []json.RawMessage
			NextBefore *int64 `json:"next_before"`
		}
		if status == http.StatusNotFound {
			return past
		}
		if err := json.Unmarshal(body, &page); err != nil || status != http.StatusOK {
			t.Fatalf("history of %s: %d %.300s, %v", key, status, body, err)
		}
		for _, text := range page.Versions {
			v := drillVersion{text: string(text)}
			if err := json.Unmarshal(text, &v); err != nil {
				t.Fatal(err)
			}
			past[v.Version] = v
		}
		if page.NextBefore == nil {
			return past
		}
		query = fmt.Sprintf("?values=true&limit=1000&before=%d", *page.NextBefore)
	}
}

// histories returns the histories of all keys of the client.
func (c *drillClient) histories(t *testing.T) map[string]drillPast {
	t.Helper()
	all := map[string]drillPast{}
	for place := range c.facts {
		if all[place.key] == nil {
			all[place.key] = c.history(t, place.key)
		}
	}
	return all
}

// without returns the text that destroy leaves of a version.
func (v drillVersion) without(t *testing.T) string {
	t.Helper()
	var members map[string]any
	decoder := json.NewDecoder(strings.NewReader(v.text))
	decoder.UseNumber()
	if err := decoder.Decode(&members); err != nil {
		t.Fatal(err)
	}
	delete(members, "value")
	delete(members, "encoding")
	members["size"], members["destroyed"] = 0, true
	text, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// verifyHistory compares the history after the restore with the one before the loss, and
// returns the number of versions at that revision.
func (c *drillClient) verifyHistory(t *testing.T, key string, before, after drillPast, revision int64) (compared int) {
	for _, number := range slices.Sorted(maps.Keys(before)) {
		was, is := before[number], after[number]
		place := drillPlace{key, number}
		switch {
		case was.Revision > revision:
			if is.Revision != 0 && is.Revision <= revision {
				t.Errorf("%+v came after revision %d: %s", place, revision, is.text)
			}
		case is.text == was.text:
			compared++
		// A backup may be older than a destroy, but never newer.
		case was.Destroyed && !c.goneBefore[place] && !is.Destroyed && is.without(t) == was.without(t):
			compared++
		default:
			t.Errorf("%+v is, after the restore,\n%s, want\n%s", place, is.text, was.text)
		}
	}
	for number, is := range after {
		if place := (drillPlace{key, number}); c.goneBefore[place] && !is.Destroyed {
			t.Errorf("%+v was destroyed before the backup began, and is back: %s", place, is.text)
		}
		if is.Revision > revision && is.Operation != "expire" {
			t.Errorf("%s version %d is after revision %d of the backup: %s", key, number, revision, is.text)
		}
		if before[number].Version == 0 && is.Revision <= revision && !strings.HasSuffix(key, "/erased") {
			t.Errorf("%s version %d did not exist before: %s", key, number, is.text)
		}
	}
	return compared
}

// verify compares what the service returns for a version with what was asked of it.
func (f drillFact) verify(t *testing.T, place drillPlace, v drillVersion) {
	t.Helper()
	has := drillAsked{
		operation: v.Operation, author: deref(v.Author), contentType: deref(v.ContentType), expires: v.ExpiresAt.String(),
	}
	want := f.asked
	want.expires = f.ExpiresAt.String()
	if has != want || v.Revision != f.Revision {
		t.Errorf("%+v is %+v at %d, want %+v at %d", place, has, v.Revision, want, f.Revision)
	}
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// A drillTotals holds the counters of /db/stats, or the results of counting.
type drillTotals struct {
	Keys     int64 `json:"total_keys"`
	Versions int64 `json:"total_versions"`
	Revision int64 `json:"revision"`
}

// count counts what a store holds at a revision.
func (d *drillTotals) count(past drillPast) {
	var latest drillVersion
	for _, v := range past {
		if v.Revision > d.Revision {
			continue
		}
		if !v.Destroyed {
			d.Versions++
		}
		if v.Version > latest.Version {
			latest = v
		}
	}
	// Erasing a key ends it first, and the backup may be from between the two.
	if latest.Version != 0 && !slices.Contains([]string{"delete", "expire", "destroy"}, latest.Operation) {
		d.Keys++
	}
}

// verifyTotals compares the counters of the store with its contents, and with the output of
// restore. Keys may still expire, so it repeats until nothing has changed meanwhile.
func verifyTotals(t *testing.T, clients []*drillClient, backup drillTotals) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		said := drillStats(t, clients[0].p)
		now, then := drillTotals{Revision: said.Revision}, drillTotals{Revision: backup.Revision}
		for _, c := range clients {
			for _, past := range c.histories(t) {
				now.count(past)
				then.count(past)
			}
		}
		if drillStats(t, clients[0].p) == said {
			if now != said {
				t.Errorf("/db/stats says %+v, and there are %+v", said, now)
			}
			if then != backup {
				t.Errorf("restore says %+v, and there were %+v", backup, then)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the store keeps changing")
		}
	}
}

func drillStats(t *testing.T, p *process) (d drillTotals) {
	t.Helper()
	status, body, err := p.exchange(t.Context(), "GET", "/db/stats", "")
	if err == nil {
		err = json.Unmarshal(body, &d)
	}
	if err != nil || status != http.StatusOK {
		t.Fatalf("/db/stats: %d %s, %v", status, body, err)
	}
	return d
}

// verifyKeys compares the listing of a client's keys, including deleted ones, with their
// histories.
func (c *drillClient) verifyKeys(t *testing.T, histories map[string]drillPast) {
	t.Helper()
	status, body := c.do(t, "GET", "/keys?deleted=true&limit=1000&prefix="+url.QueryEscape(c.name+"/"), "", nil)
	var page struct {
		Keys []struct {
			Key               string
			Version, Revision int64
		}
	}
	if err := json.Unmarshal(body, &page); err != nil || status != http.StatusOK {
		t.Fatalf("/keys: %d %.300s, %v", status, body, err)
	}
	var want []string
	for key, past := range histories {
		if len(past) > 0 {
			want = append(want, key)
		}
	}
	slices.Sort(want)
	var got []string
	for _, k := range page.Keys {
		got = append(got, k.Key)
		past := histories[k.Key]
		if latest := past[slices.Max(append(slices.Collect(maps.Keys(past)), 0))]; !strings.HasSuffix(k.Key, "/short") && (latest.Version != k.Version || latest.Revision != k.Revision) {
			t.Errorf("the listing has %+v, the history ends with %s", k, latest.text)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the listing has the keys %q, want %q", got, want)
	}
}

// read returns the answer to a GET. Unless the status is 200, it is the version number.
func (c *drillClient) read(t *testing.T, key, query string) drillFact {
	status, body := c.do(t, "GET", "/get/"+key+query, "", nil)
	if status != http.StatusOK {
		return drillFact{Version: -int64(status), value: string(body)}
	}
	var f struct {
		drillFact
		Value       json.RawMessage
		ContentType string `json:"content_type"` // absent for JSON
	}
	if err := json.Unmarshal(body, &f); err != nil {
		t.Errorf("GET %s: %s, %v", key, body, err)
	}
	f.value, f.asked.contentType = string(f.Value), cmp.Or(f.ContentType, drillJSON)
	return f.drillFact
}

// verify compares every version with what was asked and answered, and with what the service
// returned before the loss. It returns the number of versions at that revision.
func (c *drillClient) verify(t *testing.T, before map[string]drillPast, revision int64) (compared int) {
	c.author = ""
	after := c.histories(t)
	for key := range before {
		compared += c.verifyHistory(t, key, before[key], after[key], revision)
	}
	c.verifyKeys(t, after)
	for place, want := range c.facts {
		v, isThere := after[place.key][place.version]
		got := c.read(t, place.key, fmt.Sprintf("?version=%d", place.version))
		switch {
		case want.with != 0 && (want.with <= revision) != (want.Revision <= revision):
			t.Errorf("half of the batch of %+v is in the backup", place)
		case want.Revision > revision: // verifyHistory has checked that it does not exist
		case c.gone[place] && (got.Version == -http.StatusGone || got.Version == -http.StatusNotFound):
			if isThere {
				want.verify(t, place, v)
			}
		case want.value == "": // a tombstone
			want.verify(t, place, v)
			if got.Version != -http.StatusNotFound || !strings.Contains(got.value, "key_deleted") {
				t.Errorf("%+v: %+v, want a tombstone", place, got)
			}
		default:
			want.verify(t, place, v)
			want.with, want.asked = 0, drillAsked{contentType: want.asked.contentType}
			if got != want {
				t.Errorf("%+v: %+v, want %+v", place, got, want)
			}
		}
	}
	if len(after[c.name+"/short"]) > 0 {
		c.ended(t, c.name+"/short")
	}
	return compared
}

// ended waits until the tombstone of an expired key is written.
func (c *drillClient) ended(t *testing.T, key string) {
	for deadline := time.Now().Add(patience); ; {
		if f := c.read(t, key, ""); f.Version == -http.StatusNotFound {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%s has not expired", key)
			return
		}
	}
}
