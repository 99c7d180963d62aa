package store_test

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"kvstore/backend/database/databasetest"
	"kvstore/backend/database/sqlite"
	"kvstore/backend/kv"
	"kvstore/backend/store"
)

// A disk searches the files of a database for marks. They stay open until the test
// ends, since closing a file drops the locks that SQLite has on it in this process.
type disk struct {
	path string
	main *os.File
}

func diskOf(t *testing.T, url string) *disk {
	t.Helper()
	d := &disk{path: strings.TrimPrefix(url, "sqlite:")}
	var err error
	if d.main, err = os.Open(d.path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.main.Close() })
	return d
}

const markLength = 28

// mark returns unique bytes.
func (h *shredder) mark() string { return fmt.Sprintf("~mark%023d", h.random.Uint64()) }

// marks returns every mark in the files and where it was found.
func (d *disk) marks(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		file := d.main
		if suffix != "" {
			var err error
			if file, err = os.Open(d.path + suffix); err != nil {
				continue
			}
			t.Cleanup(func() { file.Close() })
		}
		data, err := io.ReadAll(io.NewSectionReader(file, 0, 1<<40))
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; ; at++ {
			next := bytes.Index(data[at:], []byte("~mark"))
			if next < 0 {
				break
			}
			at += next
			if end := at + markLength; end <= len(data) {
				found[string(data[at:end])] = fmt.Sprintf("%q, page %d, byte %d", suffix, at/4096+1, at%4096)
			}
		}
	}
	return found
}

// A shredder writes marked values and destroys them, and knows which marks must be gone.
type shredder struct {
	store  *store.Store
	random *rand.Rand
	live   map[string]map[int64]string // key, version, mark
	gone   map[string]bool
}

var markedSizes = []int{0, 0, 10, 60, 200, 900, 2_000, 5_000, 30_000}

func newShredder(s *store.Store, seed uint64) *shredder {
	return &shredder{
		store: s, random: rand.New(rand.NewPCG(seed, 6)),
		live: map[string]map[int64]string{}, gone: map[string]bool{},
	}
}

// write puts a new key or another version of one.
func (h *shredder) write(t *testing.T) {
	t.Helper()
	key := h.mark()
	if len(h.live) > 20 && h.random.IntN(2) == 0 {
		key = h.key()
	}
	h.put(t, key)
}

func (h *shredder) put(t *testing.T, key string) {
	t.Helper()
	mark := h.mark()
	pad := strings.Repeat("x", h.random.IntN(1+markedSizes[h.random.IntN(len(markedSizes))]))
	// The end of a large value is in an overflow page.
	w := put(t, h.store, key, `"`+mark+pad+mark+`"`)
	if h.live[key] == nil {
		h.live[key] = map[int64]string{}
	}
	h.live[key][w.Entry.Version] = mark
}

func (h *shredder) destroy(t *testing.T, key string) {
	t.Helper()
	var versions []int64
	for _, version := range slices.Sorted(maps.Keys(h.live[key])) {
		if len(versions) == 0 || h.random.IntN(3) == 0 {
			versions = append(versions, version)
		}
	}
	if len(versions) == 0 {
		return
	}
	if _, err := h.store.Destroy(t.Context(), key, versions, kv.Condition{}); err != nil && !errors.Is(err, kv.ErrVersionGone) {
		t.Fatal(err)
	} else if err != nil {
		return
	}
	for _, version := range versions {
		h.gone[h.live[key][version]] = true
		delete(h.live[key], version)
	}
}

func (h *shredder) destroyAll(t *testing.T, key string) {
	t.Helper()
	if _, err := h.store.DestroyAll(t.Context(), key, "", kv.Condition{}); err != nil {
		t.Fatal(err)
	}
	for _, mark := range h.live[key] {
		h.gone[mark] = true
	}
	delete(h.live, key)
	h.gone[key] = true
}

func (h *shredder) key() string {
	keys := slices.Sorted(maps.Keys(h.live))
	return keys[h.random.IntN(len(keys))]
}

func (h *shredder) check(t *testing.T, d *disk) {
	t.Helper()
	for mark, place := range d.marks(t) {
		if h.gone[mark] {
			t.Errorf("a destroyed mark is still in %s", place)
		}
	}
}

// TestDestroyedBytesAreNowhere writes, prunes and destroys at random and searches
// the database file and its log for destroyed bytes. Meanwhile rows of every size move
// between pages. Without the clearing of gaps each of these seeds fails.
func TestDestroyedBytesAreNowhere(t *testing.T) {
	for _, seed := range []uint64{4, 11} {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			shred(t, seed)
		})
	}
}

