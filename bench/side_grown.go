package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"kvstore/bench/generator"
	"kvstore/bench/grown"
)

// growthLoads are the loads of the growth run. Writing comes last, because it makes the databases
// larger.
var growthLoads = []generator.Load{
	{Name: "stats", Description: "read /db/stats", CacheKeys: 1},
	{Name: "miss", Description: "read the latest value of any key, with a cache of 1 key", CacheKeys: 1},
	{Name: "put", Description: "write a 100-byte JSON value to any key", CacheKeys: 1},
}

// grownSide is our backend with a database of many versions.
type grownSide struct {
	*programs
	versions int64
	progress io.Writer

	filled time.Duration // how long filling took
	bytes  int64         // of the database after filling
}

func (s *grownSide) name() string { return shortNumber(s.versions) + " versions" }

func (s *grownSide) about() string {
	return fmt.Sprintf("our backend with %d versions of %d keys; filling took %s, and the file then had %d MB",
		s.versions, s.keys(), s.filled.Round(100*time.Millisecond), s.bytes>>20)
}

func (s *grownSide) keys() int { return int(s.versions / grown.VersionsPerKey) }

func (s *grownSide) version(context.Context) (string, error) { return s.commit, nil }

func (s *grownSide) start(ctx context.Context, where place) (*store, error) {
	load := generator.Load{Name: "growth", Keys: s.keys(), PutShare: 0.5} // of reads and of writes
	if err := s.fill(ctx, where, load); err != nil {
		return nil, err
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	started, err := startOurs(ctx, address, s.backendAt(where, address))
	if err != nil {
		return nil, err
	}
	keys := started.known.of(load)
	keys.Filled(grown.VersionsPerKey)
	total := generator.NewKeys(generator.Load{Name: "total", Keys: 1, PutShare: 0.5})
	total.Filled(s.versions)
	for _, l := range growthLoads {
		started.filled[l.Name] = true
	}
	started.connect = func(l generator.Load, connections int) (session, error) {
		random := rand.New(rand.NewPCG(uint64(connections), uint64(time.Now().UnixNano()))) //nolint:gosec // not a secret
		pick := func() (int, bool) { return random.IntN(load.Keys), l.Name == "put" }
		var codec generator.Codec = generator.KV{Host: address}
		of := keys
		if l.Name == "stats" {
			codec, of = generator.Stats{Host: address}, total
			pick = func() (int, bool) { return 0, false }
		}
		client, err := generator.Open([]string{address}, codec, of, connections)
		return &grownSession{Client: client, pick: pick}, err
	}
	started.verify = func(ctx context.Context, l generator.Load) (string, error) {
		if l.Name != "put" {
			return "", nil
		}
		return verifyOurs(ctx, address, started.known, load)
	}
	return started, nil
}

// fill makes the database.
func (s *grownSide) fill(ctx context.Context, where place, load generator.Load) error {
	path := filepath.Join(where.dir, "kv_store.db")
	start, told := time.Now(), time.Now()
	err := grown.Fill(ctx, grown.Config{Path: path, Load: load, Logs: s.progress, Progress: func(done int64) {
		if now := time.Now(); done == s.versions || now.Sub(told) > 5*time.Second {
			told = now
			fmt.Fprintf(s.progress, "%s: %d filled in, %.0f/s\n", s.name(), done, float64(done)/now.Sub(start).Seconds())
		}
	}})
	if err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	s.filled = time.Since(start)
	info, err := os.Stat(path)
	if err == nil {
		s.bytes = info.Size()
	}
	return err
}

// grownSession chooses keys itself, because their number differs between sides.
type grownSession struct {
	*generator.Client
	pick generator.Picker
}

func (s *grownSession) Run(d time.Duration, _ generator.Picker) (generator.Result, error) {
	return s.Client.Run(d, s.pick)
}

// shortNumber formats 10000 as 10k.
func shortNumber(n int64) string {
	switch {
	case n >= 1_000_000 && n%1_000_000 == 0:
		return fmt.Sprintf("%dM", n/1_000_000)
	case n >= 1000 && n%1000 == 0:
		return fmt.Sprintf("%dk", n/1000)
	default:
		return strconv.FormatInt(n, 10)
	}
}
