package telemetry

import (
	"context"
	"encoding/binary"
	"math/rand/v2"

	"github.com/google/uuid"
)

// These are for a server that is not one of net/http; the others use Requests.

// RequestIDOr returns the id that a caller gave when it is sane, else a new one.
func RequestIDOr(given []byte) string {
	if id := string(given); saneRequestID(id) {
		return id
	}
	// An id must be unique, not secret. The kernel's random numbers cost a system
	// call for each request.
	var id uuid.UUID
	binary.NativeEndian.PutUint64(id[:8], rand.Uint64()) //nolint:gosec // as above
	binary.NativeEndian.PutUint64(id[8:], rand.Uint64()) //nolint:gosec // as above
	id[6] = id[6]&0x0F | 0x40                            // version 4
	id[8] = id[8]&0x3F | 0x80                            // of RFC 9562
	return id.String()
}

// WithRequestID returns a context whose log lines carry id.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}
