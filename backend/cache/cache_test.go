package cache_test

import (
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"weak"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"kvstore/backend/cache"
)

// item is the value of most tests: its size is whatever the test says.
type item struct {
	ID   int
	Size int64
}

func itemSize(_ string, v item) int64 { return v.Size }

func newCache[V any](tb testing.TB, cfg cache.Config[V]) *cache.Cache[V] {
	tb.Helper()
	c, err := cache.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Check(); err != nil {
			tb.Error(err)
		}
		c.Close()
		if n := c.Lost(); n != 0 {
			tb.Errorf("ristretto dropped %d values", n)
		}
	})
	return c
}

func newItems(tb testing.TB, maxKeys int, maxBytes int64) *cache.Cache[item] {
	tb.Helper()
	return newCache(tb, cache.Config[item]{MaxKeys: maxKeys, MaxBytes: maxBytes, Size: itemSize})
}

func TestNewNamesTheField(t *testing.T) {
	tests := []struct {
		name string
		cfg  cache.Config[item]
	}{
		{"MaxKeys", cache.Config[item]{MaxKeys: 0, MaxBytes: 1, Size: itemSize}},
		{"MaxKeys", cache.Config[item]{MaxKeys: -1, MaxBytes: 1, Size: itemSize}},
		{"MaxBytes", cache.Config[item]{MaxKeys: 1, MaxBytes: 0, Size: itemSize}},
		{"Size", cache.Config[item]{MaxKeys: 1, MaxBytes: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := cache.New(tt.cfg)
			if err == nil || !strings.Contains(err.Error(), tt.name) {
				t.Errorf("New: error %v does not name %s", err, tt.name)
			}
		})
	}
}

// TestResidents runs short scripts of words and compares the resident keys, the
// most recently used first, with what strict LRU gives.
//
//	a=3  put a with size 3     a   get a     a?  get a if it never matches
//	-a   remove a              +a=3  lease a and fill it with size 3
func TestResidents(t *testing.T) {
	tests := []struct {
		name     string
		maxKeys  int
		maxBytes int64
		script   string
		want     string
		bytes    int64
		evicted  uint64
	}{
		{"empty", 2, 10, "", "", 0, 0},
		{"newest first", 3, 10, "a=1 b=1 c=1", "c b a", 3, 0},
		{"full by keys", 3, 10, "a=1 b=1 c=1 d=1", "d c b", 3, 1},
		{"one key", 1, 10, "a=1 b=1 c=1", "c", 1, 2},
		{"get uses", 3, 10, "a=1 b=1 c=1 a d=1", "d a c", 3, 1},
		{"put uses", 3, 10, "a=1 b=1 c=1 a=2 d=1", "d a c", 4, 1},
		{"fill uses", 3, 10, "a=1 b=1 +c=1 d=1", "d c b", 3, 1},
		{"a miss does not use", 3, 10, "a=1 b=1 x c=1", "c b a", 3, 0},
		{"no match does not use", 3, 10, "a=1 b=1 c=1 a? d=1", "d c b", 3, 1},
		{"fill of a resident key does not use", 3, 10, "a=1 b=1 c=1 +a=5 d=1", "d c b", 3, 1},
		{"full by bytes", 9, 10, "a=4 b=4 c=4", "c b", 8, 1},
		{"exactly full", 9, 10, "a=4 b=4 c=2", "c b a", 10, 0},
		{"several make room for one", 9, 10, "a=2 b=2 c=6 d=8", "d", 8, 3},
		{"no more than needed", 9, 10, "a=1 b=1 c=8 d=2", "d c", 10, 2},
		{"replacement grows", 9, 10, "a=3 b=3 c=3 a=5", "a c", 8, 1},
		{"replacement grows to all", 9, 10, "a=3 b=3 c=3 a=10", "a", 10, 2},
		{"replacement shrinks", 9, 10, "a=9 b=1 a=1 c=8", "c a b", 10, 0},
		{"replacement does not evict itself", 2, 10, "a=9 b=1 a=9", "a b", 10, 0},
		{"fill evicts", 9, 10, "a=5 b=5 +c=6", "c", 6, 2},
		{"size zero", 2, 10, "a=0 b=0 c=0", "c b", 0, 1},
		{"size zero stays", 9, 10, "a=0 b=10 c=10", "c", 10, 2},
		{"both bounds", 2, 10, "a=1 b=1 c=1 d=10", "d", 10, 3},
		{"too large alone", 3, 10, "a=1 b=1 c=11", "b a", 2, 0},
		{"too large drops the older value", 3, 10, "a=1 b=1 a=11", "b", 1, 0},
		{"too large fill", 3, 10, "a=1 +b=11", "a", 1, 0},
		{"remove", 3, 10, "a=1 b=2 c=3 -b", "c a", 4, 0},
		{"remove makes room", 3, 10, "a=1 b=2 c=3 -b d=1", "d c a", 5, 0},
		{"remove of nothing", 3, 10, "a=1 -x", "a", 1, 0},
		{"remove then put", 1, 10, "a=1 -a a=2", "a", 2, 0},
		{"negative size counts as zero", 3, 10, "a=-5 b=10", "b a", 10, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newItems(t, tt.maxKeys, tt.maxBytes)
			for _, word := range strings.Fields(tt.script) {
				runWord(t, c, word)
			}
			if diff := cmp.Diff(strings.Fields(tt.want), c.Keys()); diff != "" {
				t.Errorf("residents after %q (-want +got):\n%s", tt.script, diff)
			}
			s := c.Stats()
			if s.Bytes != tt.bytes || s.Evictions != tt.evicted {
				t.Errorf("%d bytes and %d evictions, want %d and %d", s.Bytes, s.Evictions, tt.bytes, tt.evicted)
			}
		})
	}
}

