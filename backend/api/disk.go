package api

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"kvstore/backend/kv"
)

const (
	// slowCommit is how long a transaction may take before the disk is called slow.
	slowCommit = 5 * time.Second
	// damageTold is for how long /health tells that something could not be read.
	damageTold = time.Minute
)

// damage remembers when something could not be read last, in Unix nanoseconds.
type damage struct{ last atomic.Int64 }

func (d *damage) note(err error) {
	if errors.Is(err, kv.ErrCorrupt) {
		d.last.Store(time.Now().UnixNano())
	}
}

// diskHealth is what is known of the disk of a database that answers. It has failed when
// no write is made. A disk that is full or slow, or has lost a part, is no reason to send
// nobody here.
func (a *API) diskHealth() part {
	database := part{Status: "ok"}
	switch took := a.store.Committing(); {
	case a.store.DiskFailing():
		database.Status = "failed"
		database.Detail = "The disk reports errors: writes fail until it works again; what can be read is served"
	case a.store.DiskFull():
		database.Detail = "The disk is full: writes are refused until there is room; reads work"
	case took >= slowCommit:
		database.Detail = fmt.Sprintf("The disk is slow: writes have waited for it for %d s; reads work", int(took.Seconds()))
	case time.Since(time.Unix(0, a.damage.last.Load())) < damageTold:
		database.Detail = "In the last minute something could not be read: the database is damaged, or its disk does not give it back"
	}
	return database
}
