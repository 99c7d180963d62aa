package importer

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"kvstore/backend/kv"
)

// A versionPlan is a version to import.
type versionPlan struct {
	id      int64 // of the row in the source
	order   int64 // the highest id of the key's versions up to this one
	time    kv.Timestamp
	version int32
	key     int32 // index in plan.keys
	skipped bool
}

// A keyPlan is a key to import.
type keyPlan struct {
	name         string
	first, count int // its versions in plan.versions
	skipped      bool
}

// A plan holds the keys and versions to import.
type plan struct {
	cfg      *Config
	sum      *Summary
	keys     []*keyPlan
	versions []versionPlan
}

// makePlan reads the source twice: all values, to check them, and then the rows without
// values in the order of keys and versions.
func makePlan(ctx context.Context, src *source, cfg *Config, sum *Summary) (*plan, error) {
	bad, err := badValues(ctx, src, cfg.MaxValueBytes)
	if err != nil {
		return nil, err
	}
	p := &plan{cfg: cfg, sum: sum}
	var group []row // the rows of one key
	err = src.rows(ctx, func(r row) {
		if len(group) > 0 && group[0].key != r.key {
			p.addKey(group, bad)
			group = group[:0]
		}
		group = append(group, r)
	})
	if err != nil {
		return nil, err
	}
	if len(group) > 0 {
		p.addKey(group, bad)
	}
	return p, src.emptyKeys(ctx, func(name string) { p.skipKey(name, "it has no version") })
}

// badValues returns the reason why a value cannot be imported, by the id of its row.
func badValues(ctx context.Context, src *source, limit int64) (map[int64]string, error) {
	bad := map[int64]string{}
	err := src.values(ctx, func(id int64, value []byte, problem string) {
		switch {
		case problem != "":
			bad[id] = problem
		case int64(len(value)) > limit:
			bad[id] = fmt.Sprintf("its value has %d bytes, the limit is %d (KV_MAX_VALUE_BYTES)", len(value), limit)
		}
	})
	return bad, err
}

func (p *plan) skipKey(name, why string) {
	p.sum.SkippedKeys++
	p.cfg.Logf("key %q is skipped: %s", name, why)
}

// addKey adds a key with its rows, which are in the order of their version numbers.
func (p *plan) addKey(rows []row, bad map[int64]string) {
	name := rows[0].key
	if !rows[0].keyIsText {
		p.skipKey(name, "it is not text")
		return
	}
	if err := kv.CheckKey(name); err != nil {
		p.skipKey(name, err.Error())
		return
	}
	for i, r := range rows {
		if r.version != float64(i+1) || i >= math.MaxInt32 {
			p.skipKey(name, fmt.Sprintf("its versions are not numbered 1, 2, 3: found %v instead of %d", r.version, i+1))
			return
		}
	}
	k := &keyPlan{name: name, first: len(p.versions), count: len(rows)}
	usable, clamped := 0, 0
	var last versionPlan
	for i, r := range rows {
		v := versionPlan{id: r.id, order: max(last.order, r.id), version: int32(i + 1), key: int32(len(p.keys))}
		var changed bool
		v.time, changed = p.timeOf(r.time, last.time)
		if why := bad[r.id]; why != "" {
			v.skipped = true
			p.sum.SkippedVersions++
			p.cfg.Logf("version %d of key %q is skipped: %s", i+1, name, why)
		} else {
			usable++
			if changed {
				clamped++
			}
		}
		last = v
		p.versions = append(p.versions, v)
	}
	if usable == 0 {
		p.versions = p.versions[:k.first]
		p.sum.SkippedVersions -= len(rows)
		p.skipKey(name, "it has no version left")
		return
	}
	if clamped > 0 {
		p.sum.Clamped += clamped
		p.cfg.Logf("key %q: the times of %d versions went backwards or were in the future, and were changed", name, clamped)
	}
	p.keys = append(p.keys, k)
}

// timeOf converts the time of a version and moves it into the range from last to now.
// It reports whether it had to move it.
func (p *plan) timeOf(seconds float64, last kv.Timestamp) (kv.Timestamp, bool) {
	const micros = 1e6
	now := kv.NewTimestamp(p.cfg.Now)
	if math.IsNaN(seconds) || seconds < 0 {
		return last, true
	}
	if seconds*micros > float64(now) {
		return max(now, last), true
	}
	t := kv.Timestamp(math.Round(seconds * micros))
	return max(t, last), t < last
}

// order returns the versions that are not skipped, in the order of their times and
// rows. The versions of one key stay in the order of their numbers.
func (p *plan) order() []versionPlan {
	kept := p.versions[:0]
	for _, v := range p.versions {
		if !v.skipped && !p.keys[v.key].skipped {
			kept = append(kept, v)
		}
	}
	for _, k := range p.keys {
		if !k.skipped {
			p.sum.Keys++
		}
	}
	slices.SortFunc(kept, func(a, b versionPlan) int {
		return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.order, b.order), cmp.Compare(a.version, b.version))
	})
	return kept
}