func runWord(t *testing.T, c *cache.Cache[item], word string) {
	t.Helper()
	never := func(item) bool { return false }
	key, sizeText, hasSize := strings.Cut(word, "=")
	var v item
	if hasSize {
		n, err := strconv.ParseInt(sizeText, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		v.Size = n
	}
	switch {
	case strings.HasPrefix(key, "-"):
		c.Remove(key[1:])
	case strings.HasPrefix(key, "+"):
		c.Fill(c.Lease(key[1:]), v)
	case strings.HasSuffix(key, "?"):
		if _, ok := c.GetIf(key[:len(key)-1], never); ok {
			t.Errorf("%s: a value that does not match is a hit", word)
		}
	case hasSize:
		c.Put(key, v)
	default:
		c.Get(key)
	}
}

func TestGetGivesTheLastPut(t *testing.T) {
	c := newItems(t, 2, 10)
	if v, ok := c.Get("a"); ok || v != (item{}) {
		t.Errorf("Get of nothing = %v, %v", v, ok)
	}
	for id := range 1000 {
		c.Put("a", item{ID: id})
		if v, ok := c.Get("a"); !ok || v.ID != id {
			t.Fatalf("Get right after Put %d = %v, %v", id, v, ok)
		}
	}
	c.Remove("a")
	if v, ok := c.Get("a"); ok || v != (item{}) {
		t.Errorf("Get after Remove = %v, %v", v, ok)
	}
}

func TestGetIf(t *testing.T) {
	c := newItems(t, 2, 10)
	c.Put("a", item{ID: 7})
	is := func(id int) func(item) bool { return func(v item) bool { return v.ID == id } }
	if v, ok := c.GetIf("a", is(8)); ok || v != (item{}) {
		t.Errorf("no match: %v, %v", v, ok)
	}
	if v, ok := c.GetIf("a", is(7)); !ok || v.ID != 7 {
		t.Errorf("match: %v, %v", v, ok)
	}
	if v, ok := c.GetIf("a", nil); !ok || v.ID != 7 {
		t.Errorf("nil match: %v, %v", v, ok)
	}
	if _, ok := c.GetIf("b", func(item) bool { t.Error("match was called without a value"); return true }); ok {
		t.Error("hit without a value")
	}
	want := cache.Stats{Keys: 1, MaxKeys: 2, MaxBytes: 10, Hits: 2, Misses: 2}
	if diff := cmp.Diff(want, c.Stats()); diff != "" {
		t.Errorf("Stats (-want +got):\n%s", diff)
	}
}

// TestPanicLeavesTheCacheUsable checks that Size and match may panic.
func TestPanicLeavesTheCacheUsable(t *testing.T) {
	c := newCache(t, cache.Config[int]{MaxKeys: 2, MaxBytes: 10, Size: func(_ string, v int) int64 {
		if v < 0 {
			panic("size")
		}
		return int64(v)
	}})
	recovered := func(f func()) (value any) {
		defer func() { value = recover() }()
		f()
		return nil
	}
	c.Put("a", 1)
	l := c.Lease("b")
	for name, f := range map[string]func(){
		"Put":   func() { c.Put("a", -1) },
		"Fill":  func() { c.Fill(l, -1) },
		"GetIf": func() { c.GetIf("a", func(int) bool { panic("match") }) },
	} {
		if recovered(f) == nil {
			t.Errorf("%s did not panic", name)
		}
	}
	c.Release(l)
	if v, ok := c.Get("a"); !ok || v != 1 {
		t.Errorf("Get = %v, %v", v, ok)
	}
	if n := c.LeasedKeys(); n != 0 {
		t.Errorf("%d records of leases are left", n)
	}
}

func TestLargestBounds(t *testing.T) {
	const maxInt = int(^uint(0) >> 1)
	c := newItems(t, maxInt, int64(maxInt))
	c.Put("a", item{Size: int64(maxInt)})
	c.Put("b", item{Size: int64(maxInt) - 1})
	c.Put("c", item{Size: 1})
	if diff := cmp.Diff([]string{"c", "b"}, c.Keys()); diff != "" {
		t.Errorf("residents (-want +got):\n%s", diff)
	}
	if n := c.Slots(); n > 256 {
		t.Errorf("%d slots for two keys", n)
	}
}

// TestSlotsStayWithinMaxKeys puts keys past several chunks of slots.
func TestSlotsStayWithinMaxKeys(t *testing.T) {
	const maxKeys = 700
	c := newItems(t, maxKeys, 1<<40)
	for i := range 3 * maxKeys {
		c.Put(strconv.Itoa(i), item{ID: i})
	}
	if n := c.Slots(); n != maxKeys {
		t.Errorf("%d slots, want %d", n, maxKeys)
	}
	for i := 2 * maxKeys; i < 3*maxKeys; i++ {
		if v, ok := c.Get(strconv.Itoa(i)); !ok || v.ID != i {
			t.Fatalf("Get(%d) = %v, %v", i, v, ok)
		}
	}
}

// TestLostValueIsAMiss deletes values from ristretto, which never happens by itself.
func TestLostValueIsAMiss(t *testing.T) {
	c := newItems(t, 3, 10)
	for id := range 1000 {
		c.Put("a", item{ID: id, Size: 4})
		c.Put("b", item{ID: id, Size: 4})
		c.LoseValue("a")
		if v, ok := c.Get("a"); ok {
			t.Fatalf("Get of the lost value = %v", v)
		}
		if diff := cmp.Diff([]string{"b"}, c.Keys()); diff != "" {
			t.Fatalf("residents (-want +got):\n%s", diff)
		}
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
		l := c.Lease("a")
		if !c.Fill(l, item{ID: -id, Size: 1}) {
			t.Fatal("the fill after the loss was refused")
		}
		if v, ok := c.Get("a"); !ok || v.ID != -id {
			t.Fatalf("Get after the fill = %v, %v", v, ok)
		}
	}
}

// TestValuesAreReleased checks that values that left the cache can be collected.
func TestValuesAreReleased(t *testing.T) {
	type big [1 << 12]byte
	newBig := func(tb testing.TB) *cache.Cache[*big] {
		return newCache(tb, cache.Config[*big]{MaxKeys: 4, MaxBytes: 1 << 14, Size: func(string, *big) int64 { return 1 << 12 }})
	}
	tests := []struct {
		name  string
		leave func(c *cache.Cache[*big])
	}{
		{"Remove", func(c *cache.Cache[*big]) { c.Remove("a") }},
		{"replace", func(c *cache.Cache[*big]) { c.Put("a", new(big)) }},
		{"evict", func(c *cache.Cache[*big]) {
			for _, key := range []string{"b", "c", "d", "e"} {
				c.Put(key, new(big))
			}
		}},
		{"Close", func(c *cache.Cache[*big]) { c.Close() }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newBig(t)
			v := new(big)
			pointer := weak.Make(v)
			c.Put("a", v)
			runtime.GC()
			if pointer.Value() == nil {
				t.Fatal("the value is gone while it is resident")
			}
			tt.leave(c)
			c.Drain()
			for range 10 { // ristretto's goroutine may still hold it in a register
				runtime.GC()
				if pointer.Value() == nil {
					return
				}
				runtime.Gosched()
			}
			t.Error("the value is still referred to")
		})
	}
}

