// Package problem writes errors as application/problem+json (RFC 9457). Both programs answer
// every error with it, so an error looks the same whichever hop made it.
package problem

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
)

// ContentType is the media type of every error answer.
const ContentType = "application/problem+json"

// A Problem is one error answer.
type Problem struct { //nolint:errname // the RFC's own term
	// Type is a URI that names the kind of problem; about:blank says that
	// status and code tell all.
	Type string `json:"type" example:"about:blank"`
	// Title is the standard phrase of the status.
	Title string `json:"title" example:"Not Found"`
	// Status repeats the HTTP status.
	Status int `json:"status" example:"404"`
	// Detail says what is wrong, for people. Its wording is kept where clients
	// of the predecessor read it.
	Detail string `json:"detail" example:"Key 'k' not found"`
	// Code is stable and for machines.
	Code string `json:"code" example:"key_not_found"`
	// Members are added to the answer beside the five above.
	Members map[string]any `json:"-"`
} //	@name	Problem

// New returns a problem with the title that belongs to status.
func New(status int, code, detail string) *Problem {
	return &Problem{Type: "about:blank", Title: Phrase(status), Status: status, Detail: detail, Code: code}
}

// Phrase returns the phrase of a status as RFC 9110 has it, "" for an unknown one.
// net/http has some of older RFCs.
func Phrase(status int) string {
	switch status {
	case http.StatusRequestEntityTooLarge:
		return "Content Too Large"
	case http.StatusRequestURITooLong:
		return "URI Too Long"
	case http.StatusRequestedRangeNotSatisfiable:
		return "Range Not Satisfiable"
	case http.StatusUnprocessableEntity:
		return "Unprocessable Content"
	default:
		return http.StatusText(status)
	}
}

// With adds an extension member and returns p.
func (p *Problem) With(name string, value any) *Problem {
	if p.Members == nil {
		p.Members = map[string]any{}
	}
	p.Members[name] = value
	return p
}

func (p *Problem) Error() string { return p.Detail }

// MarshalJSON writes the members after the standard fields, in the order of their names.
func (p *Problem) MarshalJSON() ([]byte, error) {
	type standard Problem
	fields, err := marshal((*standard)(p))
	if err != nil || len(p.Members) == 0 {
		return fields, err
	}
	members, err := marshal(p.Members)
	if err != nil {
		return nil, err
	}
	fields = bytes.TrimSuffix(bytes.TrimSpace(fields), []byte("}"))
	return append(append(fields, ','), bytes.TrimPrefix(members, []byte("{"))...), nil
}

// Encode returns the body of the answer.
func (p *Problem) Encode() []byte {
	body, err := marshal(p)
	if err != nil { // a member that cannot be encoded is a bug
		body, _ = marshal(New(p.Status, p.Code, p.Detail))
	}
	return body
}

// Write answers with p. Headers that the caller has set stay.
func (p *Problem) Write(w http.ResponseWriter) {
	body := p.Encode()
	header := w.Header()
	header.Set("Content-Type", ContentType)
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(p.Status)
	_, _ = w.Write(body) // the client is gone; there is nobody to tell
}

// marshal encodes without escaping <, > and &, which keys may hold.
func marshal(value any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}
