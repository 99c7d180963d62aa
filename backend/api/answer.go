package api

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"kvstore/backend/kv"
	"kvstore/backend/store"
)

// putAnswer is the answer to a write.
type putAnswer struct {
	Operation       string       `json:"operation" enums:"create,update,patch,delete,revert" example:"update"`
	Key             string       `json:"key" example:"app/db/host"`
	Version         int64        `json:"version" example:"2"`
	NewVersion      *int64       `json:"new_version" extensions:"x-nullable" example:"2"`
	PreviousVersion *int64       `json:"previous_version" extensions:"x-nullable" example:"1"`
	TotalVersions   int64        `json:"total_versions" example:"2"`
	Timestamp       kv.Timestamp `json:"timestamp" swaggertype:"number" example:"1764000000.123456"`
	Revision        int64        `json:"revision" example:"42"`
} //	@name	PutAnswer

func newPutAnswer(w kv.Written) putAnswer {
	answer := putAnswer{
		Operation:     "create",
		Key:           w.Entry.Key,
		Version:       w.Entry.Version,
		TotalVersions: w.TotalVersions,
		Timestamp:     w.Entry.Time,
		Revision:      w.Entry.Revision,
	}
	if !w.Created() {
		answer.Operation = "update"
		answer.NewVersion, answer.PreviousVersion = &w.Entry.Version, &w.Previous
	}
	if w.Entry.Operation != kv.OpPut {
		answer.Operation = string(w.Entry.Operation)
	}
	return answer
}

// putRequest is the body of a write.
type putRequest struct { //nolint:unused // for the annotations
	// any JSON value, null included
	Value any `json:"value" binding:"required" swaggertype:"string" extensions:"x-any" example:"hello world"`
} //	@name	PutRequest

// entryAnswer documents what writeEntry writes.
type entryAnswer struct { //nolint:unused // for the annotations
	Key string `json:"key" example:"app/db/host"`
	// the JSON value, as it was written
	Value     any          `json:"value" swaggertype:"string" extensions:"x-any" example:"hello world"`
	Version   int64        `json:"version" example:"2"`
	Timestamp kv.Timestamp `json:"timestamp" swaggertype:"number" example:"1764000000.123456"`
	Revision  int64        `json:"revision" example:"42"`
	Source    string       `json:"source" enums:"cache,database" example:"cache"`
} //	@name	Entry

// writeEntry answers 200 with an entry. It writes the JSON by hand, since an encoder
// would rewrite the value, which must come back as it went in.
func writeEntry(c *gin.Context, e kv.Entry, source store.Source) error {
	b := make([]byte, 0, len(e.Value)+2*len(e.Key)+160)
	b = append(b, `{"key":`...)
	b = appendString(b, e.Key)
	b = append(b, `,"value":`...)
	b = append(b, e.Value...)
	b = append(b, `,"version":`...)
	b = strconv.AppendInt(b, e.Version, 10)
	b = append(b, `,"timestamp":`...)
	b = e.Time.AppendJSON(b)
	b = append(b, `,"revision":`...)
	b = strconv.AppendInt(b, e.Revision, 10)
	b = append(b, `,"source":"`...)
	b = append(b, source...)
	b = append(b, "\"}\n"...)
	writeBody(c, b)
	return nil
}

// appendString appends s, a key, as a JSON string. A key is UTF-8 without control
// characters, so only two characters need an escape.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}

// writeJSON answers 200 with value, without escaping <, > and &, which keys may hold.
func writeJSON(c *gin.Context, value any) error {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return err
	}
	writeBody(c, body.Bytes())
	return nil
}

func writeBody(c *gin.Context, body []byte) { writeBodyAs(c, "application/json", body) }

func writeBodyAs(c *gin.Context, contentType string, body []byte) {
	header := c.Writer.Header()
	header["Content-Type"] = []string{contentType}
	header["Cache-Control"] = []string{"no-cache"} // a cache on the way must ask again
	header["Content-Length"] = []string{strconv.Itoa(len(body))}
	c.Writer.WriteHeader(http.StatusOK)
	_, _ = c.Writer.Write(body) // the client is gone; there is nobody to tell
}
