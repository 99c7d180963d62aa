package settings

import "fmt"

const (
	// EnvelopeBytes is how much larger than the largest value a request body may
	// be: the JSON around the value.
	EnvelopeBytes = 64 << 10
	// batchValues is how many values of the largest size the body of a batch may have, in
	// base64, and batchEnvelopeBytes how much JSON around them: 128 operations with the
	// longest keys need two thirds of that.
	batchValues        = 4
	batchEnvelopeBytes = 1 << 20
)

// A BodyLimit is how large the body of a request may be. It is the same at every hop.
type BodyLimit struct {
	Bytes int64
	batch bool
}

// LimitOfBody is that of every request but a batch.
func LimitOfBody(maxValueBytes int64) BodyLimit {
	return BodyLimit{Bytes: maxValueBytes + EnvelopeBytes}
}

// LimitOfBatch is that of a batch.
func LimitOfBatch(maxValueBytes int64) BodyLimit {
	const group, text = 3, 4 // of base64
	return BodyLimit{batchValues*((maxValueBytes+group-1)/group*text) + batchEnvelopeBytes, true}
}

// Exceeded tells the client of a body that is larger.
func (l BodyLimit) Exceeded() string {
	why := fmt.Sprintf("KV_MAX_VALUE_BYTES plus %d", EnvelopeBytes)
	if l.batch {
		why = fmt.Sprintf("%d times KV_MAX_VALUE_BYTES in base64, plus %d", batchValues, batchEnvelopeBytes)
	}
	return fmt.Sprintf("body: is over the limit of %d bytes (%s)", l.Bytes, why)
}
