package store

import "time"

const (
	// heldBytes bounds what all watches have of deliveries that neither the log nor the
	// pages have any more.
	heldBytes = 64 << 20
	// shedInterval is how often that is looked after, at most.
	shedInterval = 100 * time.Millisecond
)

// A holding is the delivery that a watch has, from Next to the next Next.
type holding struct {
	bytes int64 // of the events of the log
	page  *page // of history, or nil
}

// hold counts the delivery that a watch has got: a page of history, or nil, and events of
// the log behind it. If all watches have more than they may, it
// lets go those that have had theirs the longest: they are behind the log, or stand still.
func (w *watchers) hold(watch *Watch, of *page, events []*Event) {
	held := holding{page: of}
	for _, e := range events {
		held.bytes += 2*e.Size() + entryBytes + textBytes
	}
	w.log.mu.Lock()
	watch.held, watch.place = held, w.holders.PushBack(watch)
	w.held += held.size()
	var slow []*Watch
	if now := time.Now(); w.held > heldBytes && now.Sub(w.shed) >= shedInterval {
		w.shed = now
		slow = w.shedLocked()
	}
	w.log.mu.Unlock()
	for _, s := range slow {
		if s.slow != nil {
			s.slow()
		}
	}
}

func (h holding) size() int64 {
	if h.page == nil {
		return h.bytes
	}
	return h.bytes + h.page.bytes
}

// releaseLocked ends what hold began.
func (w *watchers) releaseLocked(watch *Watch) {
	if watch.place == nil {
		return
	}
	w.holders.Remove(watch.place)
	w.held -= watch.held.size()
	watch.held, watch.place = holding{}, nil
}

// shedLocked lets go watches, and returns them. What the log or the pages have takes no
// memory of a watch, and a page takes it once.
func (w *watchers) shedLocked() (slow []*Watch) {
	var kept int64
	pages := map[*page]bool{}
	for at := w.holders.Back(); at != nil; {
		watch := at.Value.(*Watch)
		at = at.Prev()
		bytes, of := watch.held.bytes, watch.held.page
		switch {
		case of == nil && watch.position >= w.log.first, of != nil && (pages[of] || !of.dropped.Load()):
			continue
		case of != nil:
			bytes += of.bytes
		}
		if kept+bytes <= heldBytes {
			kept += bytes
			if of != nil {
				pages[of] = true
			}
			continue
		}
		w.releaseLocked(watch)
		w.unsubscribeLocked(watch)
		watch.shed = true
		w.cut.Add(1)
		slow = append(slow, watch)
	}
	return slow
}
