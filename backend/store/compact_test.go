package store_test

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"kvstore/backend/database/databasetest"
	"kvstore/backend/database/sqlite"
	"kvstore/backend/store"
)

func sizeOf(t *testing.T, s *store.Store) int64 {
	t.Helper()
	stats, err := s.DatabaseStats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return stats.Bytes
}

// TestPrunedSpaceIsReused: a store with retention does not grow when it is written.
func TestPrunedSpaceIsReused(t *testing.T) {
	s := open(t, options{keep: 2, sweep: time.Hour})
	value := strings.Repeat("7", 20_000)
	var first int64
	for round := range 10 {
		for range 40 {
			put(t, s, "k", value)
		}
		waitFor(t, func() bool {
			stats, err := s.DatabaseStats(t.Context())
			return err != nil || stats.Versions == 2
		})
		if round == 0 {
			first = sizeOf(t, s)
		}
	}
	// Retention runs beside the writes, so some rounds need more room than others.
	if last := sizeOf(t, s); last > 3*first {
		t.Errorf("the file grew from %d to %d bytes", first, last)
	}
}

// TestCompactUnderLoad: the space that retention freed goes back to the disk while others read
// and write, and no read sees a difference.
func TestCompactUnderLoad(t *testing.T) {
	url := databasetest.FileURL(t)
	db := databasetest.Open(t, url)
	all := over(t, db, options{maxKeys: 1, maxBytes: 100})
	for i := 1; i <= 300; i++ {
		put(t, all, "many", strconv.Itoa(i)+strings.Repeat("0", 20_000))
		put(t, all, "few"+strconv.Itoa(i), strconv.Itoa(i))
	}
	all.Close()
	s := over(t, db, options{maxKeys: 10, maxBytes: 100_000, keep: 1, sweep: time.Hour})
	waitFor(t, func() bool {
		stats, err := s.DatabaseStats(t.Context())
		return err != nil || stats.Versions == 301
	})
	before := sizeOf(t, s)
	stop := make(chan struct{})
	var load sync.WaitGroup
	for client := range 4 {
		load.Go(func() {
			for n := 1; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				put(t, s, "load"+strconv.Itoa(client), strconv.Itoa(n))
				if entry, _ := get(t, s, "few"+strconv.Itoa(1+n%300)); string(entry.Value) != strconv.Itoa(1+n%300) {
					t.Errorf("few%d is %s", 1+n%300, entry.Value)
				}
			}
		})
	}
	var freed int64
	for steps := 1; ; steps++ {
		done, err := s.Compact(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if freed += done.Freed; done.Free == 0 || done.Freed == 0 {
			break
		}
		if steps > 1000 {
			t.Fatal("there is no end of it")
		}
	}
	close(stop)
	load.Wait()
	if after := sizeOf(t, s); after > before/4 || freed < before/2 {
		t.Errorf("the database had %d bytes, has %d, and %d were given back", before, after, freed)
	}
	if _, err := s.Compact(t.Context()); err != nil { // without readers the file itself becomes smaller
		t.Fatal(err)
	}
	if info, err := os.Stat(strings.TrimPrefix(url, "sqlite:")); err != nil || info.Size() > before/4 {
		t.Errorf("the file has %d bytes, had %d", info.Size(), before)
	}
	if entry, _ := get(t, s, "many"); entry.Version != 300 {
		t.Errorf("many has version %d", entry.Version)
	}
	if _, err := sqlite.Check(t.Context(), url); err != nil {
		t.Error(err)
	}
}
