package store_test

import (
	"kvstore/backend/kv"
	"kvstore/backend/store"
)

// A modelVersion is what the model knows of a version.
type modelVersion struct {
	value     string
	operation kv.Operation
	expires   kv.Timestamp
	destroyed bool
}

// A modelKey is the history of a key. The versions up to forgotten were erased with the key.
type modelKey struct {
	versions  []modelVersion // of version i+1
	forgotten int
}

// A model is a map that behaves as the store must.
type model struct {
	keys     map[string]*modelKey
	revision int64
	now      kv.Timestamp
}

func (m *model) key(name string) *modelKey {
	if m.keys[name] == nil {
		m.keys[name] = &modelKey{}
	}
	return m.keys[name]
}

func (k *modelKey) latest() int64 { return int64(len(k.versions)) }
func (k *modelKey) stored() bool  { return len(k.versions) > k.forgotten }
func (k *modelKey) last() modelVersion {
	return k.versions[len(k.versions)-1]
}

// current returns the latest version of a key that exists, else 0.
func (k *modelKey) current(now kv.Timestamp) int64 {
	if !k.stored() || k.last().operation.Tombstone() || k.expired(now) {
		return 0
	}
	return k.latest()
}

func (k *modelKey) expired(now kv.Timestamp) bool {
	return k.stored() && !k.last().operation.Tombstone() && k.last().expires != 0 && k.last().expires <= now
}

func (m *model) append(k *modelKey, v modelVersion) {
	k.versions = append(k.versions, v)
	m.revision++
}

// settle writes the tombstone of an expired key.
func (m *model) settle(k *modelKey) {
	if k.expired(m.now) {
		m.append(k, modelVersion{operation: kv.OpExpire})
	}
}

// apply makes a change, or returns the error of the store and changes nothing.
func (m *model) apply(c store.Change) error {
	k := m.key(c.Key)
	v, err := m.next(k, c)
	if err != nil {
		return err
	}
	m.settle(k)
	if c.TTL > 0 {
		v.expires = m.now + kv.Timestamp(c.TTL.Microseconds())
	}
	m.append(k, v)
	return nil
}

func (m *model) next(k *modelKey, c store.Change) (modelVersion, error) {
	if !c.If.Holds(k.current(m.now)) {
		return modelVersion{}, kv.ErrPreconditionFailed
	}
	v := modelVersion{value: string(c.Value), operation: c.Operation}
	switch {
	case c.Operation == kv.OpPut:
		return v, nil
	case !k.stored() && (c.Version == 0 || c.Version > k.latest()):
		return v, kv.ErrKeyNotFound
	case c.Operation == kv.OpDelete && k.current(m.now) == 0:
		return v, kv.ErrKeyDeleted
	case c.Operation == kv.OpDelete:
		return v, nil
	}
	from := c.Version // of a revert
	if from == 0 {
		if k.current(m.now) != 0 {
			return v, kv.ErrVersionRequired
		}
		for from = k.latest(); from > int64(k.forgotten) && k.versions[from-1].operation.Tombstone(); {
			from--
		}
	}
	value, err := k.read(from)
	v.value = value
	return v, err
}

// read returns the value of a version, or the error of the store.
func (k *modelKey) read(version int64) (string, error) {
	switch {
	case version > k.latest():
		return "", kv.ErrVersionNotFound
	case version <= int64(k.forgotten):
		return "", kv.ErrVersionGone
	case k.versions[version-1].operation.Tombstone():
		return "", kv.ErrKeyDeleted
	case k.versions[version-1].destroyed:
		return "", kv.ErrVersionGone
	}
	return k.versions[version-1].value, nil
}

// readLatest is read of a GET.
func (k *modelKey) readLatest(now kv.Timestamp) (string, error) {
	switch {
	case !k.stored():
		return "", kv.ErrKeyNotFound
	case k.expired(now):
		return "", kv.ErrKeyDeleted
	}
	return k.read(k.latest())
}

// totals returns the counters. An expired key counts until its tombstone is written.
func (m *model) totals() (t kv.Totals) {
	t.Revision = m.revision
	for _, k := range m.keys {
		if k.stored() && !k.last().operation.Tombstone() {
			t.Keys++
		}
		t.Versions += k.count()
	}
	return t
}

func (k *modelKey) count() (n int64) {
	for _, v := range k.versions[k.forgotten:] {
		if !v.destroyed {
			n++
		}
	}
	return n
}
