package importer

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"kvstore/backend/database"
	"kvstore/backend/kv"
)

// A versionPlan is a version that will be imported.
type versionPlan struct {
	id      int64 // of its row in the source
	order   int64 // the highest id of the key's versions up to this one
	time    kv.Timestamp
	version int32
	key     int32 // index of its key
	skipped bool
}

// A keyPlan is a key that will be imported, with its versions, which stand next to
// each other.
type keyPlan struct {
	name         string
	first, count int
	skipped      bool
	head         database.Head
}

// A plan is what will be imported.
type plan struct {
	cfg      *Config
	sum      *Summary
	keys     []*keyPlan
	versions []versionPlan
}

// makePlan reads the source twice: the rows without their values in the order of keys
// and versions, and the values.
func makePlan(ctx context.Context, src *source, cfg *Config, sum *Summary) (*plan, error) {
	bad, err := badValues(ctx, src, cfg.MaxValueBytes)
	if err != nil {
		return nil, err
	}
	p := &plan{cfg: cfg, sum: sum}
	var group []row // the rows of one key
	err = src.rows(ctx, func(r row) error {
		if len(group) > 0 && group[0].key != r.key {
			p.addKey(group, bad)
			group = group[:0]
		}
		group = append(group, r)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(group) > 0 {
		p.addKey(group, bad)
	}
	return p, p.addEmpty(ctx, src)
}

// badValues returns why values cannot be imported, by the id of their row.
func badValues(ctx context.Context, src *source, most int64) (map[int64]string, error) {
	bad := map[int64]string{}
	err := src.values(ctx, func(id int64, value []byte, problem string) {
		switch {
		case problem != "":
			bad[id] = problem
		case int64(len(value)) > most:
			bad[id] = fmt.Sprintf("its value has %d bytes, the limit is %d (KV_MAX_VALUE_BYTES)", len(value), most)
		}
	})
	return bad, err
}

func (p *plan) skipKey(name, why string) {
	p.sum.SkippedKeys++
	p.cfg.Say("key %q is skipped: %s", name, why)
}

// addKey plans the versions of a key, which come in the order of their numbers.
func (p *plan) addKey(rows []row, bad map[int64]string) {
	name := rows[0].key
	if !rows[0].keyIsText {
		p.skipKey(name, "it is not a text")
		return
	}
	if err := kv.CheckKey(name); err != nil {
		p.skipKey(name, err.Error())
		return
	}
	for i, r := range rows {
		if r.version != float64(i+1) || i >= math.MaxInt32 {
			p.skipKey(name, fmt.Sprintf("its versions do not count 1, 2, 3: where %d should be there is %v", i+1, r.version))
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
			p.cfg.Say("version %d of key %q is skipped: %s", i+1, name, why)
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
		p.cfg.Say("key %q: the times of %d versions ran backwards or were not of the past; they are changed", name, clamped)
	}
	p.keys = append(p.keys, k)
}

// timeOf returns the time of a version in our unit, not before last and not after
// now, and whether that is another time.
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

// addEmpty tells of keys that have no version.
func (p *plan) addEmpty(ctx context.Context, src *source) error {
	return src.emptyKeys(ctx, func(name string) { p.skipKey(name, "it has no version") })
}

// order returns the versions that are not skipped in the order of their times and
// rows; those of one key stay in the order of their numbers.
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