func TestClose(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	c, err := cache.New(cache.Config[item]{MaxKeys: 300, MaxBytes: 1 << 20, Size: itemSize})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 500 {
		c.Put(strconv.Itoa(i), item{Size: 1})
	}
	c.Get("499")
	c.Get("0")
	l := c.Lease("x")
	c.Close()
	c.Close()
	c.Put("a", item{Size: 1})
	c.Remove("a")
	if _, ok := c.Get("a"); ok {
		t.Error("hit after Close")
	}
	if c.Fill(l, item{}) || c.Fill(c.Lease("y"), item{}) {
		t.Error("a fill installed after Close")
	}
	c.Release(c.Lease("z"))
	want := cache.Stats{MaxKeys: 300, MaxBytes: 1 << 20, Hits: 1, Misses: 2, Evictions: 200}
	if diff := cmp.Diff(want, c.Stats()); diff != "" {
		t.Errorf("Stats (-want +got):\n%s", diff)
	}
	if n := c.Lost(); n != 0 {
		t.Errorf("ristretto dropped %d values", n)
	}
}

// TestCloseDuringUse closes the cache while other goroutines use it.
func TestCloseDuringUse(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for range 20 {
		c, err := cache.New(cache.Config[item]{MaxKeys: 300, MaxBytes: 1 << 20, Size: itemSize})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				for i := range 400 {
					if g == 0 && i == 200 {
						c.Close()
					}
					key := strconv.Itoa(i % 350)
					c.Put(key, item{Size: 1})
					if _, ok := c.Get(key); !ok {
						c.Fill(c.Lease(key), item{Size: 1})
					}
				}
			})
		}
		wg.Wait()
		if s := c.Stats(); s.Keys != 0 || s.Bytes != 0 {
			t.Fatalf("after Close: %+v", s)
		}
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
	}
}
