package cache_test

import (
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"kvstore/backend/cache"
)

// TestLateFill runs scripts on a cache of two keys, in which key k has version
// 1 in the database at first. The words:
//
//	L1     lease 1 of k is taken        F1=2  lease 1 fills k with version 2
//	R1     lease 1 is released          F1!2  the same, and must be refused
//	P2     version 2 of k is put        D     k is removed
//	E      k is evicted by other keys   N1    lease 1 becomes one of the key n
//	G2     a Get of k gives version 2   G-    a Get of k misses
func TestLateFill(t *testing.T) {
	tests := []struct{ name, script string }{
		{"plain fill", "G- L1 F1=1 G1"},
		{"put before the fill", "L1 P2 F1!1 G2"},
		{"put and evicted before the fill", "L1 P2 E F1!1 G-"},
		{"removed before the fill", "L1 D F1!1 G-"},
		{"put and removed before the fill", "L1 P2 D F1!1 G-"},
		{"put before the lease", "P2 E L1 F1=2 G2"},
		{"resident before the lease", "P2 L1 F1!2 G2"},
		{"lease after the put, put again", "L1 P2 E L2 P3 E F1!1 F2!2 G-"},
		{"old lease void, new lease valid", "L1 P2 E L2 F1!1 G- F2=2 G2"},
		{"new lease first", "L1 P2 E L2 F2=2 F1!1 G2"},
		{"new lease released, old one stays void", "L1 P2 E L2 R2 F1!1 G-"},
		{"old lease released, new one stays valid", "L1 P2 E L2 R1 F2=2 G2"},
		{"two readers, both valid", "L1 L2 F1=1 F2!1 G1"},
		{"two readers, evicted between", "L1 L2 F1=1 E F2=1 G1"},
		{"two readers, put between", "L1 L2 F1=1 P2 E F2!1 G-"},
		{"two readers, both void", "L1 L2 P2 E F1!1 F2!1 G-"},
		{"two readers, one released", "L1 L2 R1 F2=1 G1"},
		{"two readers, one released, put", "L1 L2 R1 P2 E F2!1 G-"},
		{"fill ends the lease", "L1 F1=1 D F1!1 G-"},
		{"a refused fill ends the lease", "L1 P2 F1!1 E F1!1 G-"},
		{"release ends the lease", "L1 R1 F1!1 G-"},
		{"released twice, the other stays valid", "L1 L2 R1 R1 F2=1 G1"},
		{"filled twice, the other stays countable", "L1 L2 L3 F1=1 F1!1 R1 R2 E L4 P2 E F3!1 F4!1 G-"},
		{"released after a put, the new one stays valid", "L1 P2 E L2 R1 R1 R1 F2=2 G2"},
		{"put of another key", "L1 E F1=1 G1"},
		{"lease of another key", "N1 P2 E F1=9 G-"},
		{"never taken", "F1!1 R1 G-"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newItems(t, 2, 1<<20)
			var leases [10]cache.Lease
			for _, word := range strings.Fields(tt.script) {
				runLeaseWord(t, c, &leases, word)
			}
			for _, l := range leases {
				c.Release(l)
			}
			if n := c.LeasedKeys(); n != 0 {
				t.Errorf("%d records of leases are left", n)
			}
		})
	}
}

func runLeaseWord(t *testing.T, c *cache.Cache[item], leases *[10]cache.Lease, word string) {
	t.Helper()
	digit := func(at int) int {
		if at < len(word) && word[at] >= '0' && word[at] <= '9' {
			return int(word[at] - '0')
		}
		return -1
	}
	l := &leases[max(digit(1), 0)]
	switch word[0] {
	case 'L':
		*l = c.Lease("k")
	case 'N':
		*l = c.Lease("n")
	case 'R':
		c.Release(*l)
	case 'F':
		want := word[2] == '='
		if got := c.Fill(*l, item{ID: digit(3)}); got != want {
			t.Errorf("%s: Fill = %v, want %v", word, got, want)
		}
	case 'P':
		c.Put("k", item{ID: digit(1)})
	case 'D':
		c.Remove("k")
	case 'E':
		c.Put("other1", item{})
		c.Put("other2", item{})
	case 'G':
		v, ok := c.Get("k")
		if want := digit(1); ok != (want >= 0) || ok && v.ID != want {
			t.Errorf("%s: Get = %v, %v", word, v, ok)
		}
	default:
		t.Fatalf("unknown word %q", word)
	}
}

// TestLeasesLeaveNothingBehind writes and reads many keys.
func TestLeasesLeaveNothingBehind(t *testing.T) {
	c := newItems(t, 10, 1<<20)
	var held []cache.Lease
	for i := range 10_000 {
		key := strconv.Itoa(i)
		l := c.Lease(key)
		switch i % 5 {
		case 0:
			c.Fill(l, item{})
		case 1:
			c.Release(l)
		case 2: // void, and never ended
			c.Put(key, item{})
		case 3: // void, and never ended
			c.Remove(key)
		case 4:
			held = append(held, l)
			if n := c.LeasedKeys(); n != 1 {
				t.Fatalf("%d records of leases, one lease is out", n)
			}
			c.Fill(l, item{Size: 1 << 30})
		}
	}
	if n := c.LeasedKeys(); n != 0 {
		t.Errorf("%d records of leases are left", n)
	}
	for _, l := range held {
		c.Release(l)
	}
}

// TestNoGetIsOlderThanAPut has one writer and many readers of one key, and
// other keys that evict it. The database is its latest version.
func TestNoGetIsOlderThanAPut(t *testing.T) {
	for _, maxKeys := range []int{1, 2, 3} {
		t.Run(strconv.Itoa(maxKeys), func(t *testing.T) {
			versions := 15_000
			if testing.Short() {
				versions /= 10
			}
			testNoGetIsOlder(t, maxKeys, versions)
		})
	}
}

func testNoGetIsOlder(t *testing.T, maxKeys, versions int) {
	c := newItems(t, maxKeys, 1<<20)
	var database, returned, fills, refused atomic.Int64
	var done atomic.Bool
	var wg sync.WaitGroup
	pause := func(r *rand.Rand) {
		for range r.IntN(3) {
			runtime.Gosched()
		}
	}
	read := func(r *rand.Rand) item {
		if v, ok := c.Get("k"); ok {
			return v
		}
		l := c.Lease("k")
		pause(r)
		v := item{ID: int(database.Load())}
		pause(r)
		if c.Fill(l, v) {
			fills.Add(1)
		} else {
			refused.Add(1)
		}
		return v
	}
	for g := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(g)))
			for !done.Load() {
				floor := int(returned.Load())
				if v := read(r); v.ID < floor {
					t.Errorf("read version %d after the Put of %d had returned", v.ID, floor)
					return
				}
				for i := range r.IntN(maxKeys + 1) { // maxKeys of them evict k
					c.Put("other"+strconv.Itoa(i), item{ID: -1})
				}
			}
		})
	}
	r := rand.New(rand.NewPCG(2, 0))
	for range versions {
		n := database.Add(1)
		pause(r)
		c.Put("k", item{ID: int(n)})
		returned.Store(n)
		if v, ok := c.Get("k"); ok && v.ID != int(n) {
			t.Errorf("the only writer put version %d and reads %d", n, v.ID)
		}
		pause(r)
	}
	done.Store(true)
	wg.Wait()
	t.Logf("%d fills, %d refused", fills.Load(), refused.Load())
}
