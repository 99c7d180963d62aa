package generator

// Keys is what is known of the keys of one load in one store. It outlives the
// connections, so that a later measurement is checked against an earlier one.
type Keys struct {
	load   Load
	names  []string
	acked  []int64 // the highest version that an answer has named
	issued uint64  // the last sequence number in a value that was sent

	broken      uint64 // connections that broke during the fill
	brokenError string
}

// NewKeys returns the keys of a store in which they do not exist yet.
func NewKeys(load Load) *Keys {
	keys := &Keys{load: load, names: make([]string, load.Keys), acked: make([]int64, load.Keys)}
	for i := range keys.names {
		keys.names[i] = load.Key(i)
	}
	keys.issued = uint64(load.Keys)
	return keys
}

// check compares an answer with what was known when the request was sent:
//
//   - A write gets a positive version, higher than every version that an answer
//     had named by then.
//   - A read gets such a version or an equal one, and a value that was written to
//     that key; when nothing but the first fill wrote, exactly that value.
func (k *Keys) check(key int, put bool, floor int64, answer Answer) error {
	if answer.Version != NoVersion {
		lowest := floor
		if put || lowest == 0 {
			lowest++
		}
		if answer.Version < lowest {
			return wrong("%s: version %d after %d", k.names[key], answer.Version, floor)
		}
		k.acked[key] = max(k.acked[key], answer.Version)
	}
	if put {
		return nil
	}
	sequence, ok := Sequence(answer.Value, k.names[key])
	if !ok || sequence > k.issued || (k.load.PutShare == 0 && sequence != uint64(key)) {
		return wrong("%s: its value is %q", k.names[key], answer.Value)
	}
	return nil
}
