package api_test

import (
	"bytes"
	"cmp"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"kvstore/backend/api"
	"kvstore/backend/cache"
	"kvstore/backend/database"
	"kvstore/backend/database/sqlite"
	"kvstore/backend/kv"
	"kvstore/backend/store"
	"kvstore/internal/telemetry/telemetrytest"
)

const damagePage = 4096

// openAt serves the database in that file. It returns nil if the file is refused.
func openAt(t *testing.T, path string) (s *server, end func()) {
	t.Helper()
	var log telemetrytest.Journal
	logger := slog.New(slog.NewJSONHandler(&log, nil))
	db, err := sqlite.Open(t.Context(), sqlite.Config{URL: "sqlite:" + path, Logger: logger})
	if err != nil {
		return nil, func() {}
	}
	entries, err := cache.New(cache.Config[kv.Entry]{MaxKeys: 1, MaxBytes: 1 << 20, Size: func(string, kv.Entry) int64 { return 1 }})
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.New(store.Config{
		Database: db, Cache: entries, MaxValueBytes: 1 << 20, Logger: logger,
		Now: func() time.Time { return time.UnixMicro(1764000900000000) },
	})
	if err != nil {
		entries.Close()
		db.Close()
		return nil, func() {}
	}
	h := httptest.NewServer(api.New(api.Config{Store: st, Logger: logger}))
	return &server{Server: h, db: db, store: st, log: &log}, func() {
		h.Close()
		st.Close()
		entries.Close()
		db.Close() // its error does not matter
	}
}

// damageKeys are long so that the indexes have several levels.
func damageKeys(random *rand.Rand) []string {
	var keys []string
	for i := range 44 {
		keys = append(keys, fmt.Sprintf("%c/%d/%s", 'a'+i%4, i%3, strings.Repeat(string(rune('a'+random.IntN(26))), 90+random.IntN(250))+strconv.Itoa(i)))
	}
	return keys
}

// stockForDamage makes a store that has everything that can be read, and closes it.
func stockForDamage(t *testing.T, path string, keys []string, random *rand.Rand) {
	t.Helper()
	s, end := openAt(t, path)
	if s == nil {
		t.Fatal("the store cannot be made")
	}
	sizes := []int{0, 3, 20, 20, 200, 900, 5_000, 12_000}
	for round := range 12 {
		for i, key := range keys {
			target := "/put/" + url.PathEscape(key)
			value := strconv.Quote(strings.Repeat(string(rune('a'+random.IntN(26))), sizes[random.IntN(len(sizes))]))
			switch n := random.IntN(12); {
			case round > 0 && n == 0:
				s.do(t, "DELETE", "/delete/"+url.PathEscape(key), "")
			case n == 1:
				s.do(t, "PUT", target, value, "Content-Type", "image/x")
			case n == 2:
				s.do(t, "PUT", target+"?ttl=9000h", `{"value":`+value+`}`)
			default:
				s.do(t, "PUT", target, `{"value":{"n":`+strconv.Itoa(round)+`,"v":`+value+`}}`, "X-KV-Author", "alice")
			}
			if round == 11 && i%9 == 0 {
				s.do(t, "POST", "/destroy/"+url.PathEscape(key)+"?versions=3", "")
			}
		}
	}
	for _, key := range keys[:3] {
		if _, err := s.db.Prune(t.Context(), []string{key}, database.Retention{MaxVersions: 9}, 100); err != nil {
			t.Fatal(err)
		}
	}
	end()
}

