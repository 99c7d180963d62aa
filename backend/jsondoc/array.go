package jsondoc

import (
	"iter"
	"slices"
)

// maxPiece bounds the elements that an insertion moves: a patch may insert a thousand
// elements at the front of half a million.
const maxPiece = 2048

// array holds its elements in pieces of at most maxPiece.
type array struct {
	pieces [][]*node
	length int
}

func newArray(elements []*node) *array {
	a := &array{length: len(elements)}
	for piece := range slices.Chunk(elements, maxPiece/2) {
		a.pieces = append(a.pieces, piece)
	}
	return a
}

// all yields the elements in order.
func (a *array) all(yield func(*node) bool) {
	for _, piece := range a.pieces {
		for _, element := range piece {
			if !yield(element) {
				return
			}
		}
	}
}

func (a *array) elements() []*node {
	return slices.AppendSeq(make([]*node, 0, a.length), iter.Seq[*node](a.all))
}

// find returns the piece that holds element i, and the index in it. The index after the
// last element belongs to the last piece, if there is one.
func (a *array) find(i int) (piece, at int) {
	for piece = range a.pieces {
		if i < len(a.pieces[piece]) || piece == len(a.pieces)-1 {
			return piece, i
		}
		i -= len(a.pieces[piece])
	}
	return 0, 0
}

func (a *array) at(i int) *node {
	piece, at := a.find(i)
	return a.pieces[piece][at]
}

func (a *array) set(i int, value *node) {
	piece, at := a.find(i)
	a.pieces[piece][at] = value
}

func (a *array) insert(i int, value *node) {
	if len(a.pieces) == 0 {
		a.pieces = append(a.pieces, nil)
	}
	p, at := a.find(i)
	piece := slices.Insert(a.pieces[p], at, value)
	a.pieces[p] = piece
	a.length++
	if half := len(piece) / 2; len(piece) > maxPiece {
		a.pieces[p] = piece[:half:half]
		a.pieces = slices.Insert(a.pieces, p+1, piece[half:])
	}
}

func (a *array) remove(i int) {
	p, at := a.find(i)
	a.pieces[p] = slices.Delete(a.pieces[p], at, at+1)
	a.length--
	if len(a.pieces[p]) == 0 {
		a.pieces = slices.Delete(a.pieces, p, p+1)
	}
}
