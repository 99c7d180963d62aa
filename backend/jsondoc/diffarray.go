package jsondoc

const (
	// maxAligned is how many pairs of elements are compared to tell which of those
	// removed and added in one place are the same, changed.
	maxAligned = 4096
	// maxLookedAt is how many members or elements tell how alike two values are.
	maxLookedAt = 32
)

// arrays goes from the end to the beginning, so that an operation names an element by
// the index that it has in a.
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

// match returns the index in b for each element of a that stays, and -1 for the others.
func (d *difference) match(a, b []*node) []int {
	m := matcher{
		a: numbersOf(a), b: numbersOf(b), pairs: make([]int, len(a)),
		most: MaxOperations - d.operations + 1, steps: &d.steps, back: half{backward: true},
	}
	for i := range m.pairs {
		m.pairs[i] = -1
	}
	m.match(0, len(a), 0, len(b))
	d.full = d.full || m.over
	return m.pairs
}

func numbersOf(elements []*node) []int32 {
	numbers := make([]int32, len(elements))
	for i, element := range elements {
		numbers[i] = element.number
	}
	return numbers
}

// between tells what became of elements of which none stays: a, from index first on,
// became b.
func (d *difference) between(at *place, first int, a, b []*node, depth int) {
	steps := align(a, b)
	for last := len(steps) - 1; last >= 0 && !d.full; last-- {
		switch s := steps[last]; {
		case s.removed && s.added:
			d.changed(at.item(first+s.i), a[s.i], b[s.j], depth)
		case s.removed:
			d.add("remove", at.item(first+s.i), nil)
		default: // those that stand together in their order
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

// changed tells how an element became another: by what changed in it, or as a whole when
// they are objects without a common name.
func (d *difference) changed(at *place, a, b *node, depth int) {
	if a.object != nil && b.object != nil && likeness(a, b) == 0 && len(a.object.members) > 0 {
		d.add("replace", at, b)
		return
	}
	d.compare(at, a, b, depth)
}

// A step is at element i of a and j of b: the one is removed, the other added, or, with
// both, the one became the other.
type step struct {
	i, j           int
	removed, added bool
}

// align returns the steps from a to b in which what is most alike becomes one another.
// Of very many elements it is those at the same place.
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

// alignments returns, for each i and j, how alike the pairs are that the rest of a and
// the rest of b have at best.
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

// likeness counts the names that two objects have in common and the values that are
// equal, or those of two arrays. It looks at the first of them only.
func likeness(a, b *node) (score int) {
	switch {
	case a.object != nil && b.object != nil:
		looked := 0
		for name, value := range a.object.all {
			if looked++; looked > maxLookedAt {
				break
			}
			if other := b.object.get(name); other != nil {
				score++
				if value.number == other.number {
					score += 2
				}
			}
		}
	case a.array != nil && b.array != nil:
		score = 1
		for i := range min(a.array.length, b.array.length, maxLookedAt) {
			if a.array.at(i).number == b.array.at(i).number {
				score += 2
			}
		}
	}
	return score
}
