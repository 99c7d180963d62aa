package cache_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"kvstore/backend/cache"
)

// A stamp records the key and the worker that put a value, and its sequence number.
type stamp struct {
	key    string
	worker int
	seq    int64
}

// stampSize returns sizes from 1 to 8.
func stampSize(_ string, v stamp) int64 { return 1 + v.seq%8 }

// TestHammer runs every method from many goroutines at once.
func TestHammer(t *testing.T) {
	for _, tt := range []struct {
		maxKeys  int
		maxBytes int64
		keys     int
	}{
		{1, 1 << 40, 4},
		{2, 9, 4},
		{10, 30, 20},
		{300, 1200, 500},
		{1000, 1 << 40, 1500},
	} {
		t.Run(fmt.Sprintf("%d keys %d bytes", tt.maxKeys, tt.maxBytes), func(t *testing.T) {
			c := newCache(t, cache.Config[stamp]{MaxKeys: tt.maxKeys, MaxBytes: tt.maxBytes, Size: stampSize})
			h := &hammer{cache: c, keys: tt.keys}
			rounds := 8_000
			if testing.Short() {
				rounds /= 10
			}
			var wg sync.WaitGroup
			for worker := range h.last {
				wg.Go(func() {
					r := rand.New(rand.NewPCG(rand.Uint64(), 0))
					for range rounds {
						if err := h.round(worker, r); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			h.checkEnd(t)
		})
	}
}

type hammer struct {
	cache *cache.Cache[stamp]
	keys  int
	gets  atomic.Uint64
	last  [8]atomic.Int64 // by worker, the seq of the latest value
}

// next returns a unique value of the worker.
func (h *hammer) next(worker int, key string) stamp {
	return stamp{key, worker, h.last[worker].Add(1)}
}

// check returns an error unless v was put or filled for key.
func (h *hammer) check(key string, v stamp) error {
	if v.key != key || v.seq < 1 || v.seq > h.last[v.worker].Load() {
		return fmt.Errorf("Get(%s) = %+v, which was never put", key, v)
	}
	return nil
}

func (h *hammer) round(worker int, r *rand.Rand) error {
	key := strconv.Itoa(r.IntN(h.keys))
	switch r.IntN(10) {
	case 0:
		h.cache.Remove(key)
	case 1, 2, 3:
		h.cache.Put(key, h.next(worker, key))
	case 4:
		s := h.cache.Stats()
		if s.Keys > s.MaxKeys || s.Bytes > s.MaxBytes || s.Keys < 0 || s.Bytes < 0 {
			return fmt.Errorf("out of bounds: %+v", s)
		}
		if r.IntN(50) == 0 {
			return h.cache.Check()
		}
	case 5:
		h.gets.Add(1)
		v, ok := h.cache.GetIf(key, func(v stamp) bool { return v.worker == worker })
		if ok && v.worker != worker {
			return fmt.Errorf("GetIf gave %+v to worker %d", v, worker)
		}
		if ok {
			return h.check(key, v)
		}
	default:
		h.gets.Add(1)
		v, ok := h.cache.Get(key)
		if ok {
			return h.check(key, v)
		}
		l := h.cache.Lease(key)
		if r.IntN(4) == 0 {
			h.cache.Release(l)
			break
		}
		h.cache.Fill(l, h.next(worker, key))
	}
	return nil
}

func (h *hammer) checkEnd(t *testing.T) {
	if err := h.cache.Check(); err != nil {
		t.Error(err)
	}
	if n := h.cache.Lost(); n != 0 {
		t.Errorf("ristretto dropped %d values", n)
	}
	if n := h.cache.LeasedKeys(); n != 0 {
		t.Errorf("%d records of leases are left", n)
	}
	s := h.cache.Stats()
	if want := h.gets.Load(); s.Hits+s.Misses != want {
		t.Errorf("%d hits and %d misses of %d gets", s.Hits, s.Misses, want)
	}
	for _, key := range h.cache.Keys() {
		v, ok := h.cache.Get(key)
		if !ok {
			t.Errorf("the resident %s is a miss", key)
		} else if err := h.check(key, v); err != nil {
			t.Error(err)
		}
	}
}
