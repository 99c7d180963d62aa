package jsondoc

// maxSteps bounds the work of matching elements in one Diff to about 0.1 s. Elements
// that are not matched by then are compared by index.
const maxSteps = 1 << 26

// A matcher finds a longest common subsequence of two lists in linear space, as described
// by E. Myers, "An O(ND) Difference Algorithm and Its Variations" (1986), section 4b.
type matcher struct {
	a, b  []int32
	pairs []int // for each element of a, its index in b; initially -1
	// maxEdits bounds the removals and additions of each half of a path. If more are
	// needed, the result is useless and over is set.
	maxEdits int
	over     bool
	steps    *int // left

	ahead, back half
}

// match pairs the elements that a[a0:a1] and b[b0:b1] have in common.
func (m *matcher) match(a0, a1, b0, b1 int) {
	for a0 < a1 && b0 < b1 && m.a[a0] == m.b[b0] {
		m.pairs[a0] = b0
		a0++
		b0++
	}
	for a0 < a1 && b0 < b1 && m.a[a1-1] == m.b[b1-1] {
		a1--
		b1--
		m.pairs[a1] = b1
	}
	if a0 == a1 || b0 == b1 {
		return
	}
	x, y, ok := m.split(m.a[a0:a1], m.b[b0:b1])
	if !ok {
		return
	}
	m.match(a0, a0+x, b0, b0+y)
	m.match(a0+x, a1, b0+y, b1)
}

// split returns a point in the middle of a shortest path from a to b. The lists are not
// empty, and their first and last elements differ.
func (m *matcher) split(a, b []int32) (x, y int, ok bool) {
	delta := len(a) - len(b)
	odd := delta%2 != 0
	maxEdits := min((len(a)+len(b)+1)/2, m.maxEdits)
	ahead, back := m.ahead.reset(a, b, maxEdits), m.back.reset(a, b, maxEdits)
	for d := 0; d <= maxEdits && *m.steps > 0; d++ {
		for k := -d; k <= d; k += 2 {
			x := ahead.advance(d, k, m.steps)
			if y := x - k; odd && within(k-delta, d-1) && x+*back.at(delta - k) >= len(a) && ahead.splits(x, y) {
				return x, y, true
			}
		}
		for k := -d; k <= d; k += 2 {
			x := back.advance(d, k, m.steps)
			if y := x - k; !odd && within(k-delta, d) && x+*ahead.at(delta - k) >= len(a) && back.splits(x, y) {
				return len(a) - x, len(b) - y, true
			}
		}
	}
	m.over = *m.steps > 0
	return 0, 0, false
}

func within(k, d int) bool { return -d <= k && k <= d }

// A half holds the paths from one end: how far they reach on each diagonal.
type half struct {
	a, b     []int32
	backward bool
	reached  []int
	middle   int // index of diagonal 0 in reached
}

// reset prepares h for paths with at most maxEdits removals and additions.
func (h *half) reset(a, b []int32, maxEdits int) *half {
	h.a, h.b, h.middle = a, b, maxEdits+1
	if need := 2*h.middle + 1; len(h.reached) < need {
		h.reached = make([]int, need)
	}
	*h.at(1) = 0
	return h
}

func (h *half) at(diagonal int) *int { return &h.reached[h.middle+diagonal] }

// advance extends the path on diagonal k as far as d removals and additions reach.
func (h *half) advance(d, k int, steps *int) (x int) {
	if k == -d || k != d && *h.at(k - 1) < *h.at(k + 1) {
		x = *h.at(k + 1)
	} else {
		x = *h.at(k - 1) + 1
	}
	begin := x
	for x < len(h.a) && x-k < len(h.b) && h.same(x, x-k) {
		x++
	}
	*steps -= x - begin + 1
	*h.at(k) = x
	return x
}

// same compares two elements, counted from the end at which the paths begin.
func (h *half) same(x, y int) bool {
	if h.backward {
		x, y = len(h.a)-1-x, len(h.b)-1-y
	}
	return h.a[x] == h.b[y]
}

// splits reports whether there is something on both sides of the point.
func (h *half) splits(x, y int) bool {
	return x <= len(h.a) && 0 <= y && y <= len(h.b) && x+y > 0 && x+y < len(h.a)+len(h.b)
}
