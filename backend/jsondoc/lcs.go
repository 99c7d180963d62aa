package jsondoc

// maxSteps bounds the work of one Diff to match elements. It is a tenth of a second; what
// is not matched then is compared by its place.
const maxSteps = 1 << 26

// A matcher finds a longest common subsequence of two lists of numbers, as E. Myers does
// in "An O(ND) Difference Algorithm and Its Variations" (1986), section 4b, in linear space.
type matcher struct {
	a, b  []int32
	pairs []int // for each of a, where in b it is; -1 in the beginning
	// most is how many elements may be removed or added by one half of the way; when it
	// takes more there is no use in the result, and over says so.
	most  int
	over  bool
	steps *int // that may still be taken

	ahead, back half
}

// match pairs what a[a0:a1] and b[b0:b1] have in common.
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

// split returns a point in the middle of a shortest way from a to b: the ways of what is
// before and of what is behind it together are one. Neither list is empty, and both their
// first and their last numbers differ.
func (m *matcher) split(a, b []int32) (x, y int, ok bool) {
	delta := len(a) - len(b)
	odd := delta%2 != 0
	most := min((len(a)+len(b)+1)/2, m.most)
	ahead, back := m.ahead.of(a, b, most), m.back.of(a, b, most)
	for d := 0; d <= most && *m.steps > 0; d++ {
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

// A half is the ways from one end: how far they go on each diagonal.
type half struct {
	a, b     []int32
	backward bool
	reached  []int
	middle   int // of reached: diagonal 0
}

// of begins anew, for ways with that many removals and additions at most.
func (h *half) of(a, b []int32, most int) *half {
	h.a, h.b, h.middle = a, b, most+1
	if need := 2*h.middle + 1; len(h.reached) < need {
		h.reached = make([]int, need)
	}
	*h.at(1) = 0
	return h
}

func (h *half) at(diagonal int) *int { return &h.reached[h.middle+diagonal] }

// advance goes as far on diagonal k as d removals and additions reach.
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

// same compares, counted from the end that the ways begin at.
func (h *half) same(x, y int) bool {
	if h.backward {
		x, y = len(h.a)-1-x, len(h.b)-1-y
	}
	return h.a[x] == h.b[y]
}

// splits reports whether a point is one that leaves something on both sides.
func (h *half) splits(x, y int) bool {
	return x <= len(h.a) && 0 <= y && y <= len(h.b) && x+y > 0 && x+y < len(h.a)+len(h.b)
}