func shred(t *testing.T, seed uint64) {
	url := databasetest.FileURL(t)
	s := open(t, options{url: url, maxKeys: 10, keep: 4})
	h := newShredder(s, seed)
	d := diskOf(t, url)
	for round := range 12 {
		for range 120 {
			h.write(t)
		}
		for range 6 {
			h.destroy(t, h.key())
			h.destroyAll(t, h.key())
		}
		if round%3 == 2 { // whole pages move
			if _, err := s.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
			h.destroy(t, h.key())
		}
		h.check(t, d)
		if t.Failed() {
			t.Fatalf("in round %d, with %d keys", round+1, len(h.live))
		}
	}
	if found := d.marks(t); len(found) < len(h.live) {
		t.Errorf("the search found %d marks, but there are %d keys that have one", len(found), len(h.live))
	}
	h.compare(t)
	if _, err := sqlite.Check(t.Context(), url); err != nil {
		t.Error(err)
	}
}

// compare reads every version that was not destroyed.
func (h *shredder) compare(t *testing.T) {
	t.Helper()
	for key, versions := range h.live {
		for version, mark := range versions {
			entry, _, err := h.store.GetVersion(t.Context(), key, version)
			if err == nil && !strings.Contains(string(entry.Value), mark) || err != nil && !errors.Is(err, kv.ErrVersionGone) {
				t.Errorf("version %d of %s: %v, %d bytes", version, key, err, len(entry.Value))
			}
		}
	}
}

// TestDestroyBehindLongRead: the log cannot be emptied while an earlier read needs it. Destroy
// says so, does not delay writes meanwhile, and can be repeated when the read has ended.
func TestDestroyBehindLongRead(t *testing.T) {
	t.Parallel()
	url := databasetest.FileURL(t)
	s := open(t, options{url: url})
	h := newShredder(s, 1)
	d := diskOf(t, url)
	h.put(t, "k")
	h.put(t, "k")
	h.put(t, "other")
	reader, err := sql.Open("sqlite3", d.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close() })
	read, err := reader.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := read.QueryRow("SELECT count(*) FROM versions").Scan(&n); err != nil || n != 3 {
		t.Fatal(n, err)
	}
	var destroying sync.WaitGroup
	for _, destroy := range []func() error{
		func() error { _, err := s.Destroy(t.Context(), "k", []int64{1}, kv.Condition{}); return err },
		func() error { _, err := s.DestroyAll(t.Context(), "other", "", kv.Condition{}); return err },
	} {
		destroying.Go(func() {
			if err := destroy(); !errors.Is(err, kv.ErrUnavailable) || !strings.Contains(err.Error(), "repeat the request") {
				t.Errorf("behind a long read: %v", err)
			}
		})
	}
	ended := make(chan struct{})
	go func() { destroying.Wait(); close(ended) }()
	writes := 0
	for waiting := true; waiting; writes++ {
		put(t, s, "load", "1")
		select {
		case <-ended:
			waiting = false
		default:
		}
	}
	if writes < 10 {
		t.Errorf("%d writes were made meanwhile", writes)
	}
	if _, _, err := s.GetVersion(t.Context(), "k", 1); !errors.Is(err, kv.ErrVersionGone) {
		t.Errorf("the destroyed version: %v", err)
	}
	if err := read.Rollback(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Destroy(t.Context(), "k", []int64{1}, kv.Condition{}); err != nil {
		t.Error(err)
	}
	if _, err := s.DestroyAll(t.Context(), "other", "", kv.Condition{}); !errors.Is(err, kv.ErrKeyNotFound) {
		t.Errorf("a key that was erased already: %v", err)
	}
	h.gone["other"], h.gone[h.live["other"][1]] = true, true
	h.gone[h.live["k"][1]] = true
	h.check(t, d)
}

// TestDestroyUnderLoad destroys while others read and write. Whenever Destroy returns, the bytes
// are gone.
func TestDestroyUnderLoad(t *testing.T) {
	url := databasetest.FileURL(t)
	s := open(t, options{url: url, maxKeys: 3, keep: 4})
	h := newShredder(s, 7)
	d := diskOf(t, url)
	for range 150 {
		h.write(t)
	}
	stop := make(chan struct{})
	var load sync.WaitGroup
	for client := range 4 {
		key := fmt.Sprint("load/", client)
		load.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				put(t, s, key, strings.Repeat("7", 1+n%3_000))
				if _, _, err := s.GetVersion(t.Context(), key, 1+int64(n%4)); err != nil && !errors.Is(err, kv.ErrVersionGone) {
					t.Error(err)
				}
			}
		})
	}
	for range 20 {
		h.write(t)
		h.destroy(t, h.key())
		h.destroyAll(t, h.key())
		h.check(t, d)
	}
	close(stop)
	load.Wait()
}
