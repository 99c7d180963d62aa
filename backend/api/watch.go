package api

import (
	"context"
	"errors"
	"net/http"
	"os"
	"time"

	"github.com/gin-gonic/gin"

	"kvstore/backend/kv"
	"kvstore/backend/store"
	"kvstore/internal/telemetry"
)

const (
	// slowestStream is how many bytes of a stream a client must take in a second, besides
	// the stall timeout.
	slowestStream = 64 << 10
	// probeInterval takes the place of the heartbeat when the client has closed its sending
	// side: only a write tells whether it still reads.
	probeInterval = time.Second
	// endTimeout is how long a client may take what is being sent once the server stops.
	endTimeout = 2 * time.Second
)

// eventData documents the data of an event.
type eventData struct { //nolint:unused // for the annotations
	Key       string       `json:"key" example:"app/db/host"`
	Version   int64        `json:"version" example:"2"`
	Revision  int64        `json:"revision" example:"42"`
	Timestamp kv.Timestamp `json:"timestamp" swaggertype:"number" example:"1764000000.123456"`
	Operation string       `json:"operation" enums:"put,patch,revert,delete,expire,destroy" example:"put"`
	// as in GET /get/{key}; absent when the version is a tombstone, or destroyed
	Value any `json:"value,omitempty" swaggertype:"string" extensions:"x-any" example:"hello world"`
	// for a raw value, which is base64 then
	Encoding    string `json:"encoding,omitempty" enums:"base64"`
	ContentType string `json:"content_type,omitempty" example:"image/png"`
	// when the key ends, unless it is written before
	ExpiresAt *kv.Timestamp `json:"expires_at,omitempty" swaggertype:"number" example:"1764000090.123456"`
	Author    string        `json:"author,omitempty"`
	Destroyed bool          `json:"destroyed,omitempty"`
} //	@name	Event

// watch streams what is written.
//
//	@Summary		Follow what is written
//	@Description	A stream of server-sent events: every write to the keys that begin with `prefix`, in the order of the revisions, none
//	@Description	missed and none twice. `id` is the revision, `event` the operation (put, patch, revert, delete, expire, destroy) and
//	@Description	`data` the write as JSON (model Event). A value comes as it was written; when its text has lines, so has the data.
//	@Description
//	@Description	The stream begins behind the revision that `Last-Event-ID` or else `since` names, or without either with the next
//	@Description	write. So a client that was cut resumes with the last `id` that it saw, as a browser's EventSource does by itself. A
//	@Description	block may have an `id` alone: events of other keys were passed over, and it is the one to resume from. After 15 s
//	@Description	without an event there is a comment with such an `id`.
//	@Description
//	@Description	All that history still has comes. `event: compacted` comes in front of it when history may lack some of what these keys
//	@Description	had behind the revision `requested`, since retention removed versions of them, or a key was erased, whose name is
//	@Description	forgotten: `{"requested":R,"compacted":C,"oldest":C+1}`. From `oldest` on nothing is missing. A client that keeps a copy
//	@Description	of the keys reads them anew when it gets this event, and then ignores events up to the revision of what it read. With
//	@Description	`"reset":true` a backup was restored since the client was at R, so that what it knows may not have happened: it forgets
//	@Description	all of that first, ETags too.
//	@Description	`event: cut` says that this client reads too slowly: `{"resume":R}`; the stream ends, and one since R misses nothing.
//	@Description	With an access token, writes to keys that it may not read are passed over; the stream ends when the token does.
//	@Description	When the server stops, streams end behind a whole event.
//	@ID				watchKeys
//	@Tags			watch
//	@Produce		text/event-stream
//	@Param			prefix			query		string	false	"What the keys begin with: at most 512 bytes of UTF-8 without control characters; empty for all"	example(app/)
//	@Param			since			query		int		false	"The revision behind which the stream begins; 0 is the beginning of the store"						minimum(0)	example(42)
//	@Param			values			query		bool	false	"false leaves the values out"																		default(true)
//	@Param			for				query		string	false	"End the stream after this time, a Go duration from 1ms to 876000h; without, it goes on"			example(2s)
//	@Param			Last-Event-ID	header		int		false	"As since, and wins over it"																		minimum(0)
//	@Success		200				{object}	eventData
//	@Failure		422				{object}	problem.Problem	"since is not a revision, or one that the store has not reached (code invalid_since), the prefix is invalid, for is no time, or values is neither true nor false (code invalid_prefix, invalid_for, invalid_values)"
//	@Failure		429				{object}	problem.Problem	"The address of the client has too many watches (code too_many_watchers)"
//	@Failure		503				{object}	problem.Problem	"There are too many watchers (code too_many_watchers)"
//	@Router			/watch [get]
func (a *API) watch(c *gin.Context, q query) error {
	since, err := sinceOf(c, q)
	if err != nil {
		return err
	}
	ctx, end, err := limited(c.Request.Context(), q)
	if err != nil {
		return err
	}
	defer end()
	prefix, err := q.partOfKey("prefix")
	if err != nil {
		return err
	}
	keys, err := readable(c, prefix)
	if err != nil {
		return err
	}
	values, err := q.boolean("values", true)
	if err != nil {
		return err
	}
	w, err := a.Store.Watch(store.WatchRequest{Keys: keys, Since: since, Values: values})
	if err != nil {
		return err
	}
	defer w.Close()
	header := c.Writer.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no") // nginx would hold events back
	c.Writer.WriteHeader(http.StatusOK)
	if c.Request.Method == http.MethodHead {
		return nil
	}
	c.Writer.WriteHeaderNow()
	s := newStream(c.Writer, a.StallTimeout, values)
	defer s.finish()
	err = a.stream(ctx, s, w)
	switch ctx := c.Request.Context(); { // it is too late for an answer
	case err == nil:
	case errors.Is(err, os.ErrDeadlineExceeded):
		a.Logger.WarnContext(ctx, "a watcher reads nothing and is disconnected", "remote", c.Request.RemoteAddr)
	case ctx.Err() == nil: // with an error of the connection the context ends
		a.Logger.ErrorContext(ctx, "a watch has failed", "error", err)
	}
	return nil
}