// damageReads are the reads of each damaged store.
func damageReads(keys []string, random *rand.Rand) []string {
	var reads []string
	for i, key := range keys {
		k := url.PathEscape(key)
		reads = append(
			reads, "/get/"+k, fmt.Sprintf("/get/%s?version=%d", k, 1+random.IntN(14)), fmt.Sprintf("/get/%s?at=%d", k, 1764000899+random.IntN(3)),
			"/history/"+k+"?values=true", "/history/"+k+"?limit=5&before=9", "/history/"+k+"?after=2&limit=4",
		)
		if i%4 == 0 {
			reads = append(reads, "/diff/"+k+"?from=4&to=6", "/get/"+k+"x", "/history/"+k+"x", "/get/"+k+"?raw=true")
		}
		if i%8 == 0 {
			reads = append(reads, "/keys?limit=7&after="+url.QueryEscape(key), "/keys?deleted=true&limit=7&after="+url.QueryEscape(key))
		}
	}
	return append(
		reads, "/keys", "/keys?deleted=true", "/keys?prefix=b/", "/keys?delimiter=/", "/keys?delimiter=/&prefix=c/", "/keys?prefix=a/1/", "/db/stats",
	)
}

var sourceOf = regexp.MustCompile(`"source":"(cache|database)"`)

// read sends a GET and removes the source from the answer.
func (s *server) read(t *testing.T, target string) answer {
	t.Helper()
	got := s.send(t, http.MethodGet, target, "", http.Header{})
	got.body = sourceOf.ReplaceAllString(got.body, "")
	return got
}

// events returns the complete blocks of a watch from the beginning.
func (s *server) events(t *testing.T, query string, last int64) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/watch?"+query, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var got []byte
	end := []byte(fmt.Sprintf("id: %d\n", last))
	for chunk := make([]byte, 64<<10); ; {
		n, err := response.Body.Read(chunk)
		got = append(got, chunk[:n]...)
		if at := bytes.LastIndex(got, end); err != nil || at >= 0 && bytes.Contains(got[at:], []byte("\n\n")) {
			_, rest, _ := bytes.Cut(got, []byte("\n\n")) // the first has the time to reconnect, which is random
			whole := bytes.LastIndex(rest, []byte("\n\n")) + 1
			return string(rest[:whole])
		}
	}
}

// A damage is a flipped bit.
type damage struct {
	kind   string
	offset int64
	bit    int
}

func (d damage) String() string { return fmt.Sprintf("%s, byte %d bit %d", d.kind, d.offset, d.bit) }

// pagesOf returns the pages of a file by their kind.
func pagesOf(data []byte) map[string][]int64 {
	pages := map[string][]int64{}
	kinds := map[byte]string{0x0d: "rows", 0x05: "table tree", 0x0a: "index", 0x02: "index tree"}
	for at := int64(2 * damagePage); at < int64(len(data)); at += damagePage { // the first has the schema, the second the map of pages
		kind := cmp.Or(kinds[data[at]], "overflow")
		pages[kind] = append(pages[kind], at)
	}
	return pages
}

func pick(random *rand.Rand, pages map[string][]int64) damage {
	kinds := make([]string, 0, len(pages))
	for kind := range pages {
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	kind := kinds[random.IntN(len(kinds))]
	return damage{kind, pages[kind][random.IntN(len(pages[kind]))] + random.Int64N(damagePage), random.IntN(8)}
}

func (d damage) do(t *testing.T, path string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	b := make([]byte, 1)
	if _, err := file.ReadAt(b, d.offset); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1 << d.bit
	if _, err := file.WriteAt(b, d.offset); err != nil {
		t.Fatal(err)
	}
}

// TestFlippedBits flips one bit of a store, each time a different one, before it is opened or
// while it runs, and reads everything. Each answer must be what it was, or 500 store_damaged.
// With a damaged index it may also lack a key, a version or items of a list, but what it has
// is right. The check must find whatever a read has found.
func TestFlippedBits(t *testing.T) {
	trials := 60
	seed := uint64(1)
	if n, err := strconv.Atoi(os.Getenv("KV_TEST_FLIPS")); err == nil {
		trials, seed = n, rand.Uint64()
		t.Logf("seed %d", seed)
	}
	random := rand.New(rand.NewPCG(seed, 2))
	dir := t.TempDir()
	whole := filepath.Join(dir, "whole.db")
	keys := damageKeys(random)
	stockForDamage(t, whole, keys, random)
	data, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	pages, reads := pagesOf(data), damageReads(keys, random)
	s, end := openAt(t, whole)
	want := map[string]answer{}
	for _, target := range reads {
		if want[target] = s.read(t, target); want[target].status >= 500 {
			t.Fatalf("%s: %+v", target, want[target])
		}
	}
	stats, err := sqlite.Check(t.Context(), "sqlite:"+whole)
	if err != nil {
		t.Fatal(err)
	}
	feeds := map[string]string{"since=0": "", "since=200&prefix=c/": ""}
	for query := range feeds {
		feeds[query] = s.events(t, query, stats.Revision)
	}
	end()
	counts := map[string]map[string]int{}
	for trial := range trials {
		d := pick(random, pages)
		path := filepath.Join(dir, fmt.Sprintf("trial%d.db", trial))
		if err := os.WriteFile(path, data, 0o640); err != nil {
			t.Fatal(err)
		}
		atStart := trial%2 == 0
		if atStart {
			d.do(t, path)
		}
		s, end := openAt(t, path)
		if !atStart {
			d.do(t, path)
		}
		if counts[d.kind] == nil {
			counts[d.kind] = map[string]int{}
		}
		outcome := readDamaged(t, s, d, path, want, feeds, stats)
		counts[d.kind][outcome]++
		end()
		for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
			_ = os.Remove(path + suffix)
		}
	}
	t.Log(counts)
}

