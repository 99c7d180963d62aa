package database

import "kvstore/backend/kv"

// Number makes e the next version of the key with that head: it decides version, revision
// and time, and moves the totals on. It returns the head as it is then, to be given to Append
// with the entry. e.Time is now, or when an imported version was made; e.Version is 0, or the
// number of an imported version, and then the history lacks those that it passes over.
func (t *Tx) Number(head Head, e kv.Entry) (Head, kv.Written) {
	totals := &t.Totals
	previous, existed := head.Version, head.ID != 0 && !head.Deleted
	if !existed {
		previous = 0
	}
	totals.Revision++
	totals.Versions++
	next := head.Version + 1
	if e.Version == 0 {
		e.Version = next
	}
	if head.ID == 0 {
		head.ID = totals.Revision
	}
	if head.ID == totals.Revision || e.Version != next {
		head.CompleteFrom = e.Version
	}
	head.Version, head.Revision = e.Version, totals.Revision
	head.TotalVersions++
	head.Time = max(head.Time, e.Time) // the time of the last start may have been ahead
	head.Deleted, head.Expires = e.Operation.Tombstone(), e.Expires
	switch {
	case existed && head.Deleted:
		totals.Keys--
	case !existed && !head.Deleted:
		totals.Keys++
	}
	e.Revision, e.Time = head.Revision, head.Time
	return head, kv.Written{Entry: e, Previous: previous, TotalVersions: head.TotalVersions}
}