// sinceOf returns the revision after which a stream begins. The header wins: a client that
// resumes repeats the query of its first request.
func sinceOf(c *gin.Context, q query) (int64, error) {
	name, text := "Last-Event-ID", c.GetHeader("Last-Event-ID")
	if text == "" {
		if !q.Has("since") {
			return store.Now, nil
		}
		name, text = "since", q.Text("since")
	}
	revision, ok := parseRevision(text)
	if !ok {
		return 0, invalid("since", revisionRule+" (given as "+name+")")
	}
	return revision, nil
}

// limited returns a context that ends after the time that the parameter for names.
func limited(ctx context.Context, q query) (context.Context, context.CancelFunc, error) {
	if !q.Has("for") {
		return ctx, func() {}, nil
	}
	length, ok := parseTTL(q.Text("for"))
	if !ok {
		return nil, nil, invalid("for", ttlRule)
	}
	ctx, cancel := context.WithTimeout(ctx, length)
	return ctx, cancel, nil
}

// stream sends what w delivers until ctx or the watch ends.
func (a *API) stream(ctx context.Context, s *stream, w *store.Watch) error {
	defer w.OnEnd(s.hurry)()
	w.OnSlow(s.abandon)
	if err := s.send(func(c *chunk) error { return c.start(w.Position()) }); err != nil {
		return err
	}
	half, release := telemetry.HalfClosed(ctx)
	defer release()
	waiting, idle := half, a.Heartbeat
	for {
		position := w.Position()
		delivery, err := w.Next(waiting, idle)
		switch {
		case err != nil && half.Err() != nil && waiting == half && ctx.Err() == nil:
			waiting, idle = ctx, min(a.Heartbeat, probeInterval)
			continue
		case errors.Is(err, kv.ErrSlowWatcher):
			return s.send(func(c *chunk) error { return c.cut(w.Position()) })
		case errors.Is(err, kv.ErrWatchEnded), ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		err = s.send(func(c *chunk) error {
			if delivery.Compacted > 0 {
				c.compacted(position, delivery)
				if len(delivery.Entries) == 0 {
					c.id(delivery.Position)
					return nil
				}
			}
			return c.events(delivery)
		})
		if err != nil {
			return err
		}
	}
}
