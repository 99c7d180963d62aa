package store_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"kvstore/backend/kv"
	"kvstore/backend/store"
)

// A plain is a store of maps, without a database, a cache or goroutines.
type plain struct {
	versions map[string][]kv.Entry // version n is at index n-1
	revision int64
}

func (p *plain) latest(key string) (kv.Entry, bool) {
	all := p.versions[key]
	if len(all) == 0 || all[len(all)-1].Operation.Tombstone() {
		return kv.Entry{}, false
	}
	return all[len(all)-1], true
}

// apply returns the results as text. With an error, which has the index, p stays as it was.
func (p *plain) apply(requirements []store.Requirement, changes []store.Change) (results []string, index int, err error) {
	for i, r := range requirements {
		if entry, _ := p.latest(r.Key); !r.If.Holds(entry.Version) {
			return nil, i, kv.ErrPreconditionFailed
		}
	}
	next := plain{maps.Clone(p.versions), p.revision} // append does not change what p sees
	for i, c := range changes {
		result, err := next.change(c)
		if err != nil {
			return nil, i, err
		}
		results = append(results, result)
	}
	*p = next
	return results, 0, nil
}

func (p *plain) change(c store.Change) (string, error) {
	entry, exists := p.latest(c.Key)
	if !c.If.Holds(entry.Version) {
		return "", kv.ErrPreconditionFailed
	}
	all := p.versions[c.Key]
	value := string(c.Value)
	switch {
	case c.Operation == store.OpGet && exists:
		return describe(entry), nil
	case c.Operation == store.OpGet && len(all) > 0:
		return kv.ErrKeyDeleted.Error(), nil
	case c.Operation == store.OpGet:
		return kv.ErrKeyNotFound.Error(), nil
	case c.Operation == kv.OpPut:
	case len(all) == 0:
		return "", kv.ErrKeyNotFound
	case c.Operation == kv.OpDelete && !exists:
		return "", kv.ErrKeyDeleted
	case c.Operation == kv.OpDelete:
	case c.Version == 0 && exists:
		return "", kv.ErrVersionRequired
	case c.Version == 0: // a tombstone never follows another
		value = string(all[len(all)-2].Value)
	case c.Version > int64(len(all)):
		return "", kv.ErrVersionNotFound
	case all[c.Version-1].Operation.Tombstone():
		return "", kv.ErrKeyDeleted
	default:
		value = string(all[c.Version-1].Value)
	}
	p.revision++
	written := kv.Entry{Key: c.Key, Value: []byte(value), Version: int64(len(all)) + 1, Revision: p.revision, Operation: c.Operation}
	p.versions[c.Key] = append(slices.Clip(all), written)
	return describe(written), nil
}

func describe(e kv.Entry) string {
	return strings.Join([]string{e.Key, string(e.Operation), strconv.FormatInt(e.Version, 10), strconv.FormatInt(e.Revision, 10), string(e.Value)}, " ")
}

func (p *plain) totals() kv.Totals {
	totals := kv.Totals{Revision: p.revision, Versions: p.revision}
	for key := range p.versions {
		if _, exists := p.latest(key); exists {
			totals.Keys++
		}
	}
	return totals
}

func (p *plain) random(r *rand.Rand) ([]store.Requirement, []store.Change) {
	key := func() string { return "k" + strconv.Itoa(r.IntN(6)) }
	condition := func(key string, right int) kv.Condition {
		entry, _ := p.latest(key)
		if r.IntN(right) == 0 {
			return atVersion(entry.Version + r.Int64N(2))
		}
		return atVersion(entry.Version)
	}
	var requirements []store.Requirement
	for range r.IntN(3) {
		k := key()
		requirements = append(requirements, store.Requirement{Key: k, If: condition(k, 8)})
	}
	changes := make([]store.Change, 1+r.IntN(8))
	for i := range changes {
		c := store.Change{Operation: []kv.Operation{kv.OpPut, kv.OpPut, kv.OpDelete, kv.OpRevert, store.OpGet}[r.IntN(5)], Key: key()}
		if c.Operation == kv.OpPut {
			c.Value = []byte(strconv.Itoa(r.IntN(1000)))
		}
		if c.Operation == kv.OpRevert {
			c.Version = r.Int64N(int64(len(p.versions[c.Key])) + 2)
		}
		if r.IntN(4) == 0 {
			c.If = condition(c.Key, 4)
		}
		changes[i] = c
	}
	return requirements, changes
}
