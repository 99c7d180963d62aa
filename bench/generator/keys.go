package generator

// Keys holds what is known about the keys of a load in a store. It outlives connections, so that a
// measurement is checked against earlier ones.
type Keys struct {
	load   Load
	names  []string
	acked  []int64  // the highest version in an answer
	last   []uint64 // the sequence number in the value of that version
	issued uint64   // the last sequence number in a value

	acknowledged uint64 // writes with an answer
	unknown      uint64 // writes whose connection broke before the answer

	broken      uint64 // connections that broke during the fill
	brokenError string
}

// NewKeys returns the keys of a store in which they do not exist yet.
func NewKeys(load Load) *Keys {
	keys := &Keys{
		load: load, names: make([]string, load.Keys),
		acked: make([]int64, load.Keys), last: make([]uint64, load.Keys),
	}
	for i := range keys.names {
		keys.names[i] = load.Key(i)
	}
	keys.issued = uint64(load.Keys)
	return keys
}

// Filled records that every key was written in another way, that many times, and finally with the
// value that Fill writes.
func (k *Keys) Filled(versions int64) {
	for i := range k.acked {
		k.acked[i], k.last[i] = versions, uint64(i)
	}
	k.acknowledged += uint64(versions) * uint64(len(k.acked))
}

// Writes returns the number of acknowledged writes, including those of Filled, and the number of
// writes whose outcome is unknown because their connection broke.
func (k *Keys) Writes() (acknowledged, unknown uint64) { return k.acknowledged, k.unknown }

// Versions returns the sum of the highest known versions of all keys. It is the number of writes in a
// store that numbers the versions of each key 1, 2, 3 and so on.
func (k *Keys) Versions() uint64 {
	var sum uint64
	for _, version := range k.acked {
		sum += uint64(version)
	}
	return sum
}

// check compares an answer with what was known when the request was sent, and with what is known now:
//
//   - A write gets a positive version, higher than every version that was known by then.
//   - A read gets a version at least as high, and a value that was written to that key. If only the
//     fill has written, it gets exactly that value.
//   - The highest known version has the same value in all answers.
func (k *Keys) check(r *request, answer Answer) error {
	sequence := r.sequence
	switch {
	case r.put:
	case answer.NoValue:
		sequence = k.last[r.key]
	default:
		var ok bool
		sequence, ok = Sequence(answer.Value, k.names[r.key])
		if !ok || sequence > k.issued || (k.load.PutShare == 0 && sequence != uint64(r.key)) {
			return wrong("%s: its value is %q", k.names[r.key], answer.Value)
		}
	}
	if answer.Version == NoVersion {
		k.count(r.put)
		return nil
	}
	lowest := r.floor
	if r.put || lowest == 0 {
		lowest++
	}
	if answer.Version < lowest {
		return wrong("%s: version %d after %d", k.names[r.key], answer.Version, r.floor)
	}
	k.count(r.put)
	switch known := k.acked[r.key]; {
	case answer.Version > known:
		k.acked[r.key], k.last[r.key] = answer.Version, sequence
	case answer.Version == known && sequence != k.last[r.key]:
		return wrong("%s: version %d has two values, number %d and number %d",
			k.names[r.key], known, k.last[r.key], sequence)
	}
	return nil
}

func (k *Keys) count(put bool) {
	if put {
		k.acknowledged++
	}
}
