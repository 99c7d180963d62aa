package jsondoc

const (
	// maxAligned bounds the pairs of elements that align compares.
	maxAligned = 4096
	// maxCompared bounds the members or elements that likeness compares.
	maxCompared = 32
)

// arrays adds the operations that turn a into b. It works from the end, so that an
// operation can refer to an element by its index in a.
func (d *difference) arrays(at *place, a, b []*node, depth int) {
	pairs := d.match(a, b)
	endA, endB := len(a), len(b)
	for i := len(a) - 1; i >= -1 && !d.full; i-- {
		j := -1
		if i >= 0 {
			if j = pairs[i]; j < 0 {
				continue
			}
		}
		if i+1 < endA || j+1 < endB {
			d.between(at, i+1, a[i+1:endA], b[j+1:endB], depth)
		}
		endA, endB = i, j
	}
}

// match returns, for each element of a, its index in b if it stays, or else -1.
func (d *difference) match(a, b []*node) []int {
	m := matcher{
		a: ids(a), b: ids(b), pairs: make([]int, len(a)),
		maxEdits: MaxOperations - d.operations + 1, steps: &d.steps, back: half{backward: true},
	}
	for i := range m.pairs {
		m.pairs[i] = -1
	}
	m.match(0, len(a), 0, len(b))
	d.full = d.full || m.over
	return m.pairs
}

func ids(elements []*node) []int32 {
	all := make([]int32, len(elements))
	for i, element := range elements {
		all[i] = element.id
	}
	return all
}

// between adds the operations that turn a, which begins at index first, into b. No
// element of a stays.
func (d *difference) between(at *place, first int, a, b []*node, depth int) {
	steps := align(a, b)
	for last := len(steps) - 1; last >= 0 && !d.full; last-- {
		switch s := steps[last]; {
		case s.removed && s.added:
			d.changed(at.item(first+s.i), a[s.i], b[s.j], depth)
		case s.removed:
			d.add("remove", at.item(first+s.i), nil)
		default: // add a run of elements in order
			begin := last
			for begin > 0 && !steps[begin-1].removed {
				begin--
			}
			for n := begin; n <= last && !d.full; n++ {
				d.add("add", at.item(first+s.i+n-begin), b[steps[n].j])
			}
			last = begin
		}
	}
}

// changed adds the operations that turn one element into another. It replaces an object
// by one that shares no name with it as a whole.
func (d *difference) changed(at *place, a, b *node, depth int) {
	if a.object != nil && b.object != nil && likeness(a, b) == 0 && len(a.object.members) > 0 {
		d.add("replace", at, b)
		return
	}
	d.compare(at, a, b, depth)
}

// A step removes element i of a, adds element j of b, or, with both, turns one into the
// other.
type step struct {
	i, j           int
	removed, added bool
}

// align returns the steps from a to b that pair the elements with the greatest likeness.
// If there are very many elements, it pairs those with the same index.
func align(a, b []*node) []step {
	steps := make([]step, 0, max(len(a), len(b)))
	i, j := 0, 0
	if (len(a)+1)*(len(b)+1) <= maxAligned {
		best := alignments(a, b)
		for i < len(a) && j < len(b) {
			switch here := best[i][j]; here {
			case best[i+1][j+1] + 1 + likeness(a[i], b[j]):
				steps = append(steps, step{i, j, true, true})
				i++
				j++
			case best[i+1][j]:
				steps = append(steps, step{i, j, true, false})
				i++
			default:
				steps = append(steps, step{i, j, false, true})
				j++
			}
		}
	}
	for ; i < len(a) && j < len(b); i, j = i+1, j+1 {
		steps = append(steps, step{i, j, true, true})
	}
	for ; i < len(a); i++ {
		steps = append(steps, step{i, j, true, false})
	}
	for ; j < len(b); j++ {
		steps = append(steps, step{i, j, false, true})
	}
	return steps
}

// alignments returns, for each i and j, the greatest total likeness of pairs in a[i:] and
// b[j:].
func alignments(a, b []*node) [][]int {
	best := make([][]int, len(a)+1)
	for i := range best {
		best[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			best[i][j] = max(best[i+1][j], best[i][j+1], best[i+1][j+1]+1+likeness(a[i], b[j]))
		}
	}
	return best
}

// likeness scores the names and the equal values that two objects or two arrays have in
// common. It compares only the first maxCompared.
func likeness(a, b *node) (score int) {
	switch {
	case a.object != nil && b.object != nil:
		compared := 0
		for name, value := range a.object.all {
			if compared++; compared > maxCompared {
				break
			}
			if other := b.object.get(name); other != nil {
				score++
				if value.id == other.id {
					score += 2
				}
			}
		}
	case a.array != nil && b.array != nil:
		score = 1
		for i := range min(a.array.length, b.array.length, maxCompared) {
			if a.array.at(i).id == b.array.at(i).id {
				score += 2
			}
		}
	}
	return score
}