// readDamaged reads everything and checks the answers.
func readDamaged(t *testing.T, s *server, d damage, path string, want map[string]answer, feeds map[string]string, stats database.Summary) string {
	t.Helper()
	if s == nil {
		return "refused"
	}
	damaged, short := 0, 0
	for target, right := range want {
		got := s.read(t, target)
		switch {
		case got.status == right.status && got.body == right.body:
		case got.status == http.StatusInternalServerError && strings.Contains(got.body, `"store_damaged"`):
			damaged++
			if damaged == 1 {
				s.do(t, "GET", target, "") // do compares it with the document
			}
		case strings.HasPrefix(d.kind, "index") && lacks(got, wholeList(target, want)):
			short++
		default:
			t.Errorf("%s: %.120s answers %d %.300s\nwant %d %.300s", d, target, got.status, got.body, right.status, right.body)
		}
	}
	for query, right := range feeds {
		got := s.events(t, query, stats.Revision)
		if got == right {
			continue
		}
		damaged++
		if !strings.HasPrefix(right, got) {
			t.Errorf("%s: the watch with %s delivers something else", d, query)
		}
		if !strings.Contains(s.log.String(), "a watch has failed") {
			t.Errorf("%s: the watch with %s ends early and the log has nothing of it", d, query)
		}
	}
	checked, err := sqlite.Check(t.Context(), "sqlite:"+path)
	if damaged+short > 0 && err == nil {
		t.Errorf("%s: %d reads are refused, %d lists are short, and the check says nothing", d, damaged, short)
	} else if err == nil && checked.Totals != stats.Totals {
		t.Errorf("%s: the check finds %+v", d, checked.Totals)
	}
	switch {
	case short > 0:
		return "short list"
	case damaged > 0:
		return "reported"
	default:
		return "unseen"
	}
}

// wholeList returns the answer with all items that the answer to target may have.
func wholeList(target string, want map[string]answer) string {
	path, _, _ := strings.Cut(target, "?")
	switch {
	case path == "/keys":
		return want["/keys?deleted=true"].body
	case strings.HasPrefix(path, "/history/"):
		return want[path+"?values=true"].body
	default: // one item, which has no parts
		return ""
	}
}

var listed = regexp.MustCompile(`"version":\d+,"revision":\d+`)

// lacks reports whether an answer says that something is not there, or is a list with a part
// of the items of all, as with a damaged index.
func lacks(got answer, all string) bool {
	switch got.status {
	case http.StatusNotFound, http.StatusGone:
		return true
	case http.StatusOK:
		for _, item := range listed.FindAllString(got.body, -1) {
			if !strings.Contains(all, item+",") {
				return false
			}
		}
		return all != ""
	default:
		return false
	}
}
