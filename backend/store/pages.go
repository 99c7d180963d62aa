package store

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"

	"kvstore/backend/database"
)

const (
	// pagesAtOnce bounds the reads of history for watches, which leaves connections and
	// processors for other reads.
	pagesAtOnce = 2
	// pagesBytes bounds the pages that are kept for other watches, with their texts.
	pagesBytes = 16 << 20
	// entryBytes is about what an entry takes besides its strings.
	entryBytes = 200
)

// pages reads history for watches. Watches of the same keys at the same revision share a
// read: after a restart of the store all of its watchers come back at once.
type pages struct {
	db    *database.DB
	pacer *pacer
	slots chan struct{}

	reading sync.WaitGroup

	mu    sync.Mutex // guards all below
	all   map[pageKey]*page
	order []pageKey // of those that were read, the oldest first
	bytes int64
	texts atomic.Int64 // bytes of the texts
}

type pageKey struct {
	keys         string
	after, known int64
	values       bool
}

// A page is a part of the history.
type page struct {
	done   chan struct{} // closed when the rest is there
	bytes  int64
	events []*Event
	database.Page
	err     error
	dropped atomic.Bool // it is not kept for other watches any more
}

func newPages(db *database.DB) *pages {
	return &pages{db: db, pacer: &pacer{}, slots: make(chan struct{}, pagesAtOnce), all: map[pageKey]*page{}}
}

// get is database.DB.Events, which may end before r.Last. Watches share the events.
func (p *pages) get(ctx context.Context, r database.EventsRequest) (*page, error) {
	key := pageKey{strings.Join(r.Keys, "\x00"), r.After, r.Known, r.Values} // no prefix has that character
	p.mu.Lock()
	found, known := p.all[key]
	if !known {
		found = &page{done: make(chan struct{})}
		p.all[key] = found
		p.reading.Go(func() { p.read(context.WithoutCancel(ctx), key, found, r) })
	}
	p.mu.Unlock()
	select {
	case <-found.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	sleep(ctx, p.pacer.begin(1, int64(len(found.events))))
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return found, found.err
}

// read fills a page and keeps it, unless it failed or forget was called meanwhile. It is
// bounded and goes on when the watch that asked for it has gone.
func (p *pages) read(ctx context.Context, key pageKey, to *page, r database.EventsRequest) {
	p.slots <- struct{}{}
	to.Page, to.err = p.db.Events(ctx, r)
	<-p.slots
	to.events = make([]*Event, len(to.Entries))
	for i, entry := range to.Entries {
		to.events[i] = &Event{Entry: *entry, counted: &p.texts}
		to.bytes += entry.Size() + entryBytes
	}
	to.Entries = nil
	p.mu.Lock()
	defer p.mu.Unlock()
	close(to.done)
	if p.all[key] != to {
		to.drop()
		return
	}
	if to.err != nil {
		delete(p.all, key)
		return
	}
	p.order = append(p.order, key)
	p.bytes += to.bytes
	for len(p.order) > 0 && p.bytes+p.texts.Load() > pagesBytes {
		oldest := p.all[p.order[0]]
		p.bytes -= oldest.bytes
		oldest.drop()
		delete(p.all, p.order[0])
		p.order = p.order[1:]
	}
}

// drop ends the counting of the page's texts.
func (p *page) drop() {
	p.dropped.Store(true)
	for _, e := range p.events {
		e.drop()
	}
}

// close waits for the reads that have begun.
func (p *pages) close() { p.reading.Wait() }

// forget drops all pages, because something in them was erased.
func (p *pages) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, key := range p.order {
		p.all[key].drop()
	}
	p.all, p.order, p.bytes = map[pageKey]*page{}, nil, 0
}
